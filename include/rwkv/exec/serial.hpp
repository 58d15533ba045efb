// SPDX-License-Identifier: Apache-2.0
// Who runs the loops. An executor is any type with the two members of `Executor`; the library only
// ever hands it index ranges whose iterations are independent, and no result depends on who runs
// them.
#pragma once

#include <rwkv/core/config.hpp>

#include <concepts>

namespace rwkv::inline RWKV_ABI {

/// `parallel(n, f)` calls f(0) ... f(n - 1), each exactly once, in any order and possibly at the
/// same time, and returns when all have returned (their writes then being visible to the caller).
/// `concurrency()` says how many calls can make progress at once; the library never passes a larger
/// n. f does not throw. An application adapts its own scheduler by writing these two functions.
template <class E>
concept Executor = requires(E& e, std::size_t n, void (*f)(std::size_t)) {
  { e.concurrency() } -> std::convertible_to<std::size_t>;
  e.parallel(n, f);
};

/// Runs everything on the calling thread: no threads in the binary. Stateless, freely shared.
class Serial {
 public:
  [[nodiscard]] static constexpr std::size_t concurrency() noexcept { return 1; }
  template <class F>
  constexpr void parallel(std::size_t n, F&& f) const {
    for (std::size_t i = 0; i < n; ++i) f(i);
  }
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
