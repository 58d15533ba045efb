// SPDX-License-Identifier: Apache-2.0
// The definitions of io/atomic_file.hpp.
#pragma once

#include <rwkv/io/atomic_file.hpp>

#include <cerrno>
#include <chrono>
#include <system_error>

#if !defined(_WIN32) && __has_include(<unistd.h>)
#define RWKV_IO_HAS_FSYNC 1
#include <fcntl.h>
#include <unistd.h>
#else
#define RWKV_IO_HAS_FSYNC 0
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

RWKV_FUNCTION AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path) {
  if (path_.empty()) fail(ErrorCategory::io, "a file with an empty name cannot be written");
  std::error_code status_error;
  const auto status = std::filesystem::status(path_, status_error);
  if (std::filesystem::is_directory(status)) refuse("open", "is a directory");
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    file_ = std::fopen(path_.string().c_str(), "wb");
    if (file_ == nullptr) refuse("open", reason(errno));
    return;
  }
  target_ = follow_links(path_);
  open_temporary();
  if (std::filesystem::exists(status)) {
    std::error_code ignored;  // a file system without permissions is no reason to fail
    std::filesystem::permissions(temporary_, status.permissions(), ignored);
  }
}

RWKV_FUNCTION void AtomicFile::write(std::span<const std::byte> bytes) {
  RWKV_ASSERT(file_ != nullptr);
  const std::size_t done = bytes.empty() ? 0 : std::fwrite(bytes.data(), 1, bytes.size(), file_);
  written_ += done;
  if (done != bytes.size()) refuse_and_discard("write", errno);
}

RWKV_FUNCTION void AtomicFile::overwrite(std::uint64_t offset, std::span<const std::byte> bytes) {
  RWKV_ASSERT(file_ != nullptr && offset <= written_ && bytes.size() <= written_ - offset);
  if (!seek(offset) || std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size() ||
      !seek(written_))
    refuse_and_discard("rewrite", errno);
}

RWKV_FUNCTION std::filesystem::path AtomicFile::readable() {
  RWKV_ASSERT(file_ != nullptr);
  if (temporary_.empty()) refuse("read back", "is not a regular file");
  if (std::fflush(file_) != 0) refuse_and_discard("write", errno);
  return temporary_;
}

RWKV_FUNCTION void AtomicFile::commit() {
  RWKV_ASSERT(file_ != nullptr);
  const std::filesystem::path folder = target_.parent_path();  // behind the rename nothing throws
  if (std::fflush(file_) != 0) refuse_and_discard("write", errno);
#if RWKV_IO_HAS_FSYNC
  if (!temporary_.empty() && ::fsync(::fileno(file_)) != 0) refuse_and_discard("write", errno);
#endif
  if (nameless_) give_name();
  std::FILE* file = file_;
  file_ = nullptr;
  if (std::fclose(file) != 0) refuse_and_discard("close", errno);
  if (temporary_.empty()) return;
  std::error_code error;
  std::filesystem::rename(temporary_, target_, error);
  if (error) refuse_and_discard("replace", error.value());
  temporary_.clear();
  persist(folder);
}

RWKV_FUNCTION bool AtomicFile::seek(std::uint64_t offset) noexcept {
#if defined(_WIN32)
  return ::_fseeki64(file_, static_cast<long long>(offset), SEEK_SET) == 0;
#elif RWKV_IO_HAS_FSYNC
  return ::fseeko(file_, static_cast<off_t>(offset), SEEK_SET) == 0;
#else
  return std::fseek(file_, static_cast<long>(offset), SEEK_SET) == 0;
#endif
}

RWKV_FUNCTION std::string AtomicFile::reason(int error) {
  return std::generic_category().message(error);
}

RWKV_FUNCTION void AtomicFile::refuse(const char* verb, const std::string& why) const {
  fail_with(ErrorCategory::io, path_.string(), ": cannot ", verb, " this file: ", why);
}

RWKV_FUNCTION void AtomicFile::refuse_and_discard(const char* verb, int error) {
  discard();
  refuse(verb, reason(error) + " (after " + std::to_string(written_) + " bytes)");
}

RWKV_FUNCTION void AtomicFile::discard() noexcept {
  if (file_ != nullptr) std::fclose(file_);
  file_ = nullptr;
  std::error_code ignored;
  if (!temporary_.empty() && !nameless_) std::filesystem::remove(temporary_, ignored);
  temporary_.clear();
}

RWKV_FUNCTION std::filesystem::path AtomicFile::follow_links(std::filesystem::path path) const {
  constexpr int as_many_as_linux_follows = 40;
  for (int i = 0; i < as_many_as_linux_follows; ++i) {
    std::error_code error;
    if (!std::filesystem::is_symlink(std::filesystem::symlink_status(path, error))) return path;
    const std::filesystem::path to = std::filesystem::read_symlink(path, error);
    if (error) refuse("open", error.message());
    path = path.parent_path() / to;  // an absolute `to` replaces the whole path
  }
  refuse("open", "too many symbolic links");
}

RWKV_FUNCTION void AtomicFile::open_temporary() {
  if (open_nameless()) return;
  for (int attempt = 0; attempt < 100 && file_ == nullptr; ++attempt) {
    temporary_ = some_name();
    file_ = std::fopen(temporary_.string().c_str(), "wbx");
    if (file_ == nullptr && errno != EEXIST) break;
  }
  if (file_ != nullptr) return;
  const int error = errno;
  temporary_.clear();  // somebody else's, or not there
  refuse("create", reason(error));
}

RWKV_FUNCTION std::filesystem::path AtomicFile::some_name() {
  if (number_ == 0)
    number_ =
        static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) ^
        reinterpret_cast<std::uintptr_t>(this);
  return target_.parent_path() / (".rwkv-" + std::to_string(number_++) + ".tmp");
}

RWKV_FUNCTION bool AtomicFile::open_nameless() {
#if RWKV_IO_HAS_FSYNC && defined(O_TMPFILE)
  const auto folder = target_.parent_path();
  const int fd =
      ::open(folder.empty() ? "." : folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd < 0) return false;
  const std::filesystem::path name = "/proc/self/fd/" + std::to_string(fd);
  std::error_code error;
  file_ = std::filesystem::exists(name, error) ? ::fdopen(fd, "wb") : nullptr;
  if (file_ == nullptr) {
    ::close(fd);
    return false;
  }
  temporary_ = name;
  nameless_ = true;
  return true;
#else
  return false;
#endif
}

RWKV_FUNCTION void AtomicFile::give_name() {
#if RWKV_IO_HAS_FSYNC && defined(O_TMPFILE)
  int error = EEXIST;
  std::filesystem::path name;
  for (int attempt = 0; attempt < 100 && error == EEXIST; ++attempt) {
    name = some_name();
    error = ::linkat(AT_FDCWD, temporary_.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0
                ? 0
                : errno;
  }
  if (error != 0) refuse_and_discard("create", error);
  temporary_ = std::move(name);
  nameless_ = false;
#endif
}

RWKV_FUNCTION void AtomicFile::persist(
    [[maybe_unused]] const std::filesystem::path& folder) noexcept {
#if RWKV_IO_HAS_FSYNC
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
#endif
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
