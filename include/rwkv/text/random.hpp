// SPDX-License-Identifier: Apache-2.0
// Random numbers that are the same on every machine: SplitMix64. A counter that steps by 2^64
// divided by the golden ratio, each value scrambled by two multiply-xorshift rounds; period 2^64.
#pragma once

#include <rwkv/core/config.hpp>

#include <bit>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// A value type of 8 bytes: a copy continues with the same numbers.
class SplitMix64 {
 public:
  constexpr explicit SplitMix64(std::uint64_t seed = 0) noexcept : counter_(seed) {}

  /// 64 random bits.
  constexpr std::uint64_t next() noexcept {
    std::uint64_t z = counter_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }

  /// A number in [0, n), all equally likely. Precondition: n > 0. Takes two draws at the most on
  /// average.
  constexpr std::uint64_t below(std::uint64_t n) noexcept {
    RWKV_ASSERT(n > 0);
    const std::uint64_t mask = n == 1 ? 0 : ~std::uint64_t{0} >> std::countl_zero(n - 1);
    for (;;)
      if (const std::uint64_t drawn = next() & mask; drawn < n) return drawn;
  }

 private:
  std::uint64_t counter_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
