// SPDX-License-Identifier: Apache-2.0
// Files that are either completely written or not there at all: bytes go to a temporary file beside
// the target, and commit() renames it. A crash, a full disk or an exception leaves an earlier file
// as it was; where the system has files without a name (Linux, most file systems), a program that
// is killed leaves nothing else behind either.
//
//   rwkv::io::AtomicFile file("model.safetensors");
//   file.write(header);
//   file.write(data);
//   file.commit();
#pragma once

#include <rwkv/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Writes a file as a whole or not at all. A symbolic link is followed: the file it points to is
/// replaced. A target that is not a regular file (a pipe, /dev/stdout) is written directly. All
/// failures throw `Error` (io) naming the path and the system's reason. Use from one thread.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Discards everything unless commit() has succeeded.
  ~AtomicFile() { discard(); }

  /// Appends `bytes`.
  void write(std::span<const std::byte> bytes);

  /// Replaces bytes that were written before, at `offset`.
  void overwrite(std::uint64_t offset, std::span<const std::byte> bytes);

  /// The name under which what was written so far can be read until commit(). Throws `Error` (io)
  /// if the target is written directly.
  [[nodiscard]] std::filesystem::path readable();

  /// Makes the file visible under its name; nothing can be written afterwards.
  void commit();

 private:
  [[nodiscard]] bool seek(std::uint64_t offset) noexcept;

  static std::string reason(int error);

  [[noreturn]] void refuse(const char* verb, const std::string& why) const;

  [[noreturn]] void refuse_and_discard(const char* verb, int error);

  void discard() noexcept;

  // By hand, because the last link may point to a file that does not exist yet.
  std::filesystem::path follow_links(std::filesystem::path path) const;

  // The same directory, so that the rename cannot cross file systems; a short name of its own, so
  // that the longest legal target name works; exclusive creation, so that no two writers share it.
  void open_temporary();

  [[nodiscard]] std::filesystem::path some_name();

  // A file that goes away with the program. Its name among the open ones is as good as another.
  [[nodiscard]] bool open_nameless();

  void give_name();

  // The rename itself survives a power failure only once the directory is on the disk.
  static void persist([[maybe_unused]] const std::filesystem::path& folder) noexcept;

  std::filesystem::path path_;       // as given, for messages
  std::filesystem::path target_;     // what is replaced
  std::filesystem::path temporary_;  // empty when writing directly, and after the rename
  std::FILE* file_ = nullptr;
  std::uint64_t written_ = 0;
  std::uint64_t number_ = 0;  // of the next temporary name
  bool nameless_ = false;     // temporary_ is a name of this program alone
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/atomic_file.ipp>
#endif
