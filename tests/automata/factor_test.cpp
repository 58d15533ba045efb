// SPDX-License-Identifier: Apache-2.0
// Every function on few states, and random ones on many: the moves and the micro-steps do what f
// says, exactly.
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/automata/factor.hpp>

#include <doctest/doctest.h>

#include <cmath>

namespace {

using namespace rwkv::automata;

/// Where `moves` take the content of state x.
std::size_t follow(const std::vector<Move>& moves, std::size_t x) {
  for (const Move& m : moves) {
    const auto swapped = [&](std::size_t a, std::size_t b) { return x == a ? b : x == b ? a : x; };
    switch (m.kind) {
      case Move::Kind::erase:
        if (x == m.x) return vanished;
        break;
      case Move::Kind::merge:
        if (x == m.x) x = m.y;
        break;
      case Move::Kind::swap:
        x = swapped(m.x, m.y);
        break;
      case Move::Kind::swap_both:
        x = swapped(m.x, m.y);
        x = swapped(m.z, m.w);
        break;
    }
  }
  return x;
}

/// p <- p (1 - kappa^T (a . kappa)), channels n and n+1 being u and v.
void apply(const MicroStep& step, std::vector<float>& p) {
  const std::size_t n = p.size() - 2;
  const auto& c = step.channels;
  std::vector<float> kappa(p.size(), 0.0f);
  float on_states = 2;
  float on_spare = 2;
  switch (step.kind) {
    case MicroStep::Kind::average:
      on_spare = 0;
      [[fallthrough]];
    case MicroStep::Kind::reflect:
      kappa[c[0]] = kappa[c[2]] = 0.5f;
      kappa[c[1]] = kappa[c[3]] = -0.5f;
      break;
    case MicroStep::Kind::grow:
      on_states = 0;
      kappa[c[0]] = kappa[c[1]] = kappa[c[3]] = 0.5f;
      kappa[c[2]] = -0.5f;
      break;
    case MicroStep::Kind::erase:
      on_states = 1;
      kappa[c[0]] = 1;
      break;
  }
  float product = 0;
  for (std::size_t i = 0; i < p.size(); ++i) product += p[i] * kappa[i];
  for (std::size_t i = 0; i < p.size(); ++i)
    p[i] -= product * (i < n ? on_states : on_spare) * kappa[i];
}

struct Cost {
  std::size_t moves = 0, steps = 0;
};

Cost check(const std::vector<std::size_t>& f) {
  const std::size_t n = f.size();
  const auto moves = factor(f);
  std::vector<MicroStep> steps;
  for (const Move& m : moves)
    for (const MicroStep& s : micro_steps(m, n, n + 1)) steps.push_back(s);
  for (std::size_t x = 0; x < n; ++x) {
    REQUIRE(follow(moves, x) == f[x]);
    std::vector<float> p(n + 2, 0.0f);
    p[x] = 1;
    for (const MicroStep& s : steps) apply(s, p);
    std::vector<float> want(n + 2, 0.0f);
    if (f[x] != vanished) want[f[x]] = 1;
    REQUIRE(p == want);
  }
  return {moves.size(), steps.size()};
}

/// f as a number in base n + 1, the digit n meaning `vanished`.
std::vector<std::size_t> function(std::size_t n, std::size_t number) {
  std::vector<std::size_t> f(n);
  for (std::size_t& y : f) {
    y = number % (n + 1) == n ? vanished : number % (n + 1);
    number /= n + 1;
  }
  return f;
}

}  // namespace

TEST_CASE("every function on up to five states is factored, within the promised cost") {
  for (std::size_t n = 1; n <= 5; ++n) {
    std::size_t functions = 1;
    for (std::size_t i = 0; i < n; ++i) functions *= n + 1;
    Cost most;
    for (std::size_t number = 0; number < functions; ++number) {
      const Cost cost = check(function(n, number));
      most.moves = std::max(most.moves, cost.moves);
      most.steps = std::max(most.steps, cost.steps);
    }
    MESSAGE(n << " states, " << functions << " functions: at most " << most.moves << " moves, "
              << most.steps << " micro-steps");
    CHECK(most.moves <= n);
    CHECK(most.steps <= 3 * n);
  }
}

TEST_CASE("permutations cost no more than two micro-steps per two states, twice") {
  for (const std::size_t n : {5u, 6u}) {
    std::vector<std::size_t> p(n);
    for (std::size_t i = 0; i < n; ++i) p[i] = i;
    std::size_t most = 0;
    do most = std::max(most, check(p).steps);
    while (std::next_permutation(p.begin(), p.end()));
    CHECK(most <= 4 * ((n / 2 + 1) / 2));
  }
}

TEST_CASE("random functions and permutations on many states are factored") {
  test::Random random(1);
  for (const std::size_t n : {6u, 7u, 12u, 31u, 64u, 200u})
    for (std::size_t trial = 0; trial < (test::sanitized ? 12 : 40); ++trial) {
      std::vector<std::size_t> f(n);
      for (std::size_t& y : f) y = random.below(n);
      if (trial % 4 == 1)
        for (std::size_t& y : f) y = random.below(3) == 0 ? vanished : y;
      if (trial % 4 >= 2) {
        for (std::size_t i = 0; i < n; ++i) f[i] = i;
        for (std::size_t i = n; i-- > 1;) std::swap(f[i], f[random.below(i + 1)]);
      }
      const Cost cost = check(f);
      CHECK(cost.moves <= n);
      CHECK(cost.steps <= 3 * n);
      if (trial % 4 >= 2) CHECK(cost.steps <= n + 3);
    }
}

TEST_CASE("the identity needs no moves") {
  std::vector<std::size_t> f(9);
  for (std::size_t i = 0; i < 9; ++i) f[i] = i;
  CHECK(factor(f).empty());
  CHECK(factor({}).empty());
}
