// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files: float32 matrices in C order, written row after row.
#pragma once

#include <rwkv/io/atomic_file.hpp>

#include <span>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Writes a float32 matrix [rows, cols] piece by piece, as a whole or not at all. Throws `Error`
/// (io) when the file cannot be written, (argument) when the number of values is not rows x cols.
///
///   rwkv::io::NpyWriter out("logits.npy", positions, vocab);
///   for (const std::vector<float>& row : rows) out.append(row);
///   out.commit();
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, std::size_t rows, std::size_t cols)
      : file_(path), name_(path.string()), expected_(rows * cols) {
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                         std::to_string(rows) + ", " + std::to_string(cols) + "), }";
    constexpr std::size_t preamble = 10;  // magic, version, header length
    const std::size_t total =
        (preamble + header.size() + 1 + alignment - 1) / alignment * alignment;
    header.resize(total - preamble - 1, ' ');
    header += '\n';
    std::string head("\x93NUMPY\x01\x00", 8);
    head += static_cast<char>(header.size() & 0xff);
    head += static_cast<char>(header.size() >> 8);
    head += header;
    file_.write(std::as_bytes(std::span(head)));
  }

  /// Appends values; any number of them, rows need not be whole.
  void append(std::span<const float> values) {
    if (values.size() > expected_ - written_)
      fail_with(ErrorCategory::argument, name_, ": ", written_ + values.size(),
                " values for a matrix of ", expected_);
    file_.write(std::as_bytes(values));
    written_ += values.size();
  }

  /// Makes the complete file visible.
  void commit() {
    if (written_ != expected_)
      fail_with(ErrorCategory::argument, name_, ": ", written_, " values for a matrix of ",
                expected_);
    file_.commit();
  }

 private:
  AtomicFile file_;
  std::string name_;
  std::size_t expected_;
  std::size_t written_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
