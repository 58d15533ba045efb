// SPDX-License-Identifier: Apache-2.0
// Stopping a forward pass that has begun: a long prompt through a large model takes seconds.
#pragma once

#include <rwkv/exec/serial.hpp>

#include <utility>

namespace rwkv::inline RWKV_ABI {

/// Another executor, and a question: `cancelled()` is asked between layers, on the calling thread,
/// and true abandons the pass, as does a false `proceed` of that executor. What the pass was to change (states, logits) is then worth nothing;
/// keep a copy of the state to go back to:
///
///     const rwkv::State before = state;
///     rwkv::Cancellable exec(pool, [&] { return stop.stop_requested(); });
///     auto logits = model.forward(state, tokens, work, exec);
///     if (exec.stopped()) state = before;
///
/// `generate` does this for `GenerateOptions::cancelled`. For one thread at a time.
template <class Cancelled>
class Cancellable {
 public:
  Cancellable(ExecutorRef exec, Cancelled cancelled)
      : exec_(exec), cancelled_(std::move(cancelled)) {}

  [[nodiscard]] std::size_t concurrency() const { return exec_.concurrency(); }
  template <class F>
  void parallel(std::size_t n, F&& f) const {
    exec_.parallel(n, f);
  }
  [[nodiscard]] bool proceed() {
    if (!stopped_) stopped_ = !exec_.proceed() || cancelled_();
    return !stopped_;
  }
  /// A pass was abandoned; later ones would be, too.
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  ExecutorRef exec_;
  Cancelled cancelled_;
  bool stopped_ = false;
};

}  // namespace rwkv::inline RWKV_ABI
