// SPDX-License-Identifier: Apache-2.0
// simd::Native, and the compiler's vectors, do what simd::Scalar does, bit for bit.
#include "support/numbers.hpp"
#include <rwkv/simd/gnu_lanes.hpp>
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace {

using rwkv::simd::Native;
using rwkv::simd::Scalar;
using test::bits;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float no_number = std::numeric_limits<float>::quiet_NaN();

const std::vector<float> special = {0.0f,
                                    -0.0f,
                                    1.0f,
                                    -1.0f,
                                    0.1f,
                                    -3.7f,
                                    16777217.0f,
                                    std::numeric_limits<float>::min(),
                                    std::numeric_limits<float>::denorm_min(),
                                    -std::numeric_limits<float>::denorm_min(),
                                    std::numeric_limits<float>::max(),
                                    std::numeric_limits<float>::lowest(),
                                    infinity,
                                    -infinity,
                                    no_number};

/// Triples of operands: all pairs of special ones, then random ones of every magnitude.
struct Operands {
  std::vector<float> a, b, c;

  Operands() {
    for (const float x : special)
      for (const float y : special) push(x, y, x + y);
    test::Random random(1);
    for (int i = 0; i < 20000; ++i)
      push(test::from_bits(random.word()), test::from_bits(random.word()),
           test::from_bits(random.word()));
    for (int i = 0; i < 20000; ++i) push(random(), random(), random());
    while (a.size() % 64 != 0) push(1.0f, 2.0f, 3.0f);
  }

 private:
  void push(float x, float y, float z) { a.push_back(x), b.push_back(y), c.push_back(z); }
};

/// A NaN is a NaN whatever its payload; everything else is compared by bits.
bool same(float x, float y) { return std::isnan(x) ? std::isnan(y) : bits(x) == bits(y); }

/// Compares operation.operator()<L>(a, b, c) for lanes of type Vector and scalars.
template <class Vector, class Operation>
void check_lanes(const Operands& given, Operation operation) {
  std::vector<float> vector(Vector::width);
  for (std::size_t i = 0; i < given.a.size(); i += Vector::width) {
    operation
        .template operator()<Vector>(Vector::load(&given.a[i]), Vector::load(&given.b[i]),
                                     Vector::load(&given.c[i]))
        .store(vector.data());
    for (std::size_t k = 0; k < Vector::width; ++k) {
      const float a = given.a[i + k];
      const float b = given.b[i + k];
      const float c = given.c[i + k];
      const float scalar = operation.template operator()<Scalar>(Scalar{a}, Scalar{b}, Scalar{c}).v;
      CAPTURE(a);
      CAPTURE(b);
      CAPTURE(c);
      CAPTURE(vector[k]);
      CAPTURE(scalar);
      REQUIRE(same(vector[k], scalar));
    }
  }
}

template <class Operation>
void check(const Operands& given, Operation operation) {
  check_lanes<Native>(given, operation);
#if RWKV_GNU_VECTORS
  check_lanes<rwkv::simd::GnuLanes>(given, operation);
#endif
}

template <class L>
std::vector<float> lanes_of(L value) {
  std::vector<float> out(L::width);
  value.store(out.data());
  return out;
}

}  // namespace

TEST_CASE("load, store and broadcast keep every bit, at any address") {
  for (std::size_t offset = 0; offset < 17; ++offset) {
    test::Misaligned<float> from(Native::width, offset);
    for (float& f : from)
      f = test::from_bits(0x7f800001u + static_cast<std::uint32_t>(&f - from.data()));
    test::Misaligned<float> to(Native::width, offset + 1);
    Native::load(from.data()).store(to.data());
    CHECK(test::same_bits(from, to));
  }
  for (const float f : special)
    for (const float lane : lanes_of(Native::broadcast(f))) CHECK(bits(lane) == bits(f));
}

TEST_CASE_TEMPLATE("all 65536 bit patterns of 16 bits are widened exactly", T, rwkv::half,
                   rwkv::bfloat16) {
  for (std::size_t offset = 0; offset < 3; ++offset) {
    test::Misaligned<T> all(0x10000, offset);
    for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
    for (std::size_t i = 0; i < all.size(); i += Native::width) {
      const auto lanes = lanes_of(Native::load(all.data() + i));
      for (std::size_t k = 0; k < Native::width; ++k) {
        CAPTURE(i + k);
        REQUIRE(same(lanes[k], rwkv::to_float(all[i + k])));
        REQUIRE(same(Scalar::load(all.data() + i + k).v, rwkv::to_float(all[i + k])));
        REQUIRE(std::signbit(lanes[k]) == ((i + k) >= 0x8000));
      }
    }
  }
}

TEST_CASE("arithmetic rounds like one float at a time") {
  const Operands given;
  check(given, []<class L>(L a, L b, L) { return a + b; });
  check(given, []<class L>(L a, L b, L) { return a - b; });
  check(given, []<class L>(L a, L b, L) { return a * b; });
  check(given, []<class L>(L a, L b, L) { return a / b; });
  check(given, []<class L>(L a, L, L) { return sqrt(a); });
  check(given, []<class L>(L a, L b, L c) { return fma(a, b, c); });
  check(given, []<class L>(L a, L b, L c) { return select_less(a, b, c, a); });

  for (std::size_t i = 0; i < given.a.size(); ++i) {
    const float a = given.a[i];
    const float b = given.b[i];
    REQUIRE(same((Scalar{a} / Scalar{b}).v, a / b));
    REQUIRE(same(sqrt(Scalar{a}).v, std::sqrt(a)));
  }
}

TEST_CASE("fma rounds once where the processor can") {
  // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last bit is lost when the product is rounded by itself.
  const float x = 1.0f + 0x1p-12f;
  const float c = -(1.0f + 0x1p-11f);
#if RWKV_FUSES
  const float expected = 0x1p-24f;
#else
  const float expected = 0.0f;
#endif
  const auto three = []<class L>(L, float a, float b) {
    return lanes_of(fma(L::broadcast(a), L::broadcast(a), L::broadcast(b)));
  };
  for (const float lane : three(Native{}, x, c)) CHECK(lane == expected);
  for (const float lane : three(Scalar{}, x, c)) CHECK(lane == expected);
}

TEST_CASE("min and max let a NaN in the second place through") {
  const Operands given;
  for (std::size_t i = 0; i < given.a.size(); ++i) {
    const float a = given.a[i];
    const float b = given.b[i];
    if (std::isnan(a)) continue;  // callers put the variable second
    const float low = lesser(Scalar{a}, Scalar{b}).v;
    const float high = greater(Scalar{a}, Scalar{b}).v;
    REQUIRE(same(low, std::isnan(b) ? no_number : std::min(b, a)));
    REQUIRE(same(high, std::isnan(b) ? no_number : std::max(b, a)));
    if (a == 0 && b == 0) continue;  // which zero it is differs between processors
    REQUIRE(same(lanes_of(lesser(Native::broadcast(a), Native::broadcast(b)))[0], low));
    REQUIRE(same(lanes_of(greater(Native::broadcast(a), Native::broadcast(b)))[0], high));
  }
}

TEST_CASE("a comparison with NaN is false") {
  for (const float other : special) {
    CHECK(select_less(Scalar{no_number}, Scalar{other}, Scalar{1}, Scalar{2}).v == 2);
    CHECK(select_less(Scalar{other}, Scalar{no_number}, Scalar{1}, Scalar{2}).v == 2);
  }
}

TEST_CASE("exp2_of_biased makes every power of two of a normal number") {
  for (int n = -126; n <= 127; ++n) {
    const float shifted = static_cast<float>(n) + 0x1.8p23f;
    CAPTURE(n);
    CHECK(exp2_of_biased(add_exponent_bias(Scalar{shifted})).v == std::ldexp(1.0f, n));
    for (const float lane : lanes_of(exp2_of_biased(add_exponent_bias(Native::broadcast(shifted)))))
      CHECK(lane == std::ldexp(1.0f, n));
  }
}
