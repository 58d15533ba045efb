// SPDX-License-Identifier: Apache-2.0
// The bit manipulations of half.hpp against rounding in double, written from the definition of the
// formats.
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/core/half.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace {

using rwkv::bfloat16;
using rwkv::half;
using rwkv::to_float;

/// A binary format of 16 bits.
struct Format {
  int fraction;      // bits of the fraction
  int min_exponent;  // of normal numbers
  int max_exponent;

  [[nodiscard]] std::uint32_t infinity() const {
    return static_cast<std::uint32_t>(max_exponent - min_exponent + 2) << fraction;
  }

  /// The value that finite `bits` stand for.
  [[nodiscard]] double value(std::uint32_t bits) const {
    const auto magnitude = static_cast<int>(bits & 0x7fffu);
    const int exponent = magnitude >> fraction;
    const int digits = magnitude & ((1 << fraction) - 1);
    const double absolute = exponent == 0 ? std::ldexp(digits, min_exponent - fraction)
                                          : std::ldexp(digits + (1 << fraction),
                                                       exponent - 1 + min_exponent - fraction);
    return (bits & 0x8000u) != 0 ? -absolute : absolute;
  }

  /// The bits of the nearest number, the even one on ties.
  [[nodiscard]] std::uint32_t nearest(double x) const {
    const std::uint32_t sign = std::signbit(x) ? 0x8000u : 0u;
    x = std::abs(x);
    if (x == 0) return sign;
    const int exponent = std::max(std::isinf(x) ? max_exponent : std::ilogb(x), min_exponent);
    const double digits = std::nearbyint(std::ldexp(x, fraction - exponent));
    const double rounded = std::ldexp(digits, exponent - fraction);
    if (rounded >= std::ldexp(1.0, max_exponent + 1)) return sign | infinity();
    // Consecutive bit patterns are consecutive numbers, carries included.
    const auto binade = static_cast<std::uint32_t>(exponent - min_exponent) << fraction;
    return sign | (binade + static_cast<std::uint32_t>(digits));
  }
};

constexpr Format binary16{10, -14, 15};
constexpr Format brain16{7, -126, 127};

template <class T>
struct Conversion;
template <>
struct Conversion<half> {
  static constexpr const Format& format = binary16;
  static std::uint32_t narrow(float f) { return rwkv::to_half(f).bits; }
};
template <>
struct Conversion<bfloat16> {
  static constexpr const Format& format = brain16;
  static std::uint32_t narrow(float f) { return rwkv::to_bfloat16(f).bits; }
};

}  // namespace

TEST_CASE_TEMPLATE("all 65536 bit patterns widen exactly and come back", T, half, bfloat16) {
  const Format& format = Conversion<T>::format;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    CAPTURE(bits);
    const float f = to_float(T{static_cast<std::uint16_t>(bits)});
    REQUIRE(std::signbit(f) == ((bits & 0x8000u) != 0));
    if ((bits & 0x7fffu) > format.infinity()) {
      REQUIRE(std::isnan(f));
      const std::uint32_t back = Conversion<T>::narrow(f);
      REQUIRE((back & 0x7fffu) > format.infinity());
      REQUIRE((back & 0x8000u) == (bits & 0x8000u));
      continue;
    }
    if ((bits & 0x7fffu) == format.infinity())
      REQUIRE(std::isinf(f));
    else
      REQUIRE(double{f} == format.value(bits));
    REQUIRE(Conversion<T>::narrow(f) == bits);
  }
}

TEST_CASE_TEMPLATE("narrowing rounds to nearest, ties to even", T, half, bfloat16) {
  const Format& format = Conversion<T>::format;
  const float infinity = std::numeric_limits<float>::infinity();
  const auto check = [&](float f) {
    CAPTURE(f);
    REQUIRE(Conversion<T>::narrow(f) == format.nearest(f));
    REQUIRE(Conversion<T>::narrow(-f) == format.nearest(-f));
  };

  SUBCASE("at every number, at every midpoint, and right beside them") {
    test::Thinned numbers(5);
    for (std::uint32_t bits = 0; bits < format.infinity(); ++bits) {
      if (numbers.leaves_out()) continue;
      const double low = format.value(bits);
      // Behind the largest number a further one is imagined: its midpoint is where infinity begins.
      const double high = bits + 1 < format.infinity() ? format.value(bits + 1)
                                                       : std::ldexp(1.0, format.max_exponent + 1);
      for (const double point : {low, (low + high) / 2}) {
        const auto f = static_cast<float>(point);
        REQUIRE(double{f} == point);
        check(f);
        check(std::nextafter(f, infinity));
        if (f > 0) check(std::nextafter(f, 0.0f));
      }
    }
  }
  SUBCASE("everywhere else") {
    for (std::uint64_t bits = 0; bits <= 0x7f800000u; bits += 2039)
      check(test::from_bits(static_cast<std::uint32_t>(bits)));
    check(std::numeric_limits<float>::max());
    check(infinity);
  }
}

TEST_CASE_TEMPLATE("every NaN stays a NaN of its sign", T, half, bfloat16) {
  const auto check = [](std::uint32_t bits) {
    CAPTURE(bits);
    for (const std::uint32_t sign : {0u, 0x80000000u}) {
      const std::uint32_t narrowed = Conversion<T>::narrow(test::from_bits(sign | bits));
      REQUIRE((narrowed & 0x7fffu) > Conversion<T>::format.infinity());
      REQUIRE((narrowed >> 15) == (sign >> 31));
    }
  };
  for (std::uint32_t bits = 0x7f800001u; bits < 0x7fffffffu; bits += 509) check(bits);
  for (int shift = 0; shift < 23; ++shift) check(0x7f800000u | 1u << shift);
  check(0x7fffffffu);
}

TEST_CASE("conversions are constant expressions") {
  static_assert(to_float(half{0x3c00}) == 1.0f);
  static_assert(to_float(half{0x0001}) == 0x1p-24f);
  static_assert(to_float(bfloat16{0xc000}) == -2.0f);
  static_assert(to_float(0.5f) == 0.5f);
  static_assert(rwkv::to_half(65504.0f) == half{0x7bff});
  static_assert(rwkv::to_half(0x1p-24f) == half{1});
  static_assert(rwkv::to_bfloat16(-2.0f) == bfloat16{0xc000});
  static_assert(sizeof(half) == 2 && sizeof(bfloat16) == 2);
}

TEST_CASE("floats of 8 bits are what their bits say") {
  static_assert(rwkv::float_from_e4m3(0x38) == 1.0f && rwkv::float_from_e4m3(0xb8) == -1.0f);
  static_assert(rwkv::float_from_e4m3(0x7e) == 448.0f && rwkv::float_from_e4m3(0x01) == 0x1p-9f);
  static_assert(rwkv::float_from_e5m2(0x3c) == 1.0f && rwkv::float_from_e5m2(0x7b) == 57344.0f);
  for (unsigned bits = 0; bits < 256; ++bits) {
    CAPTURE(bits);
    const auto byte = static_cast<std::uint8_t>(bits);
    const float sign = (bits & 0x80u) != 0 ? -1.0f : 1.0f;
    const auto value = [&](unsigned fraction_bits, int bias) {
      const unsigned exponent = (bits & 0x7fu) >> fraction_bits;
      const auto fraction = static_cast<float>(bits & ((1u << fraction_bits) - 1));
      const float unit = std::ldexp(1.0f, -static_cast<int>(fraction_bits));
      return sign * (exponent == 0
                         ? std::ldexp(fraction * unit, 1 - bias)
                         : std::ldexp(1 + fraction * unit, static_cast<int>(exponent) - bias));
    };
    if ((bits & 0x7fu) == 0x7fu)
      CHECK(std::isnan(rwkv::float_from_e4m3(byte)));
    else
      CHECK(rwkv::float_from_e4m3(byte) == value(3, 7));
    if ((bits & 0x7fu) < 0x7cu) CHECK(rwkv::float_from_e5m2(byte) == value(2, 15));
    const float narrow = rwkv::float_from_e4m3(byte);  // bf16 holds them exactly
    if (!std::isnan(narrow)) CHECK(rwkv::to_float(rwkv::to_bfloat16(narrow)) == narrow);
  }
  CHECK(std::isinf(rwkv::float_from_e5m2(0x7c)));
  CHECK(std::isnan(rwkv::float_from_e5m2(0x7d)));
}
