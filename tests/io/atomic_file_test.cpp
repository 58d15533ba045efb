// SPDX-License-Identifier: Apache-2.0
#include "../support/temporary_directory.hpp"
#include <rwkv/io/atomic_file.hpp>

#include <doctest/doctest.h>

#if __has_include(<sys/resource.h>)
#include <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

using rwkv::Error;
using rwkv::io::AtomicFile;
using test::read_file;
using test::write_file;

namespace {
void write(AtomicFile& file, const std::string& text) {
  file.write(std::as_bytes(std::span(text)));
}
}  // namespace

TEST_CASE("a file appears only when it is committed") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "out.bin";
  AtomicFile file(path);
  write(file, "first ");
  CHECK(!std::filesystem::exists(path));
  write(file, "second");
  file.commit();
  CHECK(read_file(path) == "first second");
  CHECK(directory.entries() == std::vector<std::string>{"out.bin"});
}

TEST_CASE("an uncommitted file leaves the earlier one and no trace") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "out.bin";
  write_file(path, "earlier");
  {
    AtomicFile file(path);
    write(file, "half of the n");
  }
  CHECK(read_file(path) == "earlier");
  CHECK(directory.entries() == std::vector<std::string>{"out.bin"});
}

TEST_CASE("what was written can be read and rewritten before it is committed") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "out.bin";
  AtomicFile file(path);
  write(file, "first second");
  CHECK(read_file(file.readable()) == "first second");
  file.overwrite(6, std::as_bytes(std::span("SEC", 3)));
  write(file, " third");
  CHECK(read_file(file.readable()) == "first SECond third");
  CHECK(!std::filesystem::exists(path));
  file.commit();
  CHECK(read_file(path) == "first SECond third");
  CHECK(directory.entries() == std::vector<std::string>{"out.bin"});
}

#if __has_include(<sys/resource.h>)
TEST_CASE("a program that is killed leaves nothing behind") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "out.bin";
  {
    AtomicFile probe(path);
    // Elsewhere the file has a name from the beginning.
    if (!probe.readable().string().starts_with("/proc/")) return;
  }
  const ::pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(path);
    write(file, "half of the n");
    (void)file.readable();
    ::raise(SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(directory.entries().empty());
}
#endif

TEST_CASE("an existing file is replaced, and keeps its permissions") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "out.bin";
  write_file(path, "earlier and longer");
  const auto permissions = std::filesystem::perms::owner_read | std::filesystem::perms::owner_write;
  std::filesystem::permissions(path, permissions);
  AtomicFile file(path);
  write(file, "later");
  file.commit();
  CHECK(read_file(path) == "later");
  CHECK(std::filesystem::status(path).permissions() == permissions);
}

TEST_CASE("an empty file can be written, under the longest name there is") {
  const test::TemporaryDirectory directory;
  const auto path = directory / std::string(255, 'n');
  AtomicFile file(path);
  file.commit();
  CHECK(std::filesystem::file_size(path) == 0);
}

TEST_CASE("a symbolic link stays, and the file it points to is replaced") {
  const test::TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "elsewhere");
  const auto link = directory / "link";
  std::filesystem::create_symlink("second", link);
  std::filesystem::create_symlink("elsewhere/target", directory / "second");

  SUBCASE("an existing target") { write_file(directory / "elsewhere/target", "earlier"); }
  SUBCASE("a target that does not exist yet") {}
  AtomicFile file(link);
  write(file, "later");
  file.commit();
  CHECK(std::filesystem::is_symlink(link));
  CHECK(std::filesystem::is_symlink(directory / "second"));
  CHECK(read_file(directory / "elsewhere/target") == "later");
}

TEST_CASE("a loop of links, a directory and a missing directory are refused by name") {
  const test::TemporaryDirectory directory;
  std::filesystem::create_symlink("b", directory / "a");
  std::filesystem::create_symlink("a", directory / "b");
  CHECK_THROWS_WITH_AS(AtomicFile(directory / "a"), doctest::Contains("/a: cannot open"), Error);
  CHECK_THROWS_WITH_AS(AtomicFile(directory.path()), doctest::Contains("is a directory"), Error);
  CHECK_THROWS_WITH_AS(AtomicFile(directory / "no/out"), doctest::Contains("No such file"), Error);
}

#if __has_include(<sys/resource.h>)
TEST_CASE("a file without a name is refused before anything is written") {
  CHECK_THROWS_WITH_AS(AtomicFile(""), doctest::Contains("empty name"), Error);
}

TEST_CASE("running out of space leaves the earlier file and no trace") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "out.bin";
  write_file(path, "earlier");
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 100'000;
  ::setrlimit(RLIMIT_FSIZE, &small);
  {
    AtomicFile file(path);
    const std::string chunk(1000, 'x');
    const auto fill = [&] {
      for (int i = 0; i < 200; ++i) write(file, chunk);
      file.commit();
    };
    CHECK_THROWS_WITH_AS(fill(), doctest::Contains("out.bin: cannot write this file: "), Error);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  CHECK(read_file(path) == "earlier");
  CHECK(directory.entries() == std::vector<std::string>{"out.bin"});
}

TEST_CASE("a target that is no regular file is written, not replaced") {
  if (!std::filesystem::is_character_file("/dev/full")) return;
  AtomicFile file("/dev/full");
  write(file, "x");
  CHECK_THROWS_WITH_AS(file.commit(), doctest::Contains("/dev/full: cannot write"), Error);
  CHECK(std::filesystem::is_character_file("/dev/full"));

  AtomicFile null("/dev/null");
  write(null, "x");
  CHECK_THROWS_WITH_AS((void)null.readable(), doctest::Contains("cannot read back"), Error);
  null.commit();
  CHECK(std::filesystem::is_character_file("/dev/null"));
}
#endif
