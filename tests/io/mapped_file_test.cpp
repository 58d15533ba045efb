// SPDX-License-Identifier: Apache-2.0
#include "../support/temporary_directory.hpp"
#include <rwkv/io/mapped_file.hpp>

#include <doctest/doctest.h>

#if __has_include(<unistd.h>)
#include <sys/stat.h>
#include <unistd.h>
#endif

using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::io::MappedFile;

namespace {
std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

ErrorCategory category_of(const std::filesystem::path& path) {
  try {
    const MappedFile file(path);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find(path.string()) == 0);
    return error.category();
  }
  FAIL("opened " << path);
  return ErrorCategory::argument;
}
}  // namespace

TEST_CASE("the bytes are those of the file") {
  const test::TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += std::to_string(i);
  test::write_file(directory / "f", text);
  const MappedFile file(directory / "f");
  CHECK(text_of(file) == text);
}

TEST_CASE("released pages can still be read, whatever the range") {
  const test::TemporaryDirectory directory;
  const std::string text(50'000, 'x');
  test::write_file(directory / "f", text);
  const MappedFile file(directory / "f");
  const auto bytes = file.bytes();
  file.release(bytes);
  file.release(bytes.subspan(4097, 10'000));
  file.release(bytes.subspan(bytes.size()));
  file.release({});
  // Not part of the file: must be left alone.
  const std::string other(100'000, 'y');
  file.release(std::as_bytes(std::span(other)));
  CHECK(other == std::string(100'000, 'y'));
  CHECK(text_of(file) == text);
}

TEST_CASE("replacing the file does not disturb who has it open") {
  const test::TemporaryDirectory directory;
  test::write_file(directory / "f", "before");
  const MappedFile file(directory / "f");
  test::write_file(directory / "g", "after, and longer");
  std::filesystem::rename(directory / "g", directory / "f");
  CHECK(text_of(file) == "before");
}

TEST_CASE("what cannot be opened is refused by name") {
  const test::TemporaryDirectory directory;
  test::write_file(directory / "empty", "");
  CHECK(category_of(directory / "empty") == ErrorCategory::format);
  CHECK(category_of(directory / "missing") == ErrorCategory::io);
  CHECK(category_of(directory.path()) == ErrorCategory::io);
#if __has_include(<unistd.h>)
  ::mkfifo((directory / "pipe").c_str(), 0600);
  CHECK(category_of(directory / "pipe") == ErrorCategory::io);  // and does not wait for a writer
  test::write_file(directory / "secret", "text");
  ::chmod((directory / "secret").c_str(), 0);
  if (::geteuid() != 0) CHECK(category_of(directory / "secret") == ErrorCategory::io);
#endif
}

#if __has_include(<unistd.h>)
TEST_CASE("a file that cannot be mapped is read") {
  if (!std::filesystem::exists("/proc/self/status")) return;
  const MappedFile file("/proc/self/status");
  CHECK(text_of(file).find("Name:") == 0);
}
#endif
