// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"
#include <rwkv/quant/super_block.hpp>

#include <doctest/doctest.h>

using namespace rwkv::quant;

namespace {

constexpr std::size_t n = 256;
constexpr LineGrid line_grid{.step = 0.25f, .inside = 4};

bool integer_within(float v, float low, float high) {
  return v == std::nearbyint(v) && v >= low && v <= high;
}

template <std::size_t Parts>
double line_error(const Samples<n>& s, const TwoLines<Parts>& fit) {
  double sum = 0;
  for (std::size_t p = 0; p < Parts; ++p) {
    const float scale = rwkv::to_float(fit.d) * fit.scales[p];
    const float min = rwkv::to_float(fit.dmin) * fit.mins[p];
    Lanes scales{};
    Lanes offsets{};
    scales[0] = scale;
    offsets[0] = -min;
    sum += double{errors<Integers<0, 15>>(part(s, p * n / Parts, n / Parts), scales, offsets)[0]};
  }
  return sum;
}

}  // namespace

TEST_CASE("integers stay within their ranges, and the largest is nearly used up") {
  for (std::uint32_t seed = 1; seed <= 30; ++seed) {
    const auto x = test::numbers(n, seed % 2 == 0, seed);
    const Samples<n> s(x.data(), nullptr);
    const auto fit = fit_scales<Integers<-32, 31>, Integers<-128, 127>, 16>(
        s, {.step = 0.5f, .beyond = 2, .batches = 1});
    float largest = 0;
    for (const float v : fit.scales) {
      CHECK(integer_within(v, -128, 127));
      largest = std::max(largest, std::abs(v));
    }
    CHECK(largest >= 96);

    const auto lines = fit_lines<Integers<0, 15>, Integers<0, 63>, 8>(s, line_grid);
    for (const float v : lines.scales) CHECK(integer_within(v, 0, 63));
    for (const float v : lines.mins) CHECK(integer_within(v, 0, 63));
    CHECK(double{lines.error} == doctest::Approx(line_error(s, lines)).epsilon(1e-4));
  }
}

TEST_CASE("parts of very different size keep their own scales") {
  auto x = test::numbers(n, false);
  for (std::size_t i = 0; i < n; ++i) x[i] *= static_cast<float>(1 + i / 16);
  const Samples<n> s(x.data(), nullptr);
  const auto fit = fit_scales<Integers<-32, 31>, Integers<-128, 127>, 16>(
      s, {.step = 0.5f, .beyond = 2, .batches = 1});
  double first = 0;
  double last = 0;
  for (std::size_t p = 0; p < 4; ++p) {
    first += double{std::abs(fit.scales[p])};
    last += double{std::abs(fit.scales[12 + p])};
  }
  CHECK(last > 4 * first);
}

TEST_CASE("what lies above zero is fitted like its mirror image") {
  auto x = test::numbers(n, false);
  for (float& v : x) v += 0.3f;
  auto y = x;
  for (float& v : y) v = -v;
  const Samples<n> above(x.data(), nullptr);
  const Samples<n> below(y.data(), nullptr);
  const auto up = fit_lines<Integers<0, 15>, Integers<0, 63>, 8>(above, line_grid);
  const auto down = fit_lines<Integers<0, 15>, Integers<0, 63>, 8>(below, line_grid);
  CHECK(rwkv::to_float(up.d) == -rwkv::to_float(down.d));
  CHECK(rwkv::to_float(up.dmin) == -rwkv::to_float(down.dmin));
  CHECK(up.scales == down.scales);
  CHECK(up.mins == down.mins);
  CHECK(line_error(above, up) == line_error(below, down));
}

TEST_CASE("nothing gives nothing") {
  const std::vector<float> zeros(n);
  const Samples<n> s(zeros.data(), nullptr);
  const auto scales = fit_scales<Integers<-4, 3>, Integers<-32, 31>, 16>(
      s, {.step = 0.2f, .beyond = 2, .batches = 1});
  CHECK(rwkv::to_float(scales.d) == 0);
  const auto lines = fit_lines<Integers<0, 3>, Integers<0, 15>, 16>(s, line_grid);
  CHECK(rwkv::to_float(lines.d) == 0);
  CHECK(rwkv::to_float(lines.dmin) == 0);
}
