// SPDX-License-Identifier: Apache-2.0
// Registers of pairs of bfloat16: plain ones against the definition, those of the processor against
// plain ones.
#include "support/numbers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <cmath>

namespace {

using rwkv::bfloat16;

/// w0 x0 + w1 x1 + sum for the lanes of L, which loads w from two columns of 16.
template <class L>
std::vector<float> dot(const test::Misaligned<bfloat16>& w, const test::Misaligned<bfloat16>& x,
                       const test::Misaligned<float>& sum, std::size_t at) {
  using Pairs = typename L::Pairs;
  std::vector<float> out(L::width);
  const bfloat16* const column = w.data() + at;
  Pairs::dot(L::load(sum.data() + at), Pairs::load(column, column + 16), Pairs::broadcast(x.data()))
      .store(out.data());
  return out;
}

struct Operands {
  test::Misaligned<bfloat16> w, x;
  test::Misaligned<float> sum;

  explicit Operands(test::Random& random) : w(32, 3), x(2, 1), sum(16, 5) {
    test::fill(w, random);
    test::fill(x, random);
    test::fill(sum, random);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("a dot product of pairs is two fused multiply-adds", L, test::WideLanes<4>,
                   test::WideLanes<16>) {
  test::Random random(1);
  for (int round = 0; round < 1000; ++round) {
    const Operands o(random);
    for (std::size_t at = 0; at < 16; at += L::width) {
      const auto got = dot<L>(o.w, o.x, o.sum, at);
      for (std::size_t k = 0; k < L::width; ++k) {
        const auto number = [](bfloat16 b) { return rwkv::simd::Scalar{rwkv::to_float(b)}; };
        const auto second =
            fma(number(o.w[16 + at + k]), number(o.x[1]), rwkv::simd::Scalar{o.sum[at + k]});
        REQUIRE(test::bits(got[k]) ==
                test::bits(fma(number(o.w[at + k]), number(o.x[0]), second).v));
      }
    }
  }
}

TEST_CASE_TEMPLATE("the processor's pairs are those of plain arrays", L, rwkv::simd::Native) {
  if constexpr (rwkv::simd::HasPairs<L>) {
    test::Random random(2);
    for (int round = 0; round < 1000; ++round) {
      const Operands o(random);
      const auto native = dot<L>(o.w, o.x, o.sum, 0);
      const auto plain = dot<test::WideLanes<16>>(o.w, o.x, o.sum, 0);
      for (std::size_t k = 0; k < 16; ++k) {
        CAPTURE(k);
        REQUIRE(std::abs(native[k] - plain[k]) <= 0x1p-22f);  // all are within 1 in magnitude
      }
    }
  }
}
