// SPDX-License-Identifier: Apache-2.0
// The learning rate over a training run.
#pragma once

#include <rwkv/core/config.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// Cosine from `initial` to `final` over `steps`, after a linear warm-up from 1 % of it.
struct Schedule {
  double initial = 6e-4;
  double final = 6e-5;
  std::uint64_t steps = 1000;  ///< afterwards the rate stays at `final`
  std::uint64_t warm_up = 10;

  /// The learning rate of step 0, 1, 2, ...
  [[nodiscard]] double at(std::uint64_t step) const noexcept {
    const double progress =
        steps <= warm_up ? 1.0
                         : std::clamp((static_cast<double>(step) - static_cast<double>(warm_up)) /
                                          static_cast<double>(steps - warm_up),
                                      0.0, 1.0);
    const double cosine =
        final + (initial - final) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
    if (step >= warm_up) return cosine;
    return initial * (0.01 + 0.99 * static_cast<double>(step) / static_cast<double>(warm_up));
  }
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
