// SPDX-License-Identifier: Apache-2.0
// A fork-join pool for phases of microseconds: workers spin briefly for the next phase and go to
// sleep when none comes. One forward pass has several phases per layer; waking a sleeping thread
// for each would cost more than the work.
#pragma once

#include <rwkv/exec/serial.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace rwkv::inline RWKV_ABI {

/// An Executor with its own threads. The calling thread takes part, so `ThreadPool(4)` starts
/// three. One `parallel` call at a time: share a model between threads, but give each thread its
/// own pool.
class ThreadPool {
 public:
  /// `threads` = number of threads that work at once, the caller included; 0 = one per hardware
  /// thread. Throws what std::thread throws when the system refuses one.
  explicit ThreadPool(std::size_t threads = 0) : ThreadPool(NoWorkers{}) {
    if (threads == 0) threads = (std::max<std::size_t>)(1, std::thread::hardware_concurrency());
    workers_.reserve(threads - 1);
    for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() {
    stop_.store(true, std::memory_order_relaxed);
    publish();
    for (std::thread& t : workers_) t.join();
  }

  [[nodiscard]] std::size_t concurrency() const noexcept { return workers_.size() + 1; }

  /// Calls f(0) ... f(n - 1); f(0) runs on the calling thread. f must not throw.
  template <class F>
  void parallel(std::size_t n, F&& f) {
    if (n <= 1 || workers_.empty()) {
      for (std::size_t i = 0; i < n; ++i) f(i);
      return;
    }
    call_ = [](void* context, std::size_t i) {
      (*static_cast<std::remove_reference_t<F>*>(context))(i);
    };
    context_ = const_cast<void*>(static_cast<const void*>(&f));
    items_ = n;
    pending_.store(workers_.size(), std::memory_order_relaxed);
    publish();
    run(0);
    // A worker that lost its core would be waited for in vain at full speed: give way after a
    // while.
    for (int spin = 0; pending_.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin < spins_before_sleep)
        pause();
      else
        std::this_thread::yield();
    }
  }

 private:
  // Delegated to, so that the destructor stops the first threads if a later one cannot be had.
  struct NoWorkers {};
  explicit ThreadPool(NoWorkers) noexcept {}

  // About 50 us of spinning: longer than any serial stretch between two phases, shorter than a time
  // slice.
  static constexpr int spins_before_sleep = 1 << 14;

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  /// Starts a phase: a new epoch, and a wake-up only for those who went to sleep.
  void publish() {
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) != 0) {
      {
        const std::lock_guard lock(mutex_);
      }  // a worker between its check and its wait holds the mutex
      wake_.notify_all();
    }
  }

  void run(std::size_t worker) {
    const std::size_t step = concurrency();
    for (std::size_t i = worker; i < items_; i += step) call_(context_, i);
  }

  /// Waits until the epoch differs from `seen`; returns the new one.
  std::uint64_t await(std::uint64_t seen) {
    for (int spin = 0; spin < spins_before_sleep; ++spin) {
      if (const auto now = epoch_.load(std::memory_order_acquire); now != seen) return now;
      pause();
    }
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return epoch_.load(std::memory_order_seq_cst) != seen; });
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    return epoch_.load(std::memory_order_acquire);
  }

  void work(std::size_t worker) {
    for (std::uint64_t seen = 0;;) {
      seen = await(seen);
      if (stop_.load(std::memory_order_relaxed)) return;
      run(worker);
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  // Written by the caller before a phase, read by everybody during it.
  void (*call_)(void*, std::size_t) = nullptr;
  void* context_ = nullptr;
  std::size_t items_ = 0;
  alignas(alignment) std::atomic<std::uint64_t> epoch_{0};
  std::atomic<bool> stop_{false};
  std::atomic<std::size_t> sleepers_{0};
  alignas(alignment) std::atomic<std::size_t> pending_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace rwkv::inline RWKV_ABI
