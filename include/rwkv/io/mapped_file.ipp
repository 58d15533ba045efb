// SPDX-License-Identifier: Apache-2.0
// The definitions of io/mapped_file.hpp.
#pragma once

#include <rwkv/io/mapped_file.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <new>
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

RWKV_FUNCTION MappedFile::MappedFile(const std::filesystem::path& path, FileAccess access)
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

RWKV_FUNCTION MappedFile::~MappedFile() {
#if RWKV_IO_HAS_MMAP
  if (mapped()) {
    ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    ::close(file_);
  }
#endif
}

RWKV_FUNCTION void MappedFile::check() const {
#if RWKV_IO_HAS_MMAP
  struct stat info {};
  if (mapped() && ::fstat(file_, &info) == 0 &&
      static_cast<std::uintmax_t>(info.st_size) < bytes_.size())
    fail_with(ErrorCategory::io, name_, ": this file has been cut to ", info.st_size,
              " bytes while it was in use; it had ", bytes_.size());
#endif
}

RWKV_FUNCTION void MappedFile::release(std::span<const std::byte> range) const noexcept {
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

RWKV_FUNCTION void MappedFile::refuse(const std::string& name, const std::string& why) {
  fail_with(ErrorCategory::io, name, ": cannot open this file: ", why);
}

RWKV_FUNCTION bool MappedFile::map() {
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

RWKV_FUNCTION void MappedFile::read(std::size_t size) {
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
  if (std::ferror(file.get()) != 0) fail_with(ErrorCategory::io, name_, ": cannot read this file");
  if (size != 0 && (done != size || std::fgetc(file.get()) != EOF))
    fail_with(ErrorCategory::io, name_, ": this file of ", size,
              " bytes has changed its size while it was read");
  bytes_ = {buffer_.get(), done};
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
