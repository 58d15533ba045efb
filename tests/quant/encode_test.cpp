// SPDX-License-Identifier: Apache-2.0
// What encoding keeps: how much of any numbers, all of those that a block can hold.
#include "support.hpp"

#include <doctest/doctest.h>

#include <limits>

using rwkv::DType;
using test::Bytes;
namespace quant = rwkv::quant;

namespace {

// Bounds on the relative error for numbers(1 << 15, heavy): what the search reaches, and 1 %.
struct Bound {
  DType type;
  double normal;
  double heavy;
};
constexpr Bound bounds[] = {
    {DType::q4_0, 0.0805, 0.124},  {DType::q4_1, 0.0691, 0.0919},   {DType::q5_0, 0.0396, 0.0613},
    {DType::q5_1, 0.0331, 0.0447}, {DType::q8_0, 0.00462, 0.00719}, {DType::q2_k, 0.26, 0.303},
    {DType::q3_k, 0.143, 0.191},   {DType::q4_k, 0.0694, 0.0927},   {DType::q5_k, 0.0338, 0.0457},
    {DType::q6_k, 0.0162, 0.0236}, {DType::iq4_nl, 0.0733, 0.0969}};

// What the numbers in a block are made of.
struct Ingredients {
  DType type;
  int lowest;  // level
  int highest;
  std::size_t parts = 1;
  int lowest_scale = 1;
  int highest_scale = 1;
  float offset = 0;  // magnitude relative to d of the half that offsets are multiples of
};
constexpr Ingredients ingredients[] = {
    {DType::q4_0, -8, 7},
    {DType::q4_1, 0, 15, 1, 1, 1, 8},
    {DType::q5_0, -16, 15},
    {DType::q5_1, 0, 31, 1, 1, 1, 16},
    {DType::q8_0, -127, 127},
    {DType::q2_k, 0, 3, 16, 1, 15, 1},
    {DType::q3_k, -4, 3, 16, -32, 31},
    {DType::q4_k, 0, 15, 8, 1, 63, 8},
    {DType::q5_k, 0, 31, 8, 1, 63, 16},
    {DType::q6_k, -32, 31, 16, -128, 127},
    {DType::iq4_nl, 0, 15},
};

// `n` random integers; the first two are the ends.
std::vector<int> integers(std::size_t n, int low, int high, test::Random& random) {
  std::vector<int> v(n);
  for (int& i : v)
    i = low + static_cast<int>(random.below(static_cast<std::size_t>(high - low + 1)));
  v[0] = low;
  if (n > 1) v[1] = high;
  return v;
}

// A random half of moderate size times `factor`, a power of two.
float random_half(test::Random& random, float factor = 1) {
  const auto bits = static_cast<std::uint16_t>(0x1400 + random.below(0x1400));
  return factor * rwkv::to_float(rwkv::half{bits});
}

// Numbers that a block holds exactly, with every part using all of its levels.
std::vector<float> exact_numbers(const Ingredients& block, test::Random& random) {
  std::vector<float> x;
  const std::size_t size = rwkv::block_elements(block.type) / block.parts;
  const float d = random_half(random);
  const float dmin = random_half(random, block.offset);
  const auto scales = integers(block.parts, block.lowest_scale, block.highest_scale, random);
  const auto mins = integers(block.parts, block.parts == 1 ? 1 : 0, block.highest_scale, random);
  for (std::size_t p = 0; p < block.parts; ++p)
    for (const int code : integers(size, block.lowest, block.highest, random)) {
      const int level = block.type == DType::iq4_nl
                            ? quant::IQ4_NL::levels[static_cast<std::size_t>(code)]
                            : code;
      x.push_back(d * static_cast<float>(scales[p] * level) - dmin * static_cast<float>(mins[p]));
    }
  return x;
}

bool has_offsets(DType type) {
  return type == DType::q4_1 || type == DType::q5_1 || type == DType::q2_k || type == DType::q4_k ||
         type == DType::q5_k;
}

std::vector<float> reencoded(DType type, const std::vector<float>& x) {
  return test::decoded(type, test::encoded(type, x));
}

}  // namespace

TEST_CASE("encoding loses no more than it must") {
  for (const Bound& bound : bounds)
    for (const bool heavy : {false, true}) {
      CAPTURE(rwkv::name_of(bound.type));
      const auto x = test::numbers(std::size_t{1} << 15, heavy);
      const double error = test::relative_error(x, reencoded(bound.type, x));
      CAPTURE(heavy);
      CHECK(error <= (heavy ? bound.heavy : bound.normal));
    }
  CHECK(std::size(bounds) == std::size(test::block_types));
}

TEST_CASE("the error does not depend on magnitude or sign") {
  for (const DType type : test::block_types) {
    CAPTURE(rwkv::name_of(type));
    const auto x = test::numbers(1024, true);
    const double error = test::relative_error(x, reencoded(type, x));
    for (const float factor : {-1.0f, 1e-2f, 3e3f}) {
      auto scaled = x;
      for (float& v : scaled) v *= factor;
      CHECK(test::relative_error(scaled, reencoded(type, scaled)) < 1.1 * error);
    }
  }
}

TEST_CASE("importance moves the error to where it matters less") {
  test::Random random(3);
  std::vector<float> importance(1024);
  for (float& w : importance) w = 1 / (0.01f + random(0, 1) * random(0, 1));
  const auto x = test::numbers(importance.size(), false);
  for (const DType type : test::block_types) {
    CAPTURE(rwkv::name_of(type));
    const auto weighted = test::encoded(type, x, importance.data());
    CHECK(test::relative_error(x, test::decoded(type, weighted), importance) <
          0.95 * test::relative_error(x, reencoded(type, x), importance));

    auto small = importance;  // only ratios count
    for (float& w : small) w *= 0x1p-100f;
    CHECK(test::encoded(type, x, small.data()) == weighted);
    const std::vector<float> none(x.size());
    CHECK(test::encoded(type, x, none.data()) == test::encoded(type, x));
  }
}

TEST_CASE("an outlier that does not matter spoils nothing") {
  for (const DType type : test::block_types) {
    CAPTURE(rwkv::name_of(type));
    auto x = test::numbers(256, false);
    std::vector<float> importance(x.size(), 1.0f);
    const double undisturbed = test::relative_error(x, reencoded(type, x));
    for (std::size_t i = 0; i < x.size(); i += 32) {
      x[i + 5] = 1.5f;  // 75 standard deviations
      importance[i + 5] = 0;
    }
    const auto y = test::decoded(type, test::encoded(type, x, importance.data()));
    CHECK(test::relative_error(x, y, importance) < 1.3 * undisturbed);
  }
}

TEST_CASE("numbers that a block can hold come back exactly") {
  test::Random random(4);
  for (const Ingredients& block : ingredients) {
    CAPTURE(rwkv::name_of(block.type));
    int wrong = 0;
    for (int round = 0; round < 300; ++round) {
      const auto x = exact_numbers(block, random);
      wrong += reencoded(block.type, x) != x;
    }
    CHECK(wrong == 0);
  }
  CHECK(std::size(ingredients) == std::size(test::block_types));
}

TEST_CASE("encoding twice changes next to nothing") {
  for (const DType type : test::block_types)
    for (const bool heavy : {false, true}) {
      CAPTURE(rwkv::name_of(type));
      const auto x = test::numbers(std::size_t{1} << 14, heavy, 5);
      const auto once = reencoded(type, x);
      const auto twice = reencoded(type, once);
      // Nearly the same numbers can be put together from other scales and mins, which is more often
      // mistaken for the best block when there are many of them.
      const bool two_storeys = rwkv::block_elements(type) == 256;
      CHECK(test::relative_error(once, twice) <=
            (two_storeys ? 0.25 : 0.01) * test::relative_error(x, once));
    }
}

TEST_CASE("zeros stay zeros, whatever else there is") {
  for (const DType type : test::block_types) {
    CAPTURE(rwkv::name_of(type));
    const std::vector<float> zeros(512);
    CHECK(reencoded(type, zeros) == zeros);
    CHECK(reencoded(type, std::vector<float>(512, -0.0f)) == zeros);
    // Numbers so small that 0 is the nearest thing any format has.
    CHECK(reencoded(type, std::vector<float>(512, 1e-9f)) == zeros);
    CHECK(reencoded(type, std::vector<float>(512, std::numeric_limits<float>::denorm_min())) ==
          zeros);
  }
}

TEST_CASE("constants are kept as well as a half can") {
  for (const DType type : test::block_types)
    for (const float c : {1.0f, -1.0f, 0.3f, -700.0f, 60000.0f}) {
      CAPTURE(rwkv::name_of(type));
      CAPTURE(c);
      const std::vector<float> x(256, c);
      CHECK(test::relative_error(x, reencoded(type, x)) < 0.001);
    }
}

TEST_CASE("numbers of one sign need no zero among their levels") {
  for (const DType type : test::block_types) {
    if (!has_offsets(type)) continue;
    for (const float sign : {1.0f, -1.0f}) {
      CAPTURE(rwkv::name_of(type));
      CAPTURE(sign);
      auto centred = test::numbers(1024, false);
      auto shifted = centred;
      for (float& v : shifted) v += sign * 0.5f;
      const auto y = reencoded(type, shifted);
      double moved = 0;
      double usual = 0;
      const auto z = reencoded(type, centred);
      for (std::size_t i = 0; i < y.size(); ++i) {
        moved += std::pow(double{y[i]} - double{shifted[i]}, 2);
        usual += std::pow(double{z[i]} - double{centred[i]}, 2);
      }
      CHECK(std::sqrt(moved) < 2 * std::sqrt(usual));
    }
  }
}

TEST_CASE("the ends of what halves can say") {
  for (const DType type : test::block_types) {
    CAPTURE(rwkv::name_of(type));
    // Scales that are subnormal halves have few bits, but are used.
    auto tiny = test::numbers(1024, false);
    for (float& v : tiny) v *= 5e-4f;
    const double tiny_error = test::relative_error(tiny, reencoded(type, tiny));
    CHECK(tiny_error < 0.35);
    // The largest numbers; and beyond them, what is nearest.
    auto huge = test::numbers(1024, false);
    for (float& v : huge) v *= 8e5f;
    const double error = test::relative_error(huge, reencoded(type, huge));
    CHECK(error < 1.2 * test::relative_error(test::numbers(1024, false),
                                             reencoded(type, test::numbers(1024, false))));
    std::vector<float> beyond(256, quant::largest_value);
    beyond[7] = -quant::largest_value;
    auto too_large = beyond;
    for (float& v : too_large) v *= 1e30f;
    CHECK(test::encoded(type, too_large) == test::encoded(type, beyond));
    for (const float v : reencoded(type, beyond)) CHECK(std::isfinite(v));
  }
}

TEST_CASE("NaNs and infinities give some finite block") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const DType type : test::block_types)
    for (const float strange : {nan, -nan, infinity, -infinity}) {
      auto x = test::numbers(256, false);
      x[100] = strange;
      for (const float v : reencoded(type, x)) CHECK(std::isfinite(v));
      for (const float v : reencoded(type, std::vector<float>(256, strange)))
        CHECK(std::isfinite(v));
      const std::vector<float> importance(256, strange);
      for (const float v : test::decoded(type, test::encoded(type, x, importance.data())))
        CHECK(std::isfinite(v));
    }
}

TEST_CASE("encode writes its block and nothing else, at any address") {
  for (const DType type : test::block_types) {
    CAPTURE(rwkv::name_of(type));
    const std::size_t n = rwkv::block_elements(type);
    const auto x = test::numbers(n, false);
    test::Misaligned<float> in(n);
    std::copy(x.begin(), x.end(), in.begin());
    test::Misaligned<std::uint8_t> out(rwkv::block_bytes(type) + 1);
    std::fill(out.begin(), out.end(), std::uint8_t{0xa5});
    quant::encode_row(type, in.data(), nullptr, n, reinterpret_cast<std::byte*>(out.data()));
    const auto expected = test::encoded(type, x);
    CHECK(std::memcmp(out.data(), expected.data(), expected.size()) == 0);
    CHECK(out[expected.size()] == 0xa5);
  }
}
