// SPDX-License-Identifier: Apache-2.0
// The search for scales against searches that try everything.
#include "support.hpp"
#include <rwkv/quant/fit.hpp>

#include <doctest/doctest.h>

#include <limits>

using namespace rwkv::quant;
using rwkv::half;

namespace {

constexpr std::size_t n = 32;

Samples<n> samples(std::uint32_t seed, bool heavy, bool weighted) {
  const auto x = test::numbers(n, heavy, seed);
  test::Random random(seed);
  std::vector<float> w(n);
  for (float& v : w) v = weighted ? 1 / (0.02f + random(0, 1)) : 1;
  return Samples<n>(x.data(), w.data());
}

// The error of scale and offset, in double and with a rounding of its own.
template <class Levels>
double error_of(const Samples<n>& s, double scale, double offset) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double v = scale == 0 ? 0 : (double{s.x[i]} - offset) / scale;
    const double level =
        std::min(std::max(std::nearbyint(v), double{Levels::lowest}), double{Levels::highest});
    sum += double{s.w[i]} * std::pow(double{s.x[i]} - offset - scale * level, 2);
  }
  return sum;
}

// The least error of any scale within reach.
template <class Levels>
double least_error(const Samples<n>& s) {
  double peak = 0;
  for (const float v : s.x) peak = std::max(peak, std::abs(double{v}));
  const double end = std::max(double{Levels::highest}, -double{Levels::lowest});
  double least = error_of<Levels>(s, 0, 0);
  for (double t = 0.3 * end; t < 1.5 * end; t += 0.0005 * end)
    for (const double sign : {-1.0, 1.0})
      least = std::min(least, error_of<Levels>(s, sign * peak / t, 0));
  return least;
}

// Sums over many blocks: one block may be unlucky.
template <class Levels>
void compare_scales(ScaleGrid grid, double allowed) {
  CAPTURE(Levels::highest);
  for (const bool weighted : {false, true}) {
    double found = 0;
    double least = 0;
    for (std::uint32_t seed = 1; seed <= 60; ++seed) {
      const auto s = samples(seed, seed % 2 == 0, weighted);
      const Part all = part(s, 0, n);
      const half d = best_half<Levels>(all, best_scale<Levels>(all, grid).scale);
      const double error = error_of<Levels>(s, double{rwkv::to_float(d)}, 0);
      const double limit = least_error<Levels>(s);
      found += error / limit;
      least += 1;
    }
    CHECK(found <= allowed * least);
  }
}

template <class Levels>
void compare_lines(LineGrid grid, double allowed) {
  CAPTURE(Levels::highest);
  double found = 0;
  double least = 0;
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    const auto s = samples(seed, false, seed % 2 == 0);
    const Part all = part(s, 0, n);
    const HalfLine line = best_halves<Levels>(all, best_line<Levels>(all, grid));
    found += error_of<Levels>(s, double{rwkv::to_float(line.scale)},
                              double{rwkv::to_float(line.offset)});
    const auto [low, high] = std::minmax_element(std::begin(s.x), std::end(s.x));
    const double span = double{*high} - double{*low};
    double limit = std::numeric_limits<double>::max();
    for (double a = -0.1; a < 0.3; a += 0.005)
      for (double b = -0.1; b < 0.3; b += 0.005)
        limit = std::min(limit, error_of<Levels>(s, span * (1 - a - b) / double{Levels::highest},
                                                 double{*low} + a * span));
    least += limit;
  }
  CHECK(found <= allowed * least);
}

}  // namespace

TEST_CASE("samples are made safe") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const float in[] = {1, -0x1p-26f, 1e30f, -inf, std::numeric_limits<float>::quiet_NaN()};
  const float importance[] = {4, 0, 1, 2, 1e-30f};
  const Samples<5> s(in, importance);
  CHECK(s.x[0] == 1);
  CHECK(s.x[1] == 0);
  CHECK(s.x[2] == largest_value);
  CHECK(s.x[3] == -largest_value);
  CHECK(std::isfinite(s.x[4]));
  CHECK(s.w[0] == 1);
  CHECK(s.w[1] == 0x1p-20f);
  CHECK(s.w[2] == 0.25f);
  CHECK(s.w[3] == 0.5f);
  CHECK(s.w[4] == 0x1p-20f);
  const Samples<5> plain(in, nullptr);
  for (const float w : plain.w) CHECK(w == 1);
}

TEST_CASE("levels are integers, ties to even, ends included") {
  using Levels = Integers<-8, 7>;
  for (float v = -20; v <= 20; v += 0.125f)
    CHECK(Levels::nearest(v) == std::min(std::max(std::nearbyint(v), -8.0f), 7.0f));
  constexpr float inf = std::numeric_limits<float>::infinity();
  CHECK(Levels::nearest(1e30f) == 7);
  CHECK(Levels::nearest(-1e30f) == -8);
  CHECK(Levels::nearest(inf) == 7);
  CHECK(Levels::nearest(-inf) == -8);
  const float strange = Levels::nearest(std::numeric_limits<float>::quiet_NaN());
  CHECK((strange == 7 || strange == -8));
}

TEST_CASE("extremes are those of all and of the more important") {
  const float x[] = {5, -1, 2, -7};
  const float w[] = {0.01f, 1, 1, 0.01f};
  const auto found = extremes({x, w, 4});
  CHECK(found[0] == Extremes{-7, 5});
  CHECK(found[1] == Extremes{-1, 2});
  CHECK(found[0].peak() == -7);
  CHECK(found[1].peak() == 2);
  const float equal[] = {0.3f, 0.3f, 0.3f, 0.3f};
  const auto same = extremes({x, equal, 4});
  CHECK(same[0] == same[1]);
}

TEST_CASE("errors and moments are those of the levels nearest") {
  const auto s = samples(1, false, true);
  const Part all = part(s, 0, n);
  using Levels = Integers<0, 15>;
  Lanes scale;
  Lanes offset;
  test::Random random(2);
  for (std::size_t k = 0; k < lanes; ++k) {
    scale[k] = random(0.002f, 0.01f);
    offset[k] = random(-0.06f, 0);
  }
  scale[3] = 0;
  const Lanes found = errors<Levels>(all, scale, offset);
  for (std::size_t k = 0; k < lanes; ++k)
    CHECK(double{found[k]} ==
          doctest::Approx(error_of<Levels>(s, double{scale[k]}, double{offset[k]})).epsilon(1e-5));
  const Moments m = moments<Levels>(all, scale[0], offset[0]);
  double w = 0;
  double level2 = 0;
  for (std::size_t i = 0; i < n; ++i) {
    w += double{s.w[i]};
    level2 +=
        double{s.w[i]} * std::pow(double{Levels::nearest((s.x[i] - offset[0]) / scale[0])}, 2);
  }
  CHECK(double{m.w} == doctest::Approx(w));
  CHECK(double{m.level2} == doctest::Approx(level2));
}

TEST_CASE("scales are close to the best there are") {
  compare_scales<Integers<-8, 7>>({.step = 0.25f, .beyond = 2, .batches = 2}, 1.005);
  compare_scales<Integers<-16, 15>>({.step = 0.25f, .beyond = 2, .batches = 2}, 1.02);
  compare_scales<Integers<-127, 127>>({.step = 0.5f, .beyond = 1, .batches = 2}, 1.04);
  compare_scales<Integers<-4, 3>>({.step = 0.2f, .beyond = 2, .batches = 1}, 1.02);
}

TEST_CASE("lines are close to the best there are") {
  compare_lines<Integers<0, 3>>({.step = 0.25f, .inside = 2}, 1.05);
  compare_lines<Integers<0, 15>>({.step = 0.25f, .inside = 4}, 1.02);
  compare_lines<Integers<0, 31>>({.step = 1.0f / 3, .inside = 3, .all = true}, 1.02);
}

TEST_CASE("scales of levels without sign are not negative") {
  using Levels = Integers<0, 15>;
  const ScaleGrid grid{.step = 1, .beyond = 2, .batches = 1};
  const float w[] = {1, 1, 1};
  const float below[] = {-1, -2, -3};
  CHECK(best_scale<Levels>({below, w, 3}, grid).scale == 0);
  const float mixed[] = {-10, 3, 15};
  CHECK(best_scale<Levels>({mixed, w, 3}, grid).scale == 1);
  const float zeros[] = {0, 0, 0};
  CHECK(best_scale<Levels>({zeros, w, 3}, grid).scale == 0);
  CHECK(best_scale<Integers<-8, 7>>({zeros, w, 3}, grid).scale == 0);
}

TEST_CASE("a line through one point is that point") {
  const float w[] = {1, 1, 1};
  const float x[] = {0.25f, 0.25f, 0.25f};
  const Line line = best_line<Integers<0, 15>>({x, w, 3}, {.step = 0.25f, .inside = 4});
  CHECK(line.scale == 0);
  CHECK(line.offset == 0.25f);
}

TEST_CASE("neighbours of halves") {
  CHECK(neighbour(half{0x3c00}, 1) == half{0x3c01});
  CHECK(neighbour(half{0x3c00}, -1) == half{0x3bff});
  CHECK(neighbour(half{0xbc00}, 1) == half{0xbc01});
  CHECK(neighbour(half{0x0002}, -5) == half{0x0000});
  CHECK(neighbour(half{0xfbff}, 3) == half{0xfbff});
  CHECK(to_scale(0) == half{0});
  CHECK(to_scale(1e-20f) == half{1});
  CHECK(to_scale(-1e-20f) == half{0x8001});
  CHECK(to_scale(1e20f) == half{0x7bff});
  CHECK(to_scale(0.5f) == half{0x3800});
}
