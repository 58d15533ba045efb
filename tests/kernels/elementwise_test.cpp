// SPDX-License-Identifier: Apache-2.0
#include "support/numbers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/kernels/elementwise.hpp>
#include <rwkv/kernels/reference.hpp>
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace {

namespace kernels = rwkv::kernels;
using kernels::Activation;
using rwkv::simd::Native;
using rwkv::simd::Scalar;
using test::bits;
using test::Misaligned;

std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all;
  for (std::size_t n = 0; n <= 70; ++n) all.push_back(n);
  all.push_back(127);
  all.push_back(2049);
  return all;
}

Misaligned<float> random_numbers(std::size_t n, std::size_t offset, unsigned seed) {
  Misaligned<float> x(n, offset);
  test::Random random(seed);
  test::fill(x, random, -4.0f, 4.0f);
  return x;
}

double exact(Activation f, double x) {
  switch (f) {
    case Activation::none:
      return x;
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return rwkv::reference::sigmoid(x);
    case Activation::relu_squared:
      return x > 0 ? x * x : 0;
  }
  return x;
}

constexpr Activation activations[] = {Activation::none, Activation::tanh, Activation::sigmoid,
                                      Activation::relu_squared};

}  // namespace

TEST_CASE_TEMPLATE("map visits a range once, in vectors and then one by one", L, Scalar, Native,
                   test::WideLanes<4>, test::WideLanes<16>) {
  for (std::size_t begin = 0; begin < 20; ++begin)
    for (std::size_t end = begin; end < 60; ++end) {
      std::vector<int> visits(60);
      std::vector<std::size_t> widths;
      kernels::map<L>({begin, end}, [&]<class V>(std::size_t i) {
        widths.push_back(V::width);
        for (std::size_t k = 0; k < V::width; ++k) ++visits[i + k];
      });
      std::vector<int> expected(60);
      std::fill(expected.begin() + static_cast<std::ptrdiff_t>(begin),
                expected.begin() + static_cast<std::ptrdiff_t>(end), 1);
      REQUIRE(visits == expected);
      REQUIRE(widths.size() == (end - begin) / L::width + (end - begin) % L::width);
    }
}

TEST_CASE("reduce adds in the documented order, for every vector width") {
  const auto sum_of_squares = []<class L>(L, const float* x, std::size_t n) {
    return kernels::reduce<L>(n, [x]<class V>(std::size_t i, V sum) {
      const V v = V::load(x + i);
      return fma(v, v, sum);
    });
  };
  for (const std::size_t n : sizes()) {
    CAPTURE(n);
    const auto x = random_numbers(n, n % 7, static_cast<unsigned>(n));
    // 16 running sums, element i in sum i % 16, then pairwise.
    Scalar lane[16] = {};
    for (std::size_t i = 0; i < n; ++i)
      lane[i % 16] = fma(Scalar{x[i]}, Scalar{x[i]}, lane[i % 16]);
    for (const std::size_t half : {8u, 4u, 2u, 1u})
      for (std::size_t k = 0; k < half; ++k) lane[k] = lane[k] + lane[k + half];
    CHECK(bits(sum_of_squares(Scalar{}, x.data(), n)) == bits(lane[0].v));
    CHECK(bits(sum_of_squares(Native{}, x.data(), n)) == bits(lane[0].v));
    CHECK(bits(sum_of_squares(test::WideLanes<4>{}, x.data(), n)) == bits(lane[0].v));
    CHECK(bits(sum_of_squares(test::WideLanes<8>{}, x.data(), n)) == bits(lane[0].v));
    CHECK(bits(sum_of_squares(test::WideLanes<16>{}, x.data(), n)) == bits(lane[0].v));
  }
}

TEST_CASE("activations are right, the same for every lanes type, and stay within their range") {
  for (const Activation f : activations)
    for (const std::size_t n : sizes()) {
      CAPTURE(static_cast<int>(f));
      CAPTURE(n);
      const rwkv::Range range{n / 3, n - n / 5};
      const auto x = random_numbers(n, 1 + n % 5, 7);
      auto vector = x;
      auto scalar = x;
      kernels::compiled::activate<Native>(f, vector.data(), range);
      kernels::compiled::activate<Scalar>(f, scalar.data(), range);
      for (std::size_t i = 0; i < n; ++i) {
        REQUIRE(bits(vector[i]) == bits(scalar[i]));
        if (i < range.begin || i >= range.end) {
          REQUIRE(bits(vector[i]) == bits(x[i]));
        } else {
          const double expected = exact(f, x[i]);
          REQUIRE(std::abs(vector[i] - expected) <= 4e-7 * std::abs(expected));
        }
      }
    }
}

TEST_CASE("a number that is none comes out of every activation as none") {
  for (const Activation f : activations) {
    Misaligned<float> x(37);
    for (float& v : x) v = test::canary;
    kernels::compiled::activate<Native>(f, x.data(), {0, x.size()});
    for (const float v : x) CHECK(std::isnan(v));
  }
}

TEST_CASE("add rounds each sum once") {
  for (const std::size_t n : sizes()) {
    CAPTURE(n);
    const auto x = random_numbers(n, 2, 1);
    const auto y = random_numbers(n, 3, 2);
    auto vector = y;
    auto scalar = y;
    kernels::compiled::add<Native>(x.data(), vector.data(), n);
    kernels::compiled::add<Scalar>(x.data(), scalar.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      REQUIRE(bits(vector[i]) == bits(y[i] + x[i]));
      REQUIRE(bits(scalar[i]) == bits(y[i] + x[i]));
    }
  }
}

TEST_CASE("row_times is a vector times a square matrix, in one chain of sums per number") {
  for (const std::size_t n : {1u, 3u, 4u, 8u, 15u, 16u, 21u, 32u}) {
    CAPTURE(n);
    const auto x = random_numbers(n, 0, 1);
    const auto m = random_numbers(n * n, 1, 2);
    Misaligned<float> y(n, 3);
    Misaligned<float> scalar(n, 3);
    kernels::compiled::row_times<Native>(x.data(), m.data(), y.data(), n);
    kernels::compiled::row_times<Scalar>(x.data(), m.data(), scalar.data(), n);
    for (std::size_t j = 0; j < n; ++j) {
      double expected = 0, size = 0;
      for (std::size_t i = 0; i < n; ++i) {
        expected += double{x[i]} * m[i * n + j];
        size += std::abs(double{x[i]} * m[i * n + j]);
      }
      REQUIRE(std::abs(y[j] - expected) <= 0x1p-23 * static_cast<double>(n) * size);
      REQUIRE(bits(scalar[j]) == bits(y[j]));
    }
  }
}

TEST_CASE("gate multiplies with a sum") {
  for (const std::size_t n : sizes()) {
    CAPTURE(n);
    const auto x = random_numbers(n, 0, 1);
    const auto bias = random_numbers(n, 1, 2);
    const auto before = random_numbers(n, 2, 3);
    Misaligned<float> y(n, 3);
    std::copy(before.begin(), before.end(), y.begin());
    kernels::compiled::gate<Native>(x.data(), bias.data(), y.data(), n);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(bits(y[i]) == bits(before[i] * (x[i] + bias[i])));
  }
}

TEST_CASE("token_shift goes from the current token (mu = 0) to the previous one (mu = 1)") {
  for (const std::size_t n : sizes()) {
    CAPTURE(n);
    const auto now = random_numbers(n, 0, 1);
    const auto previous = random_numbers(n, 1, 2);
    auto mu = random_numbers(n, 2, 3);
    Misaligned<float> y(n, 3);
    Misaligned<float> scalar(n, 3);
    kernels::compiled::token_shift<Native>(now.data(), previous.data(), mu.data(), y.data(), n);
    kernels::compiled::token_shift<Scalar>(now.data(), previous.data(), mu.data(), scalar.data(),
                                           n);
    for (std::size_t i = 0; i < n; ++i) {
      const double difference = double{previous[i]} - now[i];
      const double expected = now[i] + difference * mu[i];
      // One rounding of the difference, one of the product where there is no fma, one of the sum.
      const double bound =
          0x1p-24 * (2 * std::abs(difference * mu[i]) + std::abs(expected)) * (1 + 1e-6);
      REQUIRE(std::abs(y[i] - expected) <= bound);
      REQUIRE(bits(scalar[i]) == bits(y[i]));
    }
    std::fill(mu.begin(), mu.end(), 0.0f);
    kernels::compiled::token_shift<Native>(now.data(), previous.data(), mu.data(), y.data(), n);
    CHECK(std::equal(y.begin(), y.end(), now.begin()));
  }
}
