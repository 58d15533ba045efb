// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_directory.hpp"
#include <rwkv/exec/processors.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

using rwkv::internal::processors_of_quota;

TEST_CASE("a quota is whole processors, and at least one") {
  CHECK(processors_of_quota("max 100000") == 0);
  CHECK(processors_of_quota("200000 100000\n") == 2);
  CHECK(processors_of_quota("250000 100000") == 2);
  CHECK(processors_of_quota("50000 100000") == 1);
  CHECK(processors_of_quota("-1\n 100000\n") == 0);  // the first version's way to say no limit
  CHECK(processors_of_quota("150000\n 50000\n") == 3);
  for (const char* text : {"", "1", "x y", "1 0", "0 1", "nan nan", "1e999 1"})
    CHECK(processors_of_quota(text) == 0);
  CHECK(processors_of_quota("18446744073709551615 1") == 1000000);
}

#if defined(__linux__)
#include <sched.h>

using rwkv::internal::processors_of_groups;

TEST_CASE("the least quota on the way to the root counts") {
  const test::TemporaryDirectory folder;
  const std::string root = folder.path().string();
  const auto put = [&](const std::string& file, const std::string& text) {
    std::filesystem::create_directories((folder.path() / file).parent_path());
    std::ofstream(folder.path() / file) << text;
  };
  CHECK(processors_of_groups("0::/a/b\n", root) == 0);
  put("a/b/cpu.max", "400000 100000\n");
  put("a/cpu.max", "300000 100000\n");
  CHECK(processors_of_groups("0::/a/b\n", root) == 3);
  CHECK(processors_of_groups("0::/a/b/c\n", root) == 3);
  CHECK(processors_of_groups("0::/\n", root) == 0);
  put("cpu.max", "max 100000\n");
  CHECK(processors_of_groups("0::/a\n", root) == 3);
  put("cpu.max", "200000 100000\n");
  CHECK(processors_of_groups("0::/a\n", root) == 2);
  CHECK(processors_of_groups("0::/../outside\n", root) == 2);  // a container sees its own root
  put("cpu/x/cpu.cfs_quota_us", "100000\n");
  put("cpu/x/cpu.cfs_period_us", "100000\n");
  CHECK(processors_of_groups("5:memory:/x\n4:cpu,cpuacct:/x\n", root) == 1);
  CHECK(processors_of_groups("4:cpuset:/x\n", root) == 0);
  for (const char* text : {"", "\n\n", "0", "0:", "::", "0::"})
    CHECK(processors_of_groups(text, root) <= 2);
}

TEST_CASE("the affinity of the calling thread counts") {
  CHECK(rwkv::available_processors() >= 1);
  cpu_set_t before;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(rwkv::available_processors() <= static_cast<std::size_t>(CPU_COUNT(&before)));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (std::size_t cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(rwkv::available_processors() == 1);
  REQUIRE(sched_setaffinity(0, sizeof before, &before) == 0);
}
#endif
