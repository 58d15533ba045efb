// SPDX-License-Identifier: Apache-2.0
// A fork-join pool for phases of microseconds. One forward pass has several phases per layer, so
// workers spin for the next one and go to sleep only when none comes for a while.
//
// An item of a phase belongs to whoever takes it first: a worker that has lost its processor is not
// waited for, unless it had begun one. A worker that was waited for too long rests for a time, and
// for a longer one when it happens again: beside busy neighbours fewer threads are faster.
#pragma once

#include <rwkv/exec/processors.hpp>
#include <rwkv/exec/serial.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace rwkv::inline RWKV_ABI {

struct ThreadPoolOptions {
  /// Threads that work at once, the caller included, but no more than `available_processors()`;
  /// 0: as many.
  std::size_t threads = 0;
  /// Keeps every worker on a processor of its own (Linux): on machines where nothing else runs.
  bool pin = false;
  /// Lets more threads work at once than there are processors. That is slower: for tests.
  bool oversubscribe = false;
};

/// An Executor with its own threads. The calling thread takes part, so `ThreadPool(4)` starts
/// three, if there are four processors. Any thread may call `parallel` at any time: a call
/// during another one, also from within it, runs on its own thread alone. After fork() the child,
/// which has no workers, runs everything on the calling thread.
class ThreadPool {
 public:
  /// Throws std::system_error when the system refuses a thread, std::length_error for a number
  /// of them that cannot be.
  explicit ThreadPool(const ThreadPoolOptions& options) : pool_(std::make_unique<Workers>()) {
    const std::size_t processors = available_processors();
    threads_ = options.threads != 0 ? options.threads : processors;
    if (!options.oversubscribe) threads_ = (std::min)(threads_, processors);
    pool_->workers.reserve(threads_ - 1);
    for (std::size_t i = 1; i < threads_; ++i) pool_->start();
    if (options.pin) pin();
  }
  explicit ThreadPool(std::size_t threads = 0)
      : ThreadPool(ThreadPoolOptions{.threads = threads}) {}
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Threads that work at once, the caller included.
  [[nodiscard]] std::size_t concurrency() const noexcept { return threads_; }

  /// Calls f(0) ... f(n - 1), each once; f(0) runs on the calling thread. If one throws, those that
  /// have not begun are left out, and the first exception is thrown here when the others have
  /// returned.
  template <class F>
  void parallel(std::size_t n, F&& f) {
    Workers& pool = *pool_;
    if (n <= 1 || threads_ == 1 || pool.forked() ||
        pool.busy.exchange(true, std::memory_order_acquire)) {
      for (std::size_t i = 0; i < n; ++i) f(i);
      return;
    }
    pool.call = [](void* context, std::size_t i) {
      (*static_cast<std::remove_reference_t<F>*>(context))(i);
    };
    pool.context = const_cast<void*>(static_cast<const void*>(&f));
    pool.run(n);
#if defined(__cpp_exceptions)
    const std::exception_ptr thrown = std::exchange(pool.thrown, nullptr);
#endif
    pool.busy.store(false, std::memory_order_release);
#if defined(__cpp_exceptions)
    if (thrown != nullptr) std::rethrow_exception(thrown);
#endif
  }

 private:
  using Clock = std::chrono::steady_clock;

  // Longer than any serial stretch between two phases, shorter than a time slice.
  static constexpr std::chrono::microseconds spin_time{100};
  // A worker that is waited for so long, and as long as the caller itself worked, has lost its
  // processor.
  static constexpr std::chrono::microseconds stall_time{150};
  // So does one that takes the caller's processor when it is woken.
  static constexpr std::chrono::microseconds wake_time{100};
  // A stall on a quiet machine costs one short rest; beside a busy neighbour rests grow at once.
  static constexpr std::chrono::milliseconds shortest_rest{4};
  static constexpr std::chrono::milliseconds longest_rest{2000};

  struct alignas(alignment) Worker {
    std::atomic<bool> asleep{false};
    std::atomic<bool> resting{false};
    std::atomic<bool> working{false};  // on an item
    std::mutex mutex;
    std::condition_variable wake;
    std::thread thread;
    // The caller's alone.
    Clock::time_point rest_end{};
    Clock::duration rest{};
  };

  /// What threads share: it does not move, and outlives them.
  struct Workers {
    Workers() { register_fork(); }
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;
    ~Workers() {
      if (forked()) {  // these threads are the parent's, and who knows who holds their mutexes
        for (auto& worker : workers) (void)worker.release();
        return;
      }
      stop.store(true, std::memory_order_seq_cst);
      for (auto& worker : workers) wake(*worker);
      for (auto& worker : workers) worker->thread.join();
    }
    void start() {
      auto worker = std::make_unique<Worker>();
      worker->thread = std::thread([this, me = worker.get()] { work(*me); });
      workers.push_back(std::move(worker));
    }

    /// One phase: items [0, n) of `call`.
    void run(std::size_t n) {
      // The word of a phase counts to 65535: larger numbers go in groups.
      constexpr std::size_t most = 0xffff;
      count = n;
      group = (n + most - 1) / most;
      const std::size_t total = (n + group - 1) / group;
      done.store(0, std::memory_order_relaxed);
      failed.store(false, std::memory_order_relaxed);
      phase = (phase + 1) & 0xffffffffu;
      // The caller has part 0.
      ticket.store(phase << 32 | total << 16 | 1, std::memory_order_seq_cst);
      rouse((std::min)(workers.size(), total - 1));
      const auto begin = Clock::now();
      part(0);
      take_all(nullptr);
      finish(total - 1, begin);
    }

    static std::uint64_t next(std::uint64_t t) { return t & 0xffff; }
    static std::uint64_t parts(std::uint64_t t) { return t >> 16 & 0xffff; }

    void part(std::size_t p) {
      const std::size_t end = (std::min)(count, (p + 1) * group);
#if defined(__cpp_exceptions)
      try {
#endif
        for (std::size_t i = p * group; i < end && !failed.load(std::memory_order_relaxed); ++i)
          call(context, i);
#if defined(__cpp_exceptions)
      } catch (...) {
        if (!failed.exchange(true, std::memory_order_relaxed)) thrown = std::current_exception();
      }
#endif
    }

    /// Runs parts of the present phase until there are none. The word changes with the phase, so
    /// that a late worker cannot take a part of one that is over.
    void take_all(Worker* me) {
      std::uint64_t t = ticket.load(std::memory_order_acquire);
      while (next(t) < parts(t)) {
        if (!ticket.compare_exchange_weak(t, t + 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire))
          continue;
        if (me != nullptr) me->working.store(true, std::memory_order_relaxed);
        part(static_cast<std::size_t>(next(t)));
        if (me != nullptr) me->working.store(false, std::memory_order_relaxed);
        done.fetch_add(1, std::memory_order_release);
        t = ticket.load(std::memory_order_acquire);
      }
    }

    /// Waits for the parts that workers have begun, and sends those to rest that have lost their
    /// processor.
    void finish(std::size_t all, Clock::time_point phase_begin) {
      const auto over = [&] { return done.load(std::memory_order_acquire) == all; };
      for (int spin = 0; spin < 512; ++spin) {
        if (over()) return;
        pause();
      }
      const auto begin = Clock::now();
      for (bool blamed = false; !over();) {
        std::this_thread::yield();
        if (blamed) continue;
        const auto now = Clock::now();
        if (now - begin < stall_time || now - begin < begin - phase_begin) continue;
        blamed = true;
        for (auto& worker : workers)
          if (worker->working.load(std::memory_order_relaxed)) send_to_rest(*worker, now);
      }
    }

    void send_to_rest(Worker& worker, Clock::time_point now) {
      if (worker.resting.load(std::memory_order_relaxed)) return;
      const bool again =
          worker.rest != Clock::duration{} && now - worker.rest_end < 8 * worker.rest;
      worker.rest = again ? (std::min<Clock::duration>)(8 * worker.rest, longest_rest)
                          : Clock::duration(shortest_rest);
      worker.rest_end = now + worker.rest;
      worker.resting.store(true, std::memory_order_relaxed);
      ++rests;
    }

    /// Sees to it that the first `wanted` workers look for work, as far as they do not rest: where
    /// one lost its processor, another would do no better.
    void rouse(std::size_t wanted) {
      const auto now = rests != 0 ? Clock::now() : Clock::time_point{};
      for (std::size_t i = 0; i < wanted; ++i) {
        Worker& worker = *workers[i];
        if (worker.resting.load(std::memory_order_relaxed)) {
          if (now < worker.rest_end) continue;
          worker.resting.store(false, std::memory_order_seq_cst);
          --rests;
        }
        // Once: until it gets a processor, others may begin and end.
        if (worker.asleep.exchange(false, std::memory_order_seq_cst)) {
          const auto begin = Clock::now();
          wake(worker);
          // If that took so long, the worker took the caller's processor.
          const auto end = Clock::now();
          if (end - begin > wake_time) send_to_rest(worker, end);
        }
      }
    }

    static void wake(Worker& worker) {
      {
        const std::lock_guard lock(worker.mutex);
      }  // a worker between its check and its wait holds the mutex
      worker.wake.notify_one();
    }

    void work(Worker& me) {
      for (std::uint64_t seen = 0;;) {
        await(me, seen);
        if (stop.load(std::memory_order_seq_cst)) return;
        seen = ticket.load(std::memory_order_acquire) >> 32;
        take_all(&me);
      }
    }

    /// Returns when there is another phase than `seen`, or the pool ends.
    void await(Worker& me, std::uint64_t seen) {
      const auto called = [&](std::memory_order order) {
        return stop.load(order) || (ticket.load(order) >> 32 != seen && !me.resting.load(order));
      };
      const auto begin = Clock::now();
      for (int spin = 1; !me.resting.load(std::memory_order_relaxed); ++spin) {
        if (called(std::memory_order_acquire)) return;
        pause();
        if (spin % 64 == 0 && Clock::now() - begin > spin_time) break;
      }
      std::unique_lock lock(me.mutex);
      for (;;) {
        me.asleep.store(true, std::memory_order_seq_cst);
        if (called(std::memory_order_seq_cst)) break;
        me.wake.wait(lock);
      }
      me.asleep.store(false, std::memory_order_relaxed);
    }

    // Children of fork() have another generation.
    static std::atomic<unsigned>& generation() {
      static std::atomic<unsigned> value{0};
      return value;
    }
    static void register_fork() {
#if defined(__unix__) || defined(__APPLE__)
      static const int registered =
          ::pthread_atfork(nullptr, nullptr, [] { generation().fetch_add(1); });
      (void)registered;
#endif
    }
    [[nodiscard]] bool forked() const noexcept {
      return generation().load(std::memory_order_relaxed) != born;
    }

    // Of the phase: written by the caller before it, read by everybody during it.
    void (*call)(void*, std::size_t) = nullptr;
    void* context = nullptr;
    std::size_t count = 0;
    std::size_t group = 1;
    std::exception_ptr thrown;
    std::uint64_t phase = 0;  // the caller's alone
    std::size_t rests = 0;
    alignas(alignment) std::atomic<std::uint64_t> ticket{0};  // phase << 32 | parts << 16 | next
    alignas(alignment) std::atomic<std::size_t> done{
        0};  // parts behind the first that have been run
    std::atomic<bool> failed{false};
    alignas(alignment) std::atomic<bool> busy{false};
    std::atomic<bool> stop{false};
    const unsigned born = generation().load();
    std::vector<std::unique_ptr<Worker>> workers;
  };

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  void pin() {
#if defined(__linux__)
    const std::size_t most = 8 * sizeof(::cpu_set_t);
    ::cpu_set_t mine;
    if (::sched_getaffinity(0, sizeof mine, &mine) != 0) return;
    const int here = ::sched_getcpu();
    std::size_t cpu = here < 0 ? 0 : static_cast<std::size_t>(here);
    for (const auto& worker : pool_->workers) {
      do cpu = (cpu + 1) % most;
      while (!CPU_ISSET(cpu, &mine));
      ::cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      (void)::pthread_setaffinity_np(worker->thread.native_handle(), sizeof one, &one);
    }
#endif
  }

  std::size_t threads_ = 1;
  std::unique_ptr<Workers> pool_;
};

}  // namespace rwkv::inline RWKV_ABI
