// SPDX-License-Identifier: Apache-2.0
// How many processors this process may really use: not those of the machine, but those that its
// affinity and the quota of its control group leave it.
#pragma once

#include <rwkv/core/config.hpp>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <thread>

#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
#endif

namespace rwkv::inline RWKV_ABI {

namespace internal {

/// Whole processors of a quota: "150000 100000" (cpu.max) are 1. 0 without limit, 1 for less than
/// one.
[[nodiscard]] inline std::size_t processors_of_quota(std::string_view text) noexcept {
  const auto number = [&text](unsigned long long& value) {
    while (!text.empty() && (text[0] == ' ' || text[0] == '\n')) text.remove_prefix(1);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{}) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
  };
  unsigned long long quota = 0;
  unsigned long long period = 0;
  if (!number(quota) || !number(period) || quota == 0 || period == 0) return 0;
  constexpr unsigned long long most = 1000000;
  return static_cast<std::size_t>(std::clamp(quota / period, 1ull, most));
}

#if defined(__linux__)

/// The first 4 KB of a small file; empty if there is none.
[[nodiscard]] inline std::string small_file(const std::string& path) {
  std::string text(4096, '\0');
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const ::ssize_t n = file < 0 ? -1 : ::read(file, text.data(), text.size());
  if (file >= 0) ::close(file);
  text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return text;
}

/// The least quota on the way from a process's control group to the root, as whole processors; 0
/// without limit. `groups` is the content of /proc/self/cgroup, `root` where control groups are
/// mounted.
[[nodiscard]] inline std::size_t processors_of_groups(std::string_view groups,
                                                      const std::string& root) {
  std::size_t least = 0;
  const auto limit = [&](std::size_t processors) {
    if (processors != 0 && (least == 0 || processors < least)) least = processors;
  };
  while (!groups.empty()) {  // <number>:<controllers>:<path>
    const std::string_view line = groups.substr(0, groups.find('\n'));
    groups.remove_prefix((std::min)(groups.size(), line.size() + 1));
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    std::string path(line.substr(second + 1));
    const bool second_version = controllers.empty();
    if (!second_version &&
        ("," + std::string(controllers) + ",").find(",cpu,") == std::string::npos)
      continue;
    const std::string base = second_version ? root : root + "/cpu";
    for (;;) {  // in a container the path may be one of outside; the root is what is seen of it
      if (path == "/") path.clear();
      const std::string folder = base + path;
      limit(second_version ? processors_of_quota(small_file(folder + "/cpu.max"))
                           : processors_of_quota(small_file(folder + "/cpu.cfs_quota_us") + ' ' +
                                                 small_file(folder + "/cpu.cfs_period_us")));
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

/// Processors of the calling thread's affinity; 0 if it cannot be asked.
[[nodiscard]] inline std::size_t processors_of_affinity() {
  for (std::size_t most = 1024; most <= (std::size_t{1} << 20); most *= 4) {
    ::cpu_set_t* const set = CPU_ALLOC(most);
    if (set == nullptr) return 0;
    const std::size_t bytes = CPU_ALLOC_SIZE(most);
    const bool known = ::sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known) return static_cast<std::size_t>(count);
  }
  return 0;
}

#endif

}  // namespace internal

/// Processors that this process may use at once, at least 1: of the machine, of the calling
/// thread's affinity, and of the control group's quota (Linux). Asks the system each time.
[[nodiscard]] inline std::size_t available_processors() {
  std::size_t n = (std::max)(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
  if (const std::size_t mine = internal::processors_of_affinity(); mine != 0) n = mine;
  const std::size_t quota =
      internal::processors_of_groups(internal::small_file("/proc/self/cgroup"), "/sys/fs/cgroup");
  if (quota != 0) n = (std::min)(n, quota);
#endif
  return n;
}

}  // namespace rwkv::inline RWKV_ABI
