// SPDX-License-Identifier: Apache-2.0
// The recurrence against its definition in double, and the promise that no cut of the tokens, no
// vector width and no reuse of v for y changes a bit.
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/kernels/reference.hpp>
#include <rwkv/kernels/wkv.hpp>
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace {

namespace kernels = rwkv::kernels;
namespace reference = rwkv::reference;
using rwkv::simd::Native;
using rwkv::simd::Scalar;
using test::Misaligned;

constexpr std::size_t head_sizes[] = {1, 2, 4, 8, 12, 16, 24, 32, 64, 80, 128};

/// Vectors as RWKV-7 makes them: w in (0.5, 1), a = -kk and b = kk rate with |kk| = 1.
struct Sequence {
  std::size_t n;
  std::size_t count;
  std::size_t stride;
  Misaligned<float> r, w, k, v, a, b, state;

  Sequence(std::size_t head_size, std::size_t tokens, unsigned seed)
      : n(head_size),
        count(tokens),
        stride(n + 5),
        r(tokens * stride, 1),
        w(tokens * stride, 2),
        k(tokens * stride, 3),
        v(tokens * stride, 4),
        a(tokens * stride, 5),
        b(tokens * stride, 6),
        state(n * n, 1) {
    test::Random random(seed);
    test::fill(r, random);
    test::fill(w, random, 0.5f, 1.0f);
    test::fill(k, random);
    test::fill(v, random);
    test::fill(state, random);
    for (std::size_t t = 0; t < tokens; ++t) {
      double squares = 0;
      float* const kk = a.data() + t * stride;
      for (std::size_t j = 0; j < n; ++j) kk[j] = random();
      for (std::size_t j = 0; j < n; ++j) squares += kk[j] * kk[j];
      for (std::size_t j = 0; j < n; ++j) {
        kk[j] /= -static_cast<float>(std::sqrt(squares));
        b[t * stride + j] = -kk[j] * random(0.0f, 1.0f);
      }
    }
  }

  [[nodiscard]] kernels::WkvTokens tokens(std::size_t first, std::size_t number, float* y) const {
    const auto at = [&](const Misaligned<float>& x) { return x.data() + first * stride; };
    return {at(r), at(w), at(k), at(v), at(a), at(b), y + first * stride, stride, number};
  }
};

struct Result {
  Misaligned<float> state;
  Misaligned<float> y;
  friend bool operator==(const Result& p, const Result& q) {
    return test::same_bits({p.state.data(), p.state.size()}, {q.state.data(), q.state.size()}) &&
           test::same_bits({p.y.data(), p.y.size()}, {q.y.data(), q.y.size()});
  }
};

/// Runs the tokens in pieces of the given sizes.
template <class L>
Result run(const Sequence& s, const std::vector<std::size_t>& pieces) {
  Result result{s.state, Misaligned<float>(s.count * s.stride, 7)};
  for (float& f : result.y) f = test::canary;
  std::size_t first = 0;
  for (const std::size_t piece : pieces) {
    kernels::compiled::wkv<L>(s.tokens(first, piece, result.y.data()), s.n, result.state.data());
    first += piece;
  }
  REQUIRE(first == s.count);
  return result;
}

reference::Vec widened(const Misaligned<float>& x, std::size_t first, std::size_t n) {
  return {x.data() + first, x.data() + first + n};
}

}  // namespace

TEST_CASE("the recurrence agrees with double and touches nothing between the rows") {
  for (const std::size_t n : head_sizes)
    for (const std::size_t count : {0u, 1u, 2u, 17u}) {
      CAPTURE(n);
      CAPTURE(count);
      const Sequence s(n, count, static_cast<unsigned>(n + count));
      const Result got = run<Native>(s, {count});

      reference::Vec state(n * n);  // [value][key]
      for (std::size_t j = 0; j < n; ++j)
        for (std::size_t i = 0; i < n; ++i) state[i * n + j] = s.state[j * n + i];
      double worst = 0;
      for (std::size_t t = 0; t < count; ++t) {
        const auto row = [&](const Misaligned<float>& x) { return widened(x, t * s.stride, n); };
        const auto y =
            reference::wkv_step(state, row(s.r), row(s.w), row(s.k), row(s.v), row(s.a), row(s.b));
        for (std::size_t i = 0; i < n; ++i)
          worst = std::max(worst, std::abs(got.y[t * s.stride + i] - y[i]));
        for (std::size_t i = n; i < s.stride; ++i)
          REQUIRE(test::bits(got.y[t * s.stride + i]) == test::bits(test::canary));
      }
      // Entries of S stay around 1; y sums n of them.
      CHECK(worst <= 1e-6 * (4 + static_cast<double>(n) / 4));
      worst = 0;
      for (std::size_t j = 0; j < n; ++j)
        for (std::size_t i = 0; i < n; ++i)
          worst = std::max(worst, std::abs(got.state[j * n + i] - state[i * n + j]));
      CHECK(worst <= 1e-5);
    }
}

TEST_CASE("any cut of the tokens gives the same bits") {
  test::Thinned cuts(5);
  for (const std::size_t n : head_sizes) {
    CAPTURE(n);
    const Sequence s(n, 17, static_cast<unsigned>(n));
    const Result whole = run<Native>(s, {17});
    CHECK(run<Native>(s, std::vector<std::size_t>(17, 1)) == whole);
    for (std::size_t first = 0; first <= 17; ++first)
      if (!cuts.leaves_out()) CHECK(run<Native>(s, {first, 17 - first}) == whole);
    CHECK(run<Native>(s, {0, 3, 0, 5, 9}) == whole);
  }
}

TEST_CASE_TEMPLATE("every vector width gives the same bits", L, Scalar, test::WideLanes<4>,
                   test::WideLanes<16>) {
  for (const std::size_t n : head_sizes) {
    CAPTURE(n);
    const Sequence s(n, 3, static_cast<unsigned>(n));
    CHECK(run<L>(s, {3}) == run<Native>(s, {3}));
  }
}

TEST_CASE("the result may replace v") {
  for (const std::size_t n : head_sizes) {
    CAPTURE(n);
    const Sequence s(n, 6, static_cast<unsigned>(n));
    const Result separate = run<Native>(s, {6});
    Sequence same = s;
    Misaligned<float> state = s.state;
    kernels::compiled::wkv<Native>(same.tokens(0, 6, same.v.data()), n, state.data());
    for (std::size_t t = 0; t < 6; ++t)
      for (std::size_t i = 0; i < n; ++i)
        REQUIRE(test::bits(same.v[t * s.stride + i]) == test::bits(separate.y[t * s.stride + i]));
    CHECK(test::same_bits({state.data(), state.size()},
                          {separate.state.data(), separate.state.size()}));
  }
}
