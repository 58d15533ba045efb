// SPDX-License-Identifier: Apache-2.0
// Greedy choice. Freestanding: no heap, no exceptions.
#pragma once

#include <rwkv/core/config.hpp>

#include <span>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The index of the largest number, the lowest of several. NaN is never chosen; 0 if there is
/// nothing to choose from.
[[nodiscard]] constexpr Token argmax(std::span<const float> logits) noexcept {
  std::size_t best = 0;
  bool found = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (found ? logits[i] > logits[best] : logits[i] == logits[i]) {
      best = i;
      found = true;
    }
  }
  return static_cast<Token>(best);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
