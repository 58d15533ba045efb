// SPDX-License-Identifier: Apache-2.0
// Who runs the loops. An executor is any type with the two members of `Executor`; the library only
// ever hands it index ranges whose iterations are independent, and no result depends on who runs
// them.
#pragma once

#include <rwkv/core/config.hpp>

#include <concepts>
#include <span>
#include <type_traits>

namespace rwkv::inline RWKV_ABI {

/// `parallel(n, f)` calls f(0) ... f(n - 1), each exactly once, in any order and possibly at the
/// same time, and returns when all have returned (their writes then being visible to the caller).
/// `concurrency()` says how many calls can make progress at once; n may be several times as large,
/// so that who is faster does more of them. Calls do not wait for each other, and the library's do
/// not throw. An application adapts its own scheduler by writing these two functions.
///
/// A third is optional: `bool proceed()` is asked on the calling thread before every layer of a
/// pass, where a firmware yields or resets its watchdog. False abandons the pass: its logits and
/// the states of its sequences are then worth nothing (see `Cancellable`).
template <class E>
concept Executor = requires(E& e, std::size_t n, void (*f)(std::size_t)) {
  { e.concurrency() } -> std::convertible_to<std::size_t>;
  e.parallel(n, f);
};

/// An executor that brings weights closer before they are needed, from a slow memory by DMA say. It
/// works on its own (concurrency() is 1) and offers, besides:
///
///   static constexpr std::size_t piece = 8192;          // most bytes at once, if two panels fit
///   void ahead(std::span<const std::byte> weights);     // will be needed next: start
///   const std::byte* here(std::span<const std::byte> weights);  // are needed: wait; where are they?
///
/// Pieces are asked for one after the other, each first `ahead`, then `here`; a piece is in use until
/// the next one is asked for by `here`, so two buffers do. They are whole panels of matrices (of 16
/// outputs, or pairs of them), and rows of the embedding table and of DeepEmbed's. Static blobs
/// honour it (static_blob.hpp), at the same bits.
template <class E>
concept Fetching = requires(E& e, std::span<const std::byte> weights) {
  { E::piece } -> std::convertible_to<std::size_t>;
  e.ahead(weights);
  { e.here(weights) } -> std::convertible_to<const std::byte*>;
};

/// An executor that is known, when the program is compiled, to run everything in sequence: nothing is
/// divided for it.
template <class E>
concept InSequence = requires {
  requires std::remove_cvref_t<E>::concurrency()
  == 1;
};

/// Asks an executor whether to go on; yes if it has no opinion.
template <class E>
[[nodiscard]] constexpr bool proceed(E& exec) {
  if constexpr (requires { static_cast<bool>(exec.proceed()); })
    return static_cast<bool>(exec.proceed());
  else
    return true;
}

/// Runs everything on the calling thread: no threads in the binary. Stateless, freely shared.
class Serial {
 public:
  [[nodiscard]] static constexpr std::size_t concurrency() noexcept { return 1; }
  template <class F>
  constexpr void parallel(std::size_t n, F&& f) const {
    for (std::size_t i = 0; i < n; ++i) f(i);
  }
};

/// Any executor, without its type, so that what runs a model is compiled once for all of them:
/// functions that take one accept `Serial`, a `ThreadPool` or an application's own, and run on the
/// calling thread if they are given none. A view: the executor must outlive the call.
class ExecutorRef {
 public:
  ExecutorRef() noexcept : ExecutorRef(serial) {}
  template <class Exec>
  requires(!std::is_same_v<std::remove_cvref_t<Exec>, ExecutorRef> &&
           Executor<std::remove_reference_t<Exec>>) ExecutorRef(Exec&& exec)
  noexcept  // implicit: it is there to be passed
      : exec_(const_cast<void*>(static_cast<const void*>(&exec))),
        concurrency_([](void* e) {
          return static_cast<std::size_t>(
              static_cast<std::remove_reference_t<Exec>*>(e)->concurrency());
        }),
        parallel_([](void* e, std::size_t n, Body body) {
          static_cast<std::remove_reference_t<Exec>*>(e)->parallel(n, body);
        }),
        proceed_([](void* e) {
          return rwkv::proceed(*static_cast<std::remove_reference_t<Exec>*>(e));
        }) {}

  [[nodiscard]] std::size_t concurrency() const { return concurrency_(exec_); }
  [[nodiscard]] bool proceed() const { return proceed_(exec_); }
  /// See `Executor`. A single call does not trouble the executor.
  template <class F>
  void parallel(std::size_t n, F&& f) const {
    if (n == 1) {
      f(std::size_t{0});
      return;
    }
    parallel_(exec_, n,
              {const_cast<void*>(static_cast<const void*>(&f)),
               [](void* g, std::size_t i) { (*static_cast<std::remove_reference_t<F>*>(g))(i); }});
  }

 private:
  struct Body {
    void* f;
    void (*call)(void*, std::size_t);
    void operator()(std::size_t i) const { call(f, i); }
  };
  static constexpr Serial serial{};

  void* exec_;
  std::size_t (*concurrency_)(void*);
  void (*parallel_)(void*, std::size_t, Body);
  bool (*proceed_)(void*);
};

/// The part of [0, items) that belongs to worker `index` of `workers`: contiguous, sizes differing
/// by at most one `grain`, every boundary a multiple of `grain`.
struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};
constexpr Range share(std::size_t items, std::size_t workers, std::size_t index,
                      std::size_t grain = 1) noexcept {
  const std::size_t grains = (items + grain - 1) / grain;
  // n * i / workers, without a product that may overflow
  const auto cut = [&](std::size_t i) {
    return (grains / workers * i + grains % workers * i / workers) * grain;
  };
  const std::size_t begin = cut(index);
  const std::size_t end = cut(index + 1);
  return {begin < items ? begin : items, end < items ? end : items};
}

}  // namespace rwkv::inline RWKV_ABI
