// SPDX-License-Identifier: Apache-2.0
// exp(-x) in 64-bit integers. Sums of integers are exact: they do not depend on their order, on
// vector width or on contraction to fused operations. So probabilities compare and add up the same
// on every machine.
#pragma once

#include <rwkv/core/config.hpp>

#include <array>
#include <bit>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// round(2^31 * 2^(-i / 256))
inline constexpr std::array<std::uint32_t, 256> fixed_exp_steps = [] {
  std::array<std::uint32_t, 256> steps{};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const double x = static_cast<double>(i) / 256 * 0.69314718055994530942;
    double sum = 0;
    for (int n = 24; n > 0; --n) sum = (1 + sum) * -x / n;  // Horner's form of exp(-x) - 1
    steps[i] = static_cast<std::uint32_t>(0x1p31 * (1 + sum) + 0.5);
  }
  return steps;
}();

}  // namespace detail

/// 2^40 exp(-x / temperature) for x >= 0, to a relative 2^-27 and rounded down; 0 beyond 40
/// octaves.
class FixedExp {
 public:
  static constexpr std::uint64_t one = std::uint64_t{1} << 40;

  /// Precondition: temperature > 0.
  constexpr explicit FixedExp(float temperature) noexcept
      : scale_(1.4426950408889634074 * 0x1p32 / static_cast<double>(temperature)) {}

  /// x may be infinite.
  [[nodiscard]] constexpr std::uint64_t operator()(float x) const noexcept {
    const double octaves = static_cast<double>(x) * scale_;  // in units of 2^-32
    if (!(octaves < 41 * 0x1p32)) return 0;
    const auto q = static_cast<std::uint64_t>(static_cast<std::int64_t>(octaves));
    // 2^-q = 2^-whole * 2^-(step / 256) * exp(-t), the last by its series up to t^2
    const std::uint64_t whole = q >> 32;
    const std::size_t step = q >> 24 & 255;
    const std::uint64_t t = (q & 0xffffff) * ln2 >> 32;
    const std::uint64_t series = (std::uint64_t{1} << 32) - t + (t * t >> 33);
    return detail::fixed_exp_steps[step] * series >> (23 + whole);
  }

  /// The largest x at which it is at least `share` of its value at 0, found bit by bit.
  [[nodiscard]] constexpr float farthest(float share) const noexcept {
    const double least = share * static_cast<double>(one);
    std::uint32_t key = 0;
    for (std::uint32_t bit = 1u << 30; bit != 0; bit >>= 1)
      if (static_cast<double>((*this)(std::bit_cast<float>(key | bit))) >= least) key |= bit;
    return std::bit_cast<float>(key);
  }

  /// What x is multiplied with: octaves in units of 2^-32.
  [[nodiscard]] constexpr double scale() const noexcept { return scale_; }

 private:
  static constexpr std::uint64_t ln2 = 0xb17217f8;  // in units of 2^-32
  double scale_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
