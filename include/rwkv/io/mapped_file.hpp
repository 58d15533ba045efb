// SPDX-License-Identifier: Apache-2.0
// A whole file as read-only bytes: mapped where the system can (so that opening a model of any size
// takes no time and no memory), read into memory elsewhere, or on request.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/io/file_access.hpp>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// The bytes of a regular file, valid as long as this object lives. Shareable between threads.
/// A mapped file must not be truncated in place meanwhile (replacing it by rename is fine, and is
/// what this library's writers do): the system kills who reads what is no longer there. See
/// `check`.
class MappedFile {
 public:
  /// Throws `Error` (io) when the path is missing, unreadable or no regular file, or when it
  /// changes its size while it is read, (memory) when there is none for a file that is read, and
  /// (format) when the file is empty.
  explicit MappedFile(const std::filesystem::path& path, FileAccess access = FileAccess::map);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool mapped() const noexcept { return !bytes_.empty() && buffer_ == nullptr; }

  /// Throws `Error` (io) if the file is mapped and has become shorter: its end can then not be
  /// read. A system call.
  void check() const;

  /// Says that `range` will not be read again soon, so that its pages stop counting as this
  /// process's memory. They stay readable. Ranges outside this file are ignored.
  void release(std::span<const std::byte> range) const noexcept;

 private:
  [[noreturn]] static void refuse(const std::string& name, const std::string& why);

  // False where mapping is not possible (some file systems cannot), so that reading is tried.
  bool map();

  // `size`: of the file; 0 if nobody knows (some file systems say so of every file).
  void read(std::size_t size);

  std::string name_;
  [[maybe_unused]] int file_ = -1;       // when mapped
  std::unique_ptr<std::byte[]> buffer_;  // null when mapped
  std::span<const std::byte> bytes_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/mapped_file.ipp>
#endif
