// SPDX-License-Identifier: Apache-2.0
#include "support/sanitizers.hpp"
#include <rwkv/exec/thread_pool.hpp>

#include <doctest/doctest.h>

#include <array>
#include <barrier>
#include <chrono>
#include <limits>
#include <numeric>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using rwkv::ThreadPool;

/// True if parallel(n) calls each index once, and the calls' plain writes are visible afterwards.
bool each_once(ThreadPool& pool, std::size_t n) {
  std::vector<int> calls(n);
  pool.parallel(n, [&](std::size_t i) { ++calls[i]; });
  return calls == std::vector<int>(n, 1);
}

}  // namespace

TEST_CASE("the pool has as many threads as it was asked for; 0 asks the machine") {
  static_assert(rwkv::Executor<ThreadPool> && rwkv::Executor<ThreadPool&>);
  CHECK(ThreadPool(1).concurrency() == 1);
  CHECK(ThreadPool(3).concurrency() == 3);
  CHECK(ThreadPool().concurrency() == std::max(1u, std::thread::hardware_concurrency()));
}

TEST_CASE("each index is called once, for fewer, as many and more indices than threads") {
  for (const std::size_t threads : {1u, 2u, 3u, 4u, 7u}) {
    CAPTURE(threads);
    ThreadPool pool(threads);
    for (std::size_t n = 0; n <= 2 * threads + 3; ++n) {
      CAPTURE(n);
      CHECK(each_once(pool, n));
    }
    CHECK(each_once(pool, 1000));
  }
}

TEST_CASE("index 0 runs on the calling thread, and all threads take part at the same time") {
  constexpr std::size_t threads = 4;
  ThreadPool pool(threads);
  std::array<std::thread::id, threads> ids;
  std::barrier all_here(threads);  // nobody would pass if two calls waited for each other
  pool.parallel(threads, [&](std::size_t i) {
    ids[i] = std::this_thread::get_id();
    all_here.arrive_and_wait();
  });
  CHECK(ids[0] == std::this_thread::get_id());
  std::sort(ids.begin(), ids.end());
  CHECK(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
}

TEST_CASE("what is called may be constant, a temporary or change itself") {
  ThreadPool pool(2);
  std::atomic<int> calls = 0;
  const auto constant = [&](std::size_t) { ++calls; };
  pool.parallel(4, constant);
  pool.parallel(4, [&](std::size_t) { ++calls; });
  std::array<int, 4> own{};
  auto changing = [own](std::size_t i) mutable { own[i] = static_cast<int>(i); };
  pool.parallel(4, changing);
  CHECK(calls == 8);
}

TEST_CASE("workers that went to sleep are woken") {
  ThreadPool pool(3);
  for (int round = 0; round < 4; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // they spin for far less
    CHECK(each_once(pool, 5));
  }
}

TEST_CASE("phases follow each other at any distance") {
  // Pauses around the time for which workers spin, to meet them on their way to sleep.
  ThreadPool pool(2);
  std::array<std::size_t, 2> parts{};
  bool all = true;
  for (std::size_t phase = 0; phase < 300; ++phase) {
    pool.parallel(2, [&](std::size_t i) { parts[i] = phase + i; });
    all = all && parts[0] == phase && parts[1] == phase + 1;
    std::this_thread::sleep_for(std::chrono::microseconds(phase * 97 % 1000));
  }
  CHECK(all);
}

TEST_CASE("a phase sees what the one before it wrote") {
  ThreadPool pool(3);
  constexpr std::size_t n = 64;
  std::vector<std::size_t> values(n);
  std::iota(values.begin(), values.end(), std::size_t{0});
  for (int phase = 0; phase < 100; ++phase) {
    std::vector<std::size_t> next(n);
    pool.parallel(n, [&](std::size_t i) { next[i] = values[(i + 1) % n]; });
    values = next;
  }
  CHECK(values[0] == 100 % n);
}

TEST_CASE("a pool may be destroyed at once, or after its last phase, or asleep") {
  for (int round = 0; round < 50; ++round) {
    { const ThreadPool unused(4); }
    ThreadPool pool(4);
    CHECK(each_once(pool, 4));
  }
  ThreadPool pool(2);
  CHECK(each_once(pool, 2));
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

TEST_CASE("threads with a pool each do not disturb each other") {
  std::array<bool, 3> fine{};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < fine.size(); ++t)
    threads.emplace_back([&fine, t] {
      ThreadPool own(2 + t);
      fine[t] = true;
      for (std::size_t n = 0; n < 50; ++n) fine[t] = each_once(own, n % 17) && fine[t];
    });
  for (std::thread& t : threads) t.join();
  CHECK(fine == std::array{true, true, true});
}

TEST_CASE("a call may use a pool of its own") {
  ThreadPool outer(2);
  std::array<bool, 6> fine{};
  outer.parallel(fine.size(), [&](std::size_t i) {
    ThreadPool inner(3);
    fine[i] = each_once(inner, 10) && each_once(inner, i);
  });
  CHECK(std::count(fine.begin(), fine.end(), true) == 6);
}

TEST_CASE("a number of threads that nobody can count is refused") {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  CHECK_THROWS_AS(ThreadPool{most}, std::exception);
}

// Where a worker can be met between its last look for work and its sleep: glibc's wait for a
// condition, replaced in this program (before 2.34 that needs libdl, and sanitizers replace it
// too).
#if defined(__GLIBC__) && !defined(RWKV_TEST_SANITIZER)
#if __GLIBC_PREREQ(2, 34)

namespace {
std::atomic<bool> waits_are_slow = false;
std::atomic<int> waits = 0;

/// True once a worker is about to wait for a condition. A pool may sleep in another way.
bool worker_on_its_way() {
  for (int ms = 0; ms < 300 && waits == 0; ++ms)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return waits.exchange(0) != 0;
}
}  // namespace

extern "C" __attribute__((visibility("default"))) int pthread_cond_wait(pthread_cond_t* condition,
                                                                        pthread_mutex_t* mutex) {
  static const auto original = reinterpret_cast<int (*)(pthread_cond_t*, pthread_mutex_t*)>(
      ::dlsym(RTLD_NEXT, "pthread_cond_wait"));
  if (waits_are_slow) {
    ++waits;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return original(condition, mutex);
}

TEST_CASE("a worker is woken by what comes between its last look for work and its sleep") {
  // In a process of its own: who misses the call sleeps forever.
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(10);
    waits_are_slow = true;
    bool fine = true;
    for (const std::size_t threads : {2u, 4u}) {
      ThreadPool pool(threads);
      for (int round = 0; round < 4 && worker_on_its_way(); ++round)
        fine = each_once(pool, 2 * threads) && fine;
      (void)worker_on_its_way();
    }
    _exit(fine ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);  // SIGALRM: a worker was not woken
}

#endif
#endif

#if defined(__linux__) && !defined(RWKV_TEST_SANITIZER)  // sanitizers need all the address space
TEST_CASE("threads that the system refuses are an exception, not the end of the program") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit room{std::size_t{256} << 20, std::size_t{256} << 20};  // for some stacks of 8 MiB
    if (setrlimit(RLIMIT_AS, &room) != 0) _exit(2);
    try {
      ThreadPool pool(10000);
    } catch (const std::system_error&) {
      _exit(0);
    }
    _exit(3);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
#endif
