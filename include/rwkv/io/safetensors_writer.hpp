// SPDX-License-Identifier: Apache-2.0
// Writes safetensors files: the same tensors give the same bytes, and a file appears as a whole or
// not at all.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/tensor_entry.hpp>

#if !defined(RWKV_NO_FILES)
#include <rwkv/io/atomic_file.hpp>
#endif

#include <string>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// A tensor to be written: `bytes` holds its elements in C order.
struct NamedTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;
};

/// A `NamedTensor` that views `values`.
template <class T>
[[nodiscard]] NamedTensor named_tensor(std::string name, std::vector<std::size_t> shape,
                                       std::span<const T> values) {
  return {std::move(name), dtype_of<T>, std::move(shape), std::as_bytes(values)};
}

namespace detail {

/// What a safetensors file consists of: the length field and header, then tensors in this order.
struct SafetensorsPlan {
  std::string head;
  std::vector<std::size_t> order;
};

/// Throws as `serialize_safetensors`.
[[nodiscard]] RWKV_FUNCTION SafetensorsPlan plan_safetensors(std::span<const TensorEntry> tensors,
                                                             const Metadata& metadata);

}  // namespace detail

/// The safetensors file that holds `tensors` and `metadata`. The same input, in any order, gives
/// the same bytes; data starts on a 64-byte boundary, and so does every tensor whose length is a
/// multiple of 64. Throws `Error` (argument) for a name used twice, text that is not UTF-8, or
/// bytes that do not match a shape.
[[nodiscard]] RWKV_FUNCTION std::vector<std::byte> serialize_safetensors(
    std::span<const NamedTensor> tensors, const Metadata& metadata = {});

#if !defined(RWKV_NO_FILES)
/// Writes the bytes of `serialize_safetensors` to `path`, as a whole or not at all. Throws `Error`
/// (io) when the file cannot be written; an earlier file of that name is then unchanged.
RWKV_FUNCTION void write_safetensors(const std::filesystem::path& path,
                                     std::span<const NamedTensor> tensors,
                                     const Metadata& metadata = {});

/// Writes a safetensors file, as a whole or not at all, with no more than what it is given in
/// memory. The file is the one that `write_safetensors` writes.
///
///   rwkv::io::SafetensorsWriter out("model.safetensors", metadata, entries);
///   for (const std::size_t i : out.order()) out.append(of_tensors[i]);
///   out.commit();
class SafetensorsWriter {
 public:
  /// Begins the file. Throws `Error` as `write_safetensors`.
  SafetensorsWriter(const std::filesystem::path& path, const Metadata& metadata,
                    std::span<const TensorEntry> tensors);

  /// The tensors in the order in which their data is expected, as indices into the list.
  [[nodiscard]] std::span<const std::size_t> order() const noexcept { return plan_.order; }

  /// Data of the tensors, C order, in pieces of any size.
  void append(std::span<const std::byte> bytes);

  /// The file so far, complete once all data is there, under a temporary name. Throws `Error` (io)
  /// if the file cannot be written, or is none that could be read: a pipe.
  [[nodiscard]] std::filesystem::path readable() { return file_.readable(); }

  /// Replaces a metadata value by another one of the same length; both consist of characters that
  /// JSON does not escape.
  void replace(std::string_view key, std::string_view value);

  /// Makes the complete file visible under its name. Throws `Error` (argument) if data is missing.
  void commit();

 private:
  detail::SafetensorsPlan plan_;
  AtomicFile file_;
  std::string source_;
  std::size_t missing_ = 0;
};
#endif

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/safetensors_writer.ipp>
#endif
