// SPDX-License-Identifier: Apache-2.0
// Floats in integers: the bits of the processor's own.
#include <rwkv/simd/scalar.hpp>
#include <rwkv/simd/soft_float.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>

namespace {

namespace soft = rwkv::simd::soft;

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// Numbers of every kind: of about the same size, subnormal, with few bits, zeros and infinities.
class Numbers {
 public:
  float operator()() {
    std::uint32_t bits = next();
    switch (next() % 7) {
      case 0:
        bits &= 0x80ffffffu;
        break;
      case 1:
        bits = (bits & 0x80000000u) | bits % 3 * (0x7f800000u / 2);
        break;
      case 2:
        bits = (bits & 0x80000fffu) | (120 + bits / 4096 % 8) << 23;
        break;
      case 3:
        break;
      case 4:  // few runs of ones, whose products are often halfway between two numbers
        bits = (bits & 0x80000000u) | (110 + bits % 34) << 23 |
               ((0x7fffffu >> bits / 64 % 24 & ~(0x7fffffu >> bits / 2048 % 24)) ^
                (bits & 0x100u ? 0x7fffffu : 0u));
        break;
      default:
        bits = (bits & 0x807fffffu) | (110 + next() % 34) << 23;
    }
    return std::bit_cast<float>(bits);
  }
  std::uint32_t below(std::uint32_t n) { return next() % n; }

 private:
  std::uint32_t next() { return static_cast<std::uint32_t>(random_()); }
  std::mt19937 random_{1};
};

}  // namespace

TEST_CASE("sums, products and fused multiply-adds are rounded once, to nearest even") {
  // Halfway between two numbers: rounded by the bit of c, but for none that is not there.
  CHECK(same(soft::fused_multiply_add(8885504.0f, 15856707.0f, 256.0f),
             std::fma(8885504.0f, 15856707.0f, 256.0f)));
  Numbers number;
  for (int i = 0; i < 300'000; ++i) {
    const float a = number(), b = number();
    float c = number();
    if (i % 4 == 0)  // near cancellation
      c = std::bit_cast<float>((std::bit_cast<std::uint32_t>(a * b) ^ 0x80000000u) +
                               number.below(5) - 2);
    CAPTURE(a);
    CAPTURE(b);
    CAPTURE(c);
    REQUIRE(same(soft::add(a, b), a + b));
    REQUIRE(same(soft::multiply(a, b), a * b));
    REQUIRE(same(soft::fused_multiply_add(a, b, c), std::fma(a, b, c)));
  }
}

TEST_CASE("square roots by integers are rounded to nearest") {
  Numbers number;
  for (int i = 0; i < 100'000; ++i) {
    const float x = i < 100 ? std::bit_cast<float>(static_cast<std::uint32_t>(i)) : number();
    CAPTURE(x);
    REQUIRE(same(rwkv::simd::root_by_integers(x), std::sqrt(x)));
  }
}
