// SPDX-License-Identifier: Apache-2.0
#include "support/sanitizers.hpp"
#include <rwkv/exec/thread_pool.hpp>

#include <doctest/doctest.h>

#include <array>
#include <barrier>
#include <chrono>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
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

TEST_CASE("the pool has as many threads as it was asked for, up to one a processor") {
  static_assert(rwkv::Executor<ThreadPool> && rwkv::Executor<ThreadPool&>);
  const std::size_t processors = rwkv::available_processors();
  CHECK(ThreadPool(1).concurrency() == 1);
  CHECK(ThreadPool({.threads = processors + 3, .oversubscribe = true}).concurrency() ==
        processors + 3);
  for (const std::size_t threads : {std::size_t{0}, processors, processors + 3, SIZE_MAX})
    CHECK(ThreadPool(threads).concurrency() == processors);
}

TEST_CASE("each index is called once, for fewer, as many and more indices than threads") {
  for (const std::size_t threads : {1u, 2u, 3u, 4u, 7u}) {
    CAPTURE(threads);
    ThreadPool pool({.threads = threads, .oversubscribe = true});
    for (std::size_t n = 0; n <= 2 * threads + 3; ++n) {
      CAPTURE(n);
      CHECK(each_once(pool, n));
    }
    CHECK(each_once(pool, 1000));
  }
}

TEST_CASE("index 0 runs on the calling thread, and all threads take part at the same time") {
  constexpr std::size_t threads = 4;
  ThreadPool pool({.threads = threads, .oversubscribe = true});
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
    { const ThreadPool unused({.threads = 4, .oversubscribe = true}); }
    ThreadPool pool({.threads = 4, .oversubscribe = true});
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
    ThreadPool inner({.threads = 3, .oversubscribe = true});
    fine[i] = each_once(inner, 10) && each_once(inner, i);
  });
  CHECK(std::count(fine.begin(), fine.end(), true) == 6);
}

TEST_CASE("no more threads work than there are processors, unless that is wanted") {
  const std::size_t processors = rwkv::available_processors();
  ThreadPool pool(processors + 3);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  for (int round = 0; round < 100; ++round)
    pool.parallel(1000, [&](std::size_t) {
      const std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
  CHECK(ids.size() <= processors);
}

TEST_CASE("numbers of calls beyond 16 bits go in groups") {
  ThreadPool pool({.threads = 3, .oversubscribe = true});
  for (const std::size_t n : {65534u, 65535u, 65536u, 65537u, 131071u, 200001u})
    CHECK(each_once(pool, n));
}

TEST_CASE("two callers of one pool, and calls from within a call, are both served") {
  ThreadPool pool({.threads = 3, .oversubscribe = true});
  std::array<bool, 4> fine{};
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < fine.size(); ++c)
    callers.emplace_back([&, c] {
      fine[c] = true;
      for (std::size_t n = 0; n < 300; ++n) fine[c] = each_once(pool, n % 23) && fine[c];
    });
  for (std::thread& t : callers) t.join();
  CHECK(fine == std::array{true, true, true, true});
  std::array<bool, 5> within{};
  pool.parallel(within.size(), [&](std::size_t i) { within[i] = each_once(pool, 7); });
  CHECK(within == std::array{true, true, true, true, true});
}

TEST_CASE("an exception of a call is thrown where the calls were asked for, and the pool goes on") {
  ThreadPool pool({.threads = 3, .oversubscribe = true});
  for (std::size_t culprit = 0; culprit < 40; ++culprit) {
    std::atomic<std::size_t> calls = 0;
    CHECK_THROWS_WITH_AS(pool.parallel(40,
                                       [&](std::size_t i) {
                                         ++calls;
                                         if (i == culprit) throw std::runtime_error("thrown");
                                       }),
                         "thrown", std::runtime_error);
    CHECK(calls <= 40);
    CHECK(each_once(pool, 40));
  }
  CHECK_THROWS_AS(pool.parallel(1, [](std::size_t) { throw 1; }), int);
  CHECK_THROWS_AS(pool.parallel(9, [](std::size_t) { throw 1; }), int);  // all of them
  CHECK(each_once(pool, 9));
}

#if defined(__linux__)
TEST_CASE("a pool with nothing to do uses no processor") {
  ThreadPool pool({.threads = 4, .oversubscribe = true});
  CHECK(each_once(pool, 100));
  const auto used = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // until they sleep
  const double before = used();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(used() - before < 0.02);
}

TEST_CASE("workers can be kept on processors of their own") {
  ThreadPool pool({.pin = true});
  CHECK(each_once(pool, 1000));
}
#endif

#if defined(__linux__) && !defined(__SANITIZE_THREAD__)  // whose threads do not outlive a fork
TEST_CASE("a child of fork runs everything on its one thread") {
  auto owner =
      std::make_unique<ThreadPool>(rwkv::ThreadPoolOptions{.threads = 3, .oversubscribe = true});
  ThreadPool& pool = *owner;
  CHECK(each_once(pool, 50));
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(10);
    bool fine = each_once(pool, 50);
    {
      ThreadPool own({.threads = 2, .oversubscribe = true});  // of the child
      fine = each_once(own, 50) && fine;
    }
    owner.reset();
    _exit(fine ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(each_once(pool, 50));
}
#endif

TEST_CASE("a number of threads that nobody can count is refused") {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  CHECK_THROWS_AS((ThreadPool{{.threads = most, .oversubscribe = true}}), std::exception);
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
      ThreadPool pool({.threads = threads, .oversubscribe = true});
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
      ThreadPool pool({.threads = 10000, .oversubscribe = true});
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
