// SPDX-License-Identifier: Apache-2.0
// Numbers for tests: random ones, arrays on awkward addresses, comparison by bits.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/core/half.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

namespace test {

inline std::uint32_t bits(float f) { return std::bit_cast<std::uint32_t>(f); }
inline float from_bits(std::uint32_t u) { return std::bit_cast<float>(u); }

/// A NaN equals itself and -0 differs from 0.
inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

template <class T>
T narrow(float f) {
  if constexpr (std::is_same_v<T, rwkv::half>)
    return rwkv::to_half(f);
  else if constexpr (std::is_same_v<T, rwkv::bfloat16>)
    return rwkv::to_bfloat16(f);
  else
    return f;
}

/// The same numbers on every platform, unlike the distributions of the standard library.
class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  /// Uniform in [low, high).
  float operator()(float low = -1.0f, float high = 1.0f) {
    return low + (high - low) * (static_cast<float>(word() >> 8) * 0x1p-24f);
  }
  /// Uniform in [0, n).
  std::size_t below(std::size_t n) { return word() % n; }
  std::uint32_t word() { return static_cast<std::uint32_t>(engine_()); }

 private:
  std::mt19937 engine_;
};

/// n elements, the first `offset` elements behind a cache line's start, the last at the very end of
/// an allocation, where AddressSanitizer sees every step too far.
template <class T>
class Misaligned {
 public:
  explicit Misaligned(std::size_t n, std::size_t offset = 1)
      : memory_(offset + n), offset_(offset) {}
  [[nodiscard]] T* data() { return memory_.data() + offset_; }
  [[nodiscard]] const T* data() const { return memory_.data() + offset_; }
  [[nodiscard]] std::size_t size() const { return memory_.size() - offset_; }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size(); }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size(); }

 private:
  rwkv::Buffer<T, rwkv::dynamic> memory_;
  std::size_t offset_;
};

/// Fills anything that can be iterated with random numbers.
template <class To>
void fill(To& to, Random& random, float low = -1.0f, float high = 1.0f) {
  for (auto& element : to)
    element = narrow<std::remove_reference_t<decltype(element)>>(random(low, high));
}

/// What a result must not touch is filled with this first.
inline const float canary = from_bits(0x7fedcba9u);

}  // namespace test
