// SPDX-License-Identifier: Apache-2.0
// A whole file as read-only bytes: mapped where the system can (so that opening a model of any size
// takes no time and no memory), read into memory elsewhere.
#pragma once

#include <rwkv/core/error.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#if __has_include(<sys/mman.h>) && __has_include(<unistd.h>)
#define RWKV_IO_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define RWKV_IO_HAS_MMAP 0
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// The bytes of a regular file, valid as long as this object lives. Shareable between threads.
/// The file must not be truncated in place meanwhile (replacing it by rename is fine, and is what
/// this library's writers do).
class MappedFile {
 public:
  /// Throws `Error` (io) when the path is missing, unreadable or no regular file, and (format) when
  /// the file is empty.
  explicit MappedFile(const std::filesystem::path& path) {
    const std::string name = path.string();
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status))
      refuse(name, error ? error.message() : std::generic_category().message(ENOENT));
    if (std::filesystem::is_directory(status)) refuse(name, "it is a directory");
    if (!std::filesystem::is_regular_file(status)) refuse(name, "it is not a regular file");
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (!error && size > PTRDIFF_MAX)
      refuse(name, std::to_string(size) + " bytes do not fit the address space of this program");
    if (!map(name)) read(name);
    if (bytes_.empty()) fail_with(ErrorCategory::format, name, ": is empty");
  }

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ~MappedFile() {
#if RWKV_IO_HAS_MMAP
    if (mapped()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
#endif
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

  /// Says that `range` will not be read again soon, so that its pages stop counting as this
  /// process's memory. They stay readable. Ranges outside this file are ignored.
  void release(std::span<const std::byte> range) const noexcept {
#if RWKV_IO_HAS_MMAP
    const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
    const auto file = reinterpret_cast<std::uintptr_t>(bytes_.data());
    if (!mapped() || begin < file || begin - file > bytes_.size() ||
        range.size() > bytes_.size() - (begin - file))
      return;
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t first = begin / page * page;
    ::madvise(reinterpret_cast<void*>(first), begin + range.size() - first, MADV_DONTNEED);
#else
    (void)range;
#endif
  }

 private:
  [[noreturn]] static void refuse(const std::string& name, const std::string& why) {
    fail_with(ErrorCategory::io, name, ": cannot open this file: ", why);
  }

  [[nodiscard]] bool mapped() const noexcept { return !bytes_.empty() && buffer_.empty(); }

  // False where mapping is not possible (some file systems cannot), so that reading is tried.
  bool map(const std::string& name) {
#if RWKV_IO_HAS_MMAP
    const int fd = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) refuse(name, std::generic_category().message(errno));
    struct stat info {};
    void* address = MAP_FAILED;
    if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 &&
        static_cast<std::uintmax_t>(info.st_size) <= (std::numeric_limits<std::size_t>::max)())
      address =
          ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    ::close(fd);
    if (address == MAP_FAILED) return false;
    bytes_ = {static_cast<const std::byte*>(address), static_cast<std::size_t>(info.st_size)};
    return true;
#else
    (void)name;
    return false;
#endif
  }

  void read(const std::string& name) {
    struct Close {
      void operator()(std::FILE* file) const { std::fclose(file); }
    };
    const std::unique_ptr<std::FILE, Close> file(std::fopen(name.c_str(), "rb"));
    if (!file) refuse(name, std::generic_category().message(errno));
    constexpr std::size_t step = std::size_t{1} << 20;
    std::size_t done = 0;
    for (;;) {
      buffer_.resize(done + step);
      const std::size_t got = std::fread(buffer_.data() + done, 1, step, file.get());
      done += got;
      if (got < step) break;
    }
    if (std::ferror(file.get()) != 0) fail_with(ErrorCategory::io, name, ": cannot read this file");
    buffer_.resize(done);
    bytes_ = buffer_;
  }

  std::vector<std::byte> buffer_;  // empty when mapped
  std::span<const std::byte> bytes_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
