// SPDX-License-Identifier: Apache-2.0
// Attention over pages against its definition in double, for every storage type and vector width:
// all widths give the same bits.
#include "support/numbers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/kernels/attention_kernels.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace {

namespace kernels = rwkv::kernels;
using rwkv::Range;
using rwkv::simd::Native;
using rwkv::simd::Scalar;

constexpr std::size_t entries = kernels::page_entries;
constexpr std::size_t width = kernels::attention_width;

/// A page of random entries, and the same numbers as they decode.
template <class T>
struct Page {
  std::vector<T> keys = std::vector<T>(entries * width);
  std::vector<T> values = std::vector<T>(entries * width);
  std::vector<float> key_scale = std::vector<float>(entries, 1.0f);
  std::vector<float> value_scale = std::vector<float>(entries, 1.0f);
  std::vector<double> q = std::vector<double>(width);

  explicit Page(unsigned seed) {
    test::Random random(seed);
    for (double& x : q) x = random();
    const auto view = page();
    for (std::size_t e = 0; e < entries; ++e) {
      if constexpr (std::is_same_v<T, std::int8_t>) {
        key_scale[e] = 0.01f * random(0.5f, 1.0f);
        value_scale[e] = 0.02f * random(0.5f, 1.0f);
      }
      for (std::size_t c = 0; c < width; ++c) {
        view.key(e, c) = stored(random);
        view.value(e, c) = stored(random);
      }
    }
  }

  static T stored(test::Random& random) {
    if constexpr (std::is_same_v<T, std::int8_t>)
      return static_cast<std::int8_t>(random(-127.0f, 127.0f));
    else if constexpr (std::is_same_v<T, rwkv::half>)
      return rwkv::to_half(random());
    else
      return random();
  }
  static double number(T x) {
    if constexpr (std::is_same_v<T, std::int8_t>)
      return x;
    else
      return double{rwkv::to_float(x)};
  }

  [[nodiscard]] kernels::HeadPage<T> page() {
    const bool scaled = std::is_same_v<T, std::int8_t>;
    return {keys.data(), values.data(), scaled ? key_scale.data() : nullptr,
            scaled ? value_scale.data() : nullptr};
  }
  double score(std::size_t e) {
    double sum = 0;
    for (std::size_t c = 0; c < width; ++c) sum += q[c] * number(page().key(e, c));
    return sum * double{key_scale[e]};
  }

  /// Softmax attention to some ranges, one after the other.
  std::vector<double> expected(const std::vector<Range>& ranges) {
    std::vector<double> y(width, 0.0);
    double total = 0;
    for (const Range& r : ranges)
      for (std::size_t e = r.begin; e < r.end; ++e) {
        const double weight = std::exp(score(e));
        total += weight;
        for (std::size_t c = 0; c < width; ++c)
          y[c] += weight * number(page().value(e, c)) * double{value_scale[e]};
      }
    for (double& v : y) v /= total;
    return y;
  }

  template <class L>
  std::vector<float> run(const std::vector<Range>& ranges) {
    std::vector<float> query(q.begin(), q.end());
    kernels::RunningSoftmax softmax;
    for (const Range& r : ranges)
      if constexpr (std::is_same_v<L, rwkv::simd::Chosen>)
        kernels::attend(page(), r, query.data(), softmax);
      else
        kernels::compiled::attend<L>(page(), r, query.data(), softmax);
    std::vector<float> y(width);
    kernels::finish<Scalar>(softmax, y.data());
    return y;
  }
};

template <class T>
void check_storage() {
  Page<T> page(5);
  for (const std::vector<Range>& ranges : {std::vector<Range>{{0, 64}},
                                           {{0, 1}},
                                           {{63, 64}},
                                           {{5, 38}},
                                           {{16, 32}, {40, 41}},
                                           {{0, 3}, {3, 64}},
                                           {{50, 64}, {0, 17}}}) {
    const auto got = page.template run<Native>(ranges);
    const auto want = page.expected(ranges);
    for (std::size_t c = 0; c < width; ++c) CHECK(std::abs(double{got[c]} - want[c]) <= 2e-6);
    CHECK(page.template run<Scalar>(ranges) == got);
    CHECK(page.template run<test::WideLanes<4>>(ranges) == got);
    CHECK(page.template run<test::WideLanes<16>>(ranges) == got);
  }
}

}  // namespace

TEST_CASE("attention agrees with its definition, whatever the storage and the width") {
  check_storage<float>();
  check_storage<rwkv::half>();
  check_storage<std::int8_t>();
}

TEST_CASE_TEMPLATE("attention is right at every level, and the same with every width that fuses", T,
                   float, rwkv::half, std::int8_t) {
  namespace simd = rwkv::simd;
  const simd::Level before = simd::level();
  Page<T> page(7);
  const std::vector<Range> ranges{{0, 64}, {5, 38}};
  const auto want = page.expected(ranges);
  std::vector<float> fused;
  for (const simd::Level level : simd::available_levels()) {
    CAPTURE(simd::name_of(level));
    simd::use_level(level);
    const auto got = page.template run<simd::Chosen>(ranges);
    for (std::size_t c = 0; c < width; ++c) CHECK(std::abs(double{got[c]} - want[c]) <= 2e-6);
    if (level == simd::Level::compiled) continue;
    if (fused.empty()) fused = got;
    CHECK(got == fused);
  }
  simd::use_level(before);
}

TEST_CASE("scores of entries outside the range do not count") {
  Page<float> page(6);
  const std::vector<Range> range{{10, 20}};
  const auto want = page.run<Native>(range);
  for (std::size_t e = 0; e < entries; ++e)
    for (std::size_t c = 0; c < width; ++c)
      if (e < 10 || e >= 20) {
        page.page().key(e, c) = 1e30f;
        page.page().value(e, c) = 1e30f;
      }
  CHECK(page.run<Native>(range) == want);
}

TEST_CASE("large scores do not overflow, and the largest one wins") {
  Page<float> page(7);
  for (double& x : page.q) x *= 1000;
  const auto got = page.run<Native>({{0, 64}});
  std::size_t best = 0;
  for (std::size_t e = 1; e < entries; ++e)
    if (page.score(e) > page.score(best)) best = e;
  for (std::size_t c = 0; c < width; ++c)
    CHECK(got[c] == doctest::Approx(page.page().value(best, c)).epsilon(1e-3));
}
