// SPDX-License-Identifier: Apache-2.0
// A whole file as read-only bytes: mapped where the system can (so that opening a model of any size
// takes no time and no memory), read into memory elsewhere, or on request.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/io/file_access.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <system_error>

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
/// A mapped file must not be truncated in place meanwhile (replacing it by rename is fine, and is
/// what this library's writers do): the system kills who reads what is no longer there. See
/// `check`.
class MappedFile {
 public:
  /// Throws `Error` (io) when the path is missing, unreadable or no regular file, or when it
  /// changes its size while it is read, (memory) when there is none for a file that is read, and
  /// (format) when the file is empty.
  explicit MappedFile(const std::filesystem::path& path, FileAccess access = FileAccess::map)
      : name_(path.string()) {
    const std::string& name = name_;
    if (name.empty()) fail(ErrorCategory::io, "a file with an empty name cannot be opened");
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status))
      refuse(name, error ? error.message() : std::generic_category().message(ENOENT));
    if (std::filesystem::is_directory(status)) refuse(name, "it is a directory");
    if (!std::filesystem::is_regular_file(status)) refuse(name, "it is not a regular file");
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (!error && size > PTRDIFF_MAX)
      refuse(name, std::to_string(size) + " bytes do not fit the address space of this program");
    if (access == FileAccess::read || !map()) read(error ? 0 : static_cast<std::size_t>(size));
    if (bytes_.empty()) fail_with(ErrorCategory::format, name, ": is empty");
  }

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ~MappedFile() {
#if RWKV_IO_HAS_MMAP
    if (mapped()) {
      ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
      ::close(file_);
    }
#endif
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool mapped() const noexcept { return !bytes_.empty() && buffer_ == nullptr; }

  /// Throws `Error` (io) if the file is mapped and has become shorter: its end can then not be
  /// read. A system call.
  void check() const {
#if RWKV_IO_HAS_MMAP
    struct stat info {};
    if (mapped() && ::fstat(file_, &info) == 0 &&
        static_cast<std::uintmax_t>(info.st_size) < bytes_.size())
      fail_with(ErrorCategory::io, name_, ": this file has been cut to ", info.st_size,
                " bytes while it was in use; it had ", bytes_.size());
#endif
  }

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

  // False where mapping is not possible (some file systems cannot), so that reading is tried.
  bool map() {
#if RWKV_IO_HAS_MMAP
    const int fd = ::open(name_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) refuse(name_, std::generic_category().message(errno));
    struct stat info {};
    void* address = MAP_FAILED;
    if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 &&
        static_cast<std::uintmax_t>(info.st_size) <= (std::numeric_limits<std::size_t>::max)())
      address =
          ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) {
      ::close(fd);
      return false;
    }
    file_ = fd;
    bytes_ = {static_cast<const std::byte*>(address), static_cast<std::size_t>(info.st_size)};
    return true;
#else
    return false;
#endif
  }

  // `size`: of the file; 0 if nobody knows (some file systems say so of every file).
  void read(std::size_t size) {
    struct Close {
      void operator()(std::FILE* file) const { std::fclose(file); }
    };
    const std::unique_ptr<std::FILE, Close> file(std::fopen(name_.c_str(), "rb"));
    if (!file) refuse(name_, std::generic_category().message(errno));
    constexpr std::size_t step = std::size_t{1} << 20;
    std::size_t room = 0;
    std::size_t done = 0;
    do {
      room = size == 0 ? done + step : size;
      std::unique_ptr<std::byte[]> larger(new (std::nothrow) std::byte[room]);
      if (larger == nullptr)
        fail_with(ErrorCategory::memory, name_, ": no memory for ", room, " bytes of this file");
      std::copy_n(buffer_.get(), done, larger.get());
      buffer_ = std::move(larger);
      while (done < room) {
        const std::size_t got =
            std::fread(buffer_.get() + done, 1, (std::min)(room - done, step), file.get());
        done += got;
        if (got == 0) break;
      }
    } while (size == 0 && done == room);
    if (std::ferror(file.get()) != 0)
      fail_with(ErrorCategory::io, name_, ": cannot read this file");
    if (size != 0 && (done != size || std::fgetc(file.get()) != EOF))
      fail_with(ErrorCategory::io, name_, ": this file of ", size,
                " bytes has changed its size while it was read");
    bytes_ = {buffer_.get(), done};
  }

  std::string name_;
#if RWKV_IO_HAS_MMAP
  int file_ = -1;  // when mapped
#endif
  std::unique_ptr<std::byte[]> buffer_;  // null when mapped
  std::span<const std::byte> bytes_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
