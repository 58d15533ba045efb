// SPDX-License-Identifier: Apache-2.0
// exp, sigmoid and tanh: documented error bounds against double, special values, and the same bits
// for every lanes type.
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/kernels/math.hpp>
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

float scalar_exp(float x) { return rwkv::kernels::exp(Scalar{x}).v; }
float scalar_sigmoid(float x) { return rwkv::kernels::sigmoid(Scalar{x}).v; }
float scalar_tanh(float x) { return rwkv::kernels::tanh(Scalar{x}).v; }

/// Every `step`th float between two positive ones.
template <class F>
void each_float(float from, float to, std::uint32_t step, F f) {
  for (std::uint32_t u = bits(from); u <= bits(to); u += step) f(test::from_bits(u));
}

/// Distance from `exact` in units of the last place of the float nearest to it.
double ulps(float got, double exact) {
  const int exponent = std::max(std::ilogb(exact), -126);
  return std::abs(got - exact) / std::ldexp(1.0, exponent - 23);
}

double relative(float got, double exact) { return std::abs(got - exact) / std::abs(exact); }

/// Ordinary, extreme and special arguments.
std::vector<float> arguments() {
  std::vector<float> all = {0.0f, -0.0f, no_number, infinity, -infinity};
  each_float(0x1p-149f, std::numeric_limits<float>::max(), 90001, [&](float x) {
    all.push_back(x);
    all.push_back(-x);
  });
  for (int i = -20000; i <= 20000; ++i) all.push_back(static_cast<float>(i) * 0.005f);
  while (all.size() % 64 != 0) all.push_back(1.0f);
  return all;
}

template <class L, class F>
void same_for_all_lanes(F f) {
  if (test::sanitized && L::width != Native::width) return;  // loops of another length
  const std::vector<float> x = arguments();
  std::vector<float> y(x.size());
  for (std::size_t i = 0; i < x.size(); i += L::width) f(L::load(&x[i])).store(&y[i]);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float one = f(Scalar{x[i]}).v;
    CAPTURE(x[i]);
    CAPTURE(y[i]);
    CAPTURE(one);
    REQUIRE((std::isnan(one) ? std::isnan(y[i]) : bits(y[i]) == bits(one)));
  }
}

}  // namespace

TEST_CASE("exp is within 2 ulp, 0 below its range, constant above") {
  double worst = 0;
  const auto check = [&](float x) {
    worst = std::max(worst, ulps(scalar_exp(x), std::exp(double{x})));
  };
  each_float(0x1p-40f, 88.37f, 4001, check);
  each_float(0x1p-40f, 87.33f, 4001, [&](float x) { check(-x); });
  MESSAGE("largest error: " << worst << " ulp");
  CHECK(worst <= 2.0);
  CHECK(scalar_exp(0.0f) == 1.0f);
  CHECK(scalar_exp(-0.0f) == 1.0f);
  CHECK(scalar_exp(-87.33f) >= std::numeric_limits<float>::min());
  for (const float x : {std::nextafter(-87.33f, -infinity), -100.0f, -1e30f, -infinity})
    CHECK(bits(scalar_exp(x)) == 0);
  const float largest = scalar_exp(88.37f);
  CHECK(ulps(largest, std::exp(double{88.37f})) <= 2.0);
  for (const float x : {std::nextafter(88.37f, infinity), 1000.0f, 1e30f, infinity})
    CHECK(scalar_exp(x) == largest);
  CHECK(std::isnan(scalar_exp(no_number)));
}

TEST_CASE("sigmoid is accurate, within [0, 1], and saturates") {
  double worst = 0;
  const auto check = [&](float x) {
    worst = std::max(worst, relative(scalar_sigmoid(x), 1.0 / (1.0 + std::exp(-double{x}))));
  };
  each_float(0x1p-40f, 200.0f, 4001, check);
  each_float(0x1p-40f, 87.0f, 4001, [&](float x) { check(-x); });
  MESSAGE("largest relative error: " << worst);
  CHECK(worst <= 4e-7);
  CHECK(scalar_sigmoid(0.0f) == 0.5f);
  each_float(17.0f, std::numeric_limits<float>::max(), 100003,
             [](float x) { REQUIRE(scalar_sigmoid(x) == 1.0f); });
  CHECK(scalar_sigmoid(infinity) == 1.0f);
  each_float(87.0f, std::numeric_limits<float>::max(), 100003, [](float x) {
    REQUIRE(scalar_sigmoid(-x) >= 4e-39f);
    REQUIRE(scalar_sigmoid(-x) <= 2e-38f);
  });
  CHECK(std::isnan(scalar_sigmoid(no_number)));
}

TEST_CASE("tanh has a relative error below 3e-7 and saturates") {
  double worst = 0;
  const auto check = [&](float x) {
    worst = std::max(worst, relative(scalar_tanh(x), std::tanh(double{x})));
  };
  each_float(0x1p-40f, 100.0f, 4001, [&](float x) {
    check(x);
    check(-x);
  });
  MESSAGE("largest relative error: " << worst);
  CHECK(worst < 3e-7);
  CHECK(scalar_tanh(0.0f) == 0.0f);
  CHECK(scalar_tanh(-0.0f) == 0.0f);
  for (const float x : {20.0f, 1e20f, std::numeric_limits<float>::max(), infinity}) {
    CHECK(scalar_tanh(x) == 1.0f);
    CHECK(scalar_tanh(-x) == -1.0f);
  }
  for (const float x : {std::numeric_limits<float>::denorm_min(), 1e-40f, 1e-20f})
    CHECK(scalar_tanh(x) == x);
  CHECK(std::isnan(scalar_tanh(no_number)));
}

TEST_CASE_TEMPLATE("vectors give the bits of single floats", L, Native, test::WideLanes<4>,
                   test::WideLanes<16>) {
  same_for_all_lanes<L>([](auto x) { return rwkv::kernels::exp(x); });
  same_for_all_lanes<L>([](auto x) { return rwkv::kernels::sigmoid(x); });
  same_for_all_lanes<L>([](auto x) { return rwkv::kernels::tanh(x); });
}
