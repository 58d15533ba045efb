// SPDX-License-Identifier: Apache-2.0
// Random numbers that are the same on every platform, with a state that can be saved.
#pragma once

#include <rwkv/core/config.hpp>

#include <array>
#include <bit>
#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// xoshiro256**: 256 bits of state, period 2^256 - 1. A value type.
class Random {
 public:
  using State = std::array<std::uint64_t, 4>;

  explicit Random(std::uint64_t seed) noexcept {
    for (std::uint64_t& word : state_) {  // splitmix64: nearby seeds give unrelated states
      std::uint64_t z = (seed += 0x9e3779b97f4a7c15u);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      word = z ^ (z >> 31);
    }
  }
  explicit Random(const State& state) noexcept : state_(state) {}

  [[nodiscard]] const State& state() const noexcept { return state_; }

  std::uint64_t next() noexcept {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// Uniform in [0, n), n > 0, without bias.
  std::size_t below(std::size_t n) noexcept {
    const std::uint64_t rejected = (std::uint64_t{0} - n) % n;  // 2^64 mod n
    std::uint64_t x = next();
    while (x < rejected) x = next();
    return static_cast<std::size_t>(x % n);
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// Standard normal (polar method).
  double normal() noexcept {
    for (;;) {
      const double u = 2.0 * uniform() - 1.0, v = 2.0 * uniform() - 1.0, s = u * u + v * v;
      if (s > 0.0 && s < 1.0) return u * std::sqrt(-2.0 * std::log(s) / s);
    }
  }

 private:
  State state_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
