// SPDX-License-Identifier: Apache-2.0
#include "support/numbers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/kernels/norm.hpp>
#include <rwkv/kernels/reference.hpp>
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace {

namespace kernels = rwkv::kernels;
namespace reference = rwkv::reference;
using rwkv::simd::Native;
using rwkv::simd::Scalar;
using test::bits;
using test::Misaligned;

std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t n = 1; n <= 70; ++n) all.push_back(n);
  all.push_back(127);
  all.push_back(2049);
  return all;
}

reference::Vec widened(const Misaligned<float>& x) { return {x.begin(), x.end()}; }

struct Norm {
  Misaligned<float> x, weight, bias;
  Norm(std::size_t n, float mean, float spread, unsigned seed) : x(n, 1), weight(n, 2), bias(n, 3) {
    test::Random random(seed);
    test::fill(x, random, mean - spread, mean + spread);
    test::fill(weight, random);
    test::fill(bias, random);
  }
  template <class L>
  Misaligned<float> normalised(float epsilon) const {
    Misaligned<float> y(x.size(), 5);
    kernels::compiled::normalise<L>(x.data(), weight.data(), bias.data(), epsilon, y.data(),
                                    x.size());
    return y;
  }
};

double largest_error(const Misaligned<float>& y, const reference::Vec& exact) {
  double worst = 0;
  for (std::size_t i = 0; i < exact.size(); ++i)
    worst = std::max(worst, std::abs(y[i] - exact[i]) / std::max(1.0, std::abs(exact[i])));
  return worst;
}

}  // namespace

TEST_CASE("layer norm and group norm agree with double") {
  for (const float epsilon : {kernels::layer_norm_epsilon, kernels::group_norm_epsilon})
    for (const std::size_t n : sizes()) {
      CAPTURE(n);
      const Norm given(n, 0.1f, 2.0f, static_cast<unsigned>(n));
      const auto exact = reference::normalise(widened(given.x), widened(given.weight),
                                              widened(given.bias), epsilon);
      CHECK(largest_error(given.normalised<Native>(epsilon), exact) <= 1e-6);
    }
}

TEST_CASE("a mean far larger than the deviations costs only its own rounding") {
  const Norm given(512, 1000.0f, 1.0f, 1);
  const auto exact = reference::normalise(widened(given.x), widened(given.weight),
                                          widened(given.bias), kernels::layer_norm_epsilon);
  // The mean has an error of a unit in its last place, 2^-14; deviations are around 0.6.
  CHECK(largest_error(given.normalised<Native>(kernels::layer_norm_epsilon), exact) <= 2e-4);
}

TEST_CASE("the mean over n - 1 would be noticed: variances are divided by n") {
  Misaligned<float> x(2);
  x[0] = -1.0f;
  x[1] = 1.0f;
  const float one[] = {1.0f, 1.0f};
  const float zero[] = {0.0f, 0.0f};
  kernels::compiled::normalise<Native>(x.data(), one, zero, 0.0f, x.data(), 2);
  CHECK(x[0] == -1.0f);
  CHECK(x[1] == 1.0f);
}

TEST_CASE("a constant row becomes the bias") {
  for (const std::size_t n : {1u, 16u, 33u}) {
    Norm given(n, 0.0f, 1.0f, 2);
    for (float& v : given.x) v = 3.25f;
    const auto y = given.normalised<Native>(kernels::layer_norm_epsilon);
    for (std::size_t i = 0; i < n; ++i) CHECK(y[i] == given.bias[i]);
  }
}

TEST_CASE_TEMPLATE("norms have the same bits for every lanes type, also in place", L, Native,
                   test::WideLanes<4>, test::WideLanes<16>) {
  for (const std::size_t n : sizes()) {
    CAPTURE(n);
    const Norm given(n, 0.3f, 1.0f, static_cast<unsigned>(n));
    const auto scalar = given.normalised<Scalar>(1e-5f);
    const auto vector = given.normalised<L>(1e-5f);
    auto in_place = given.x;
    kernels::compiled::normalise<L>(in_place.data(), given.weight.data(), given.bias.data(), 1e-5f,
                                    in_place.data(), n);
    Misaligned<float> unit_scalar(n, 2);
    kernels::unit_length<Scalar>(given.x.data(), unit_scalar.data(), n);
    auto unit = given.x;
    kernels::unit_length<L>(unit.data(), unit.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      REQUIRE(bits(vector[i]) == bits(scalar[i]));
      REQUIRE(bits(in_place[i]) == bits(scalar[i]));
      REQUIRE(bits(unit[i]) == bits(unit_scalar[i]));
    }
    const float* const x = given.x.data();
    CHECK(bits(kernels::triple_product<L>(x, given.weight.data(), given.bias.data(), n)) ==
          bits(kernels::triple_product<Scalar>(x, given.weight.data(), given.bias.data(), n)));
  }
}

TEST_CASE("unit_length agrees with double") {
  for (const std::size_t n : sizes())
    for (const float scale : {1.0f, 1e-6f, 1e6f}) {
      CAPTURE(n);
      CAPTURE(scale);
      const Norm given(n, 0.0f, scale, static_cast<unsigned>(n));
      Misaligned<float> y(n, 2);
      kernels::unit_length<Native>(given.x.data(), y.data(), n);
      CHECK(largest_error(y, reference::unit_length(widened(given.x))) <= 1e-6);
    }
}

TEST_CASE("a vector of zeros has no direction and stays zero; a tiny one is divided by 1e-12") {
  Misaligned<float> x(20);
  kernels::unit_length<Native>(x.data(), x.data(), x.size());
  for (const float v : x) CHECK(v == 0.0f);
  x[3] = 1e-15f;
  kernels::unit_length<Native>(x.data(), x.data(), x.size());
  CHECK(x[3] == doctest::Approx(1e-3));
}

TEST_CASE("triple_product agrees with double") {
  for (const std::size_t n : sizes()) {
    CAPTURE(n);
    const Norm given(n, 0.0f, 1.0f, static_cast<unsigned>(n));
    double exact = 0;
    double magnitude = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double term = double{given.x[i]} * given.weight[i] * given.bias[i];
      exact += term;
      magnitude += std::abs(term);
    }
    const float got =
        kernels::triple_product<Native>(given.x.data(), given.weight.data(), given.bias.data(), n);
    // Two roundings of a term, and 1 + n / 16 + 4 sums that it takes part in.
    CHECK(std::abs(got - exact) <= (7.0 + static_cast<double>(n) / 16) * 0x1p-24 * magnitude);
  }
}
