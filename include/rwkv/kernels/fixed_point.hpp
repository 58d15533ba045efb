// SPDX-License-Identifier: Apache-2.0
// Arithmetic in integers alone, for processors without a floating-point unit: what a model computes
// in it has the same bits everywhere. Nothing overflows: numbers stop at the end of their range.
// Freestanding.
//
// Qf: an integer that counts units of 2^-f. Activations are Q16 within +-2^30 units (16384).
#pragma once

#include <rwkv/core/config.hpp>

#include <array>
#include <bit>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::fixed {

using Int = std::int32_t;
using Word = std::uint32_t;

/// Activations: Q16, and where they stop.
inline constexpr int fraction = 16;
inline constexpr Int limit = (Int{1} << 30) - 1;
/// What is below one: sigmoids, decays, parts of a unit vector.
inline constexpr int unit_fraction = 30;
inline constexpr Int one = Int{1} << unit_fraction;

/// Has as many bits as |x|, or one less for -2^n.
[[nodiscard]] RWKV_INLINE constexpr Word magnitude(Int x) noexcept {
  return static_cast<Word>(x ^ (x >> 31));
}
/// How many bits these numbers need beside a sign; 0: all are 0 or -1.
[[nodiscard]] constexpr int bits_of(Word magnitudes) noexcept {
  return 32 - std::countl_zero(magnitudes);
}
[[nodiscard]] constexpr int bits_of(const Int* x, std::size_t n) noexcept {
  Word all = 0;
  for (std::size_t i = 0; i < n; ++i) all |= magnitude(x[i]);
  return bits_of(all);
}

[[nodiscard]] RWKV_INLINE constexpr Int saturated(std::int64_t x) noexcept {
  return x > limit ? limit : x < -limit ? -limit : static_cast<Int>(x);
}
[[nodiscard]] RWKV_INLINE constexpr Int clamped(Int x) noexcept {
  return x > limit ? limit : x < -limit ? -limit : x;
}
/// a + b, each within the limit.
[[nodiscard]] RWKV_INLINE constexpr Int sum(Int a, Int b) noexcept { return clamped(a + b); }

/// x 2^-by, to the nearest, for by from 1 to 31.
[[nodiscard]] RWKV_INLINE constexpr Int halved(Int x, int by) noexcept {
  return static_cast<Int>(static_cast<Word>(x >> (by - 1)) + 1) >> 1;
}
/// x 2^by, to the nearest, for which there is room.
[[nodiscard]] RWKV_INLINE constexpr Int moved(Int x, int by) noexcept {
  return by >= 0    ? static_cast<Int>(static_cast<Word>(x) << (by & 31))
         : by < -31 ? 0
                    : halved(x, -by);
}
/// x 2^by, to the nearest; stops at the limit if by > 0.
[[nodiscard]] constexpr Int scaled(Int x, int by) noexcept {
  if (by > 0) {
    if (bits_of(magnitude(x)) + by > 30) return x > 0 ? limit : x < 0 ? -limit : 0;
    return static_cast<Int>(static_cast<Word>(x) << by);
  }
  if (by == 0) return x;
  return by < -31 ? 0 : halved(x, -by);
}

/// Whether a product of 64 bits is a call of a function (Cortex-M0).
#if defined(__thumb__) && !defined(__thumb2__)
inline constexpr bool long_products_are_slow = true;
#else
inline constexpr bool long_products_are_slow = false;
#endif

/// a b 2^-32, rounded down.
template <bool Short = long_products_are_slow>
[[nodiscard]] constexpr Word high(Word a, Word b) noexcept {
  if constexpr (!Short) return static_cast<Word>(std::uint64_t{a} * b >> 32);
  const Word a0 = a & 0xffff, a1 = a >> 16, b0 = b & 0xffff, b1 = b >> 16;
  const Word middle = a1 * b0 + (a0 * b0 >> 16);
  const Word other = a0 * b1 + (middle & 0xffff);
  return a1 * b1 + (middle >> 16) + (other >> 16);
}

/// c + a b 2^-Shift, to the nearest, for |c| up to the limit.
template <unsigned Shift, bool Short = long_products_are_slow>
[[nodiscard]] RWKV_INLINE constexpr Int product(Int a, Int b, Int c = 0) noexcept {
  if constexpr (Short && Shift == 16)
    if ((magnitude(a) >> 23 | magnitude(b) >> 22) == 0) {  // a b 2^-16 has 29 bits
      const auto a0 = static_cast<Word>(a) & 0xffff, b0 = static_cast<Word>(b) & 0xffff;
      const Int low = static_cast<Int>((a0 * b0 + 0x8000) >> 16);
      return sum(c, (a >> 16) * b + static_cast<Int>(a0) * (b >> 16) + low);
    }
  const std::int64_t p = std::int64_t{a} * b + (std::int64_t{1} << (Shift - 1));
  constexpr Word most = Word{1} << (Shift - 2);  // of the upper half of what is within the limit
  if (static_cast<Word>(p >> 32) + most < 2 * most)
    return clamped(static_cast<Int>(p >> Shift) + c);
  return saturated((p >> Shift) + c);
}

/// The bits of a float as Q`to`, to the nearest, which stops at the limit. Infinities and NaNs are
/// large numbers.
[[nodiscard]] constexpr Int from_float(Word bits, int to = fraction) noexcept {
  const int exponent = static_cast<int>(bits >> 23 & 255);
  if (exponent == 0) return 0;
  const auto x = static_cast<Int>((bits & 0x7fffff) | 0x800000);
  const int down = 150 - to - exponent;
  const Int y = down > 0 && down < 32 ? halved(x, down) : scaled(x, -down);
  return static_cast<Int>(bits) < 0 ? -y : y;
}
[[nodiscard]] RWKV_INLINE Int from_float(float f, int to = fraction) noexcept {
  return from_float(std::bit_cast<Word>(f), to);
}
/// The float next to an activation, towards zero.
[[nodiscard]] constexpr float to_float(Int x) noexcept {
  if (x == 0) return 0;
  const Word size = x < 0 ? Word{0} - static_cast<Word>(x) : static_cast<Word>(x);
  const int zeros = std::countl_zero(size);
  const Word exponent = static_cast<Word>(127 + 31 - fraction - zeros);
  return std::bit_cast<float>((x < 0 ? 0x80000000u : 0u) | exponent << 23 |
                              (size << zeros >> 8 & 0x7fffffu));
}

/// x for which x^2 = n, in Q16.
[[nodiscard]] constexpr Word root_of(std::size_t n) noexcept {
  std::uint64_t x = 0;
  for (std::uint64_t bit = std::uint64_t{1} << 31; bit != 0; bit >>= 1)
    if ((x | bit) * (x | bit) <= std::uint64_t{n} << 32) x |= bit;
  return static_cast<Word>(x);
}

/// 2^30 / sqrt(a 2^-32) for a from 2^30 up: 2^30 to 2^31, to a relative 2^-27.
[[nodiscard]] constexpr Word inverse_root(Word a) noexcept {
  // A line is off by at most 9 %, and e becomes 1.5 e^2 in each round of y (3 - a y^2) / 2.
  Word y = 2287070085u - high(a, 1304596316u);
  for (int i = 0; i < 4; ++i) {
    const Word square = high(y, y);                       // Q28
    const Word t = 0xc0000000u - (high(a, square) << 2);  // 3 - a y^2, Q30
    y = high(y, t) << 1;                                  // halved
  }
  return y;
}

/// A sum of squares, at least 2^28, and one over its root: x / root = x * inverse 2^-(62 - half).
struct InverseRoot {
  Word inverse;  ///< Q30, from 1 to 2
  int half;      ///< half the zeros in front of the sum
};
[[nodiscard]] constexpr InverseRoot inverse_root_of(std::uint64_t sum) noexcept {
  const int zeros = std::countl_zero(sum) & ~1;
  return {inverse_root(static_cast<Word>(sum << zeros >> 32)), zeros / 2};
}

namespace detail {

/// round(2^31 * 2^(-i / 16))
inline constexpr std::array<Word, 16> powers = [] {
  std::array<Word, 16> table{};
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double x = static_cast<double>(i) / 16 * 0.69314718055994530942;
    double sum = 0;
    for (int n = 24; n > 0; --n) sum = (1 + sum) * -x / n;  // Horner's form of exp(-x) - 1
    table[i] = static_cast<Word>(0x1p31 * (1 + sum) + 0.5);
  }
  return table;
}();

}  // namespace detail

/// 2^(31 - whole - part 2^-32), to a relative 2^-22.
[[nodiscard]] constexpr Word exp2_negative(Word whole, Word part) noexcept {
  if (whole > 31) return 0;
  // The series of e^-x up to x^3, x being less than ln 2 / 16.
  const Word x = high(part & 0x0fffffffu, 0xb17217f8u);
  const Word square = high(x, x);
  const Word series = 0xffffffffu - x + (square >> 1) - high(high(square, x), 0x2aaaaaabu);
  return high(detail::powers[part >> 28], series) >> whole;
}

/// 1 / (1 + e^-x) of an activation, in Q30.
[[nodiscard]] constexpr Int sigmoid(Int x) noexcept {
  const auto size = static_cast<Word>(x < 0 ? -x : x);
  const std::uint64_t octaves = std::uint64_t{size} * 0xb8aa3b29u;  // log2(e), Q31: Q47
  const Word e = exp2_negative(static_cast<Word>(octaves >> 47), static_cast<Word>(octaves >> 15));
  const Word d = 0x40000000u + (e >> 1);  // 1 + e, Q30
  // 24/17 - 8/17 d is off by 1/17 of 1/d, and that is squared in each round of y (2 - d y).
  Word y = 0xb4b4b4b5u - d + high(d, 0x0f0f0f0fu);  // 1 / d, Q31
  for (int i = 0; i < 3; ++i) y = high(y, (0x40000000u - high(d, y)) << 2) << 1;
  if (y > 0x80000000u) y = 0x80000000u;
  return static_cast<Int>(x < 0 ? high(e, y) : y >> 1);
}

/// Of an activation, as an activation.
[[nodiscard]] constexpr Int tanh(Int x) noexcept {
  const Int twice = x > limit / 2 ? limit : x < -limit / 2 ? -limit : 2 * x;
  return (sigmoid(twice) - one / 2 + (1 << 12)) >> 13;
}

/// exp(-exp(-1/2) s) of a sigmoid, in Q30.
[[nodiscard]] constexpr Int decay(Int s) noexcept {
  const Word octaves = high(static_cast<Word>(s) << 2, 0xe0028a89u);  // exp(-1/2) log2(e), Q32
  return static_cast<Int>(exp2_negative(0, octaves) >> 1);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::fixed
