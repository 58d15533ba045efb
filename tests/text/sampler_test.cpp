// SPDX-License-Identifier: Apache-2.0
#include "../support/sanitizers.hpp"
#include "support.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/sampler.hpp>

#include <cstdlib>
#include <map>
#include <new>

using rwkv::ErrorCategory;
using rwkv::Sampler;
using rwkv::SamplerOptions;
using rwkv::Token;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

}  // namespace

#ifndef RWKV_TEST_SANITIZER

namespace {
std::size_t allocations = 0;
}

#if defined(__GNUC__) && !defined(__clang__)  // it does not see that the two below are a pair
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif
void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

TEST_CASE("no allocation after the first tokens") {
  std::vector<float> logits(50);
  test::Random random(15);
  test::fill(logits, random);
  Sampler sampler(
      {.top_p = 0.95f, .top_k = 45, .min_p = 0.001f, .banned = {3}, .bias = {{4, 1.0f}}});
  for (int i = 0; i < 500; ++i) (void)sampler.sample(logits);
  const std::size_t before = allocations;
  for (int i = 0; i < 500; ++i) (void)sampler.sample(logits);
  CHECK(allocations == before);
}

#endif

namespace {

// The filters as the official pipeline has them, in double: with a sort.
std::vector<double> naive_probabilities(const std::vector<float>& logits, const SamplerOptions& o) {
  std::vector<double> p(logits.begin(), logits.end());
  const double largest = *std::max_element(p.begin(), p.end());
  double total = 0;
  for (double& x : p) total += x = std::exp(x - largest);
  for (double& x : p) x /= total;
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return p[a] > p[b]; });
  const double most = p[order[0]];
  double cutoff = 0;
  double cumulative = 0;
  if (o.top_p < 1)
    for (const std::size_t i : order) {
      cutoff = p[i];
      if ((cumulative += p[i]) >= double{o.top_p}) break;
    }
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    double& x = p[order[rank]];
    if (x < cutoff || (o.top_k > 0 && rank >= o.top_k) || x < double{o.min_p} * most) x = 0;
  }
  total = 0;
  for (double& x : p) total += x = x > 0 ? std::pow(x, 1 / double{o.temperature}) : 0;
  for (double& x : p) x /= total;
  return p;
}

// True if a running total comes so close to top_p that rounding decides.
bool borderline(std::vector<float> logits, float top_p) {
  std::sort(logits.begin(), logits.end(), std::greater<>());
  const auto p = naive_probabilities(logits, {.top_p = 1});
  double cumulative = 0;
  for (const double x : p)
    if (std::abs((cumulative += x) - double{top_p}) < 1e-6) return true;
  return false;
}

// Counts against probabilities. Fails on a token that cannot be drawn.
void check_distribution(const std::vector<std::size_t>& counts, const std::vector<double>& p) {
  const auto draws =
      static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::size_t{0}));
  double chi2 = 0;
  double cells = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) REQUIRE(counts[i] == 0);
    const double expected = p[i] * draws;
    if (expected < 5) continue;
    const double difference = static_cast<double>(counts[i]) - expected;
    chi2 += difference * difference / expected;
    ++cells;
  }
  CAPTURE(chi2);
  CAPTURE(cells);
  CHECK(chi2 < cells + 5 * std::sqrt(2 * cells) + 8);
}

std::vector<std::size_t> draw(const std::vector<float>& logits, SamplerOptions options,
                              std::size_t draws) {
  options.presence_penalty = options.frequency_penalty = 0;
  Sampler sampler(options);
  std::vector<std::size_t> counts(logits.size());
  for (std::size_t i = 0; i < draws; ++i) ++counts[sampler.sample(logits)];
  return counts;
}

}  // namespace

TEST_CASE("fixed-point exponential: accuracy, order, ends of the range") {
  for (const float temperature : {0.01f, 0.7f, 1.0f, 3.0f, 1000.0f}) {
    const rwkv::FixedExp f(temperature);
    CHECK(f(0) == rwkv::FixedExp::one);
    CHECK(f(infinity) == 0);
    std::uint64_t previous = rwkv::FixedExp::one;
    double worst = 0;
    for (float x = 0; x < 30 * temperature; x += 0.00137f * temperature) {
      const std::uint64_t got = f(x);
      const double want = std::exp(-double{x} / double{temperature}) * 0x1p40;
      REQUIRE(got <= previous);
      previous = got;
      worst = std::max(worst, (std::abs(static_cast<double>(got) - want) - 1) / want);
    }
    CHECK(worst < 0x1p-27);
  }
  CHECK(rwkv::FixedExp(std::numeric_limits<float>::denorm_min())(0) == rwkv::FixedExp::one);
  CHECK(rwkv::FixedExp(std::numeric_limits<float>::denorm_min())(1e-30f) == 0);
  CHECK(rwkv::FixedExp(std::numeric_limits<float>::max())(1000) > rwkv::FixedExp::one - 3);
  CHECK(rwkv::FixedExp(std::numeric_limits<float>::max())(infinity) == 0);
}

TEST_CASE("random numbers: published values, and ranges without bias") {
  rwkv::SplitMix64 random(1234567);
  for (const std::uint64_t value :
       {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u})
    CHECK(random.next() == value);
  for (const std::uint64_t n : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3},
                                std::uint64_t{1} << 63, ~std::uint64_t{0}})
    for (int i = 0; i < 100; ++i) REQUIRE(random.below(n) < n);
  std::vector<std::size_t> counts(5);
  for (int i = 0; i < 50000; ++i) ++counts[random.below(5)];
  check_distribution(counts, std::vector<double>(5, 0.2));
}

TEST_CASE("argmax: the lowest of several, never NaN") {
  const auto of = [](std::vector<float> x) { return rwkv::argmax(x); };
  CHECK(of({}) == 0);
  CHECK(of({1, 3, 2, 3}) == 1);
  CHECK(of({-infinity, -infinity}) == 0);
  CHECK(of({not_a_number, 1, not_a_number, 2, not_a_number}) == 3);
  CHECK(of({not_a_number, not_a_number}) == 0);
  CHECK(of({-0.0f, 0.0f}) == 0);
  CHECK(of({1, infinity, 2}) == 1);
}

TEST_CASE("every combination of filters draws as the naive pipeline would") {
  test::Random random(11);
  int compared = 0;
  while (compared < (test::sanitized ? 40 : 100)) {
    std::vector<float> logits(1 + random.below(24));
    const bool ties = random.below(2) == 0;
    for (float& x : logits)
      x = ties ? static_cast<float>(random.below(4)) : random(-4, 4) + random(-40, 0);
    SamplerOptions o;
    const float shares[] = {0, 0.1f, 0.5f, 0.85f, 0.99f, 1};
    const float temperatures[] = {0.3f, 1, 1, 2.5f};
    const float floors[] = {0, 0, 0.02f, 0.3f, 1};
    o.top_p = shares[random.below(6)];
    o.temperature = temperatures[random.below(4)];
    o.min_p = floors[random.below(5)];
    o.top_k = random.below(2) == 0 ? 0 : 1 + random.below(30);
    o.seed = random.word();
    if (o.top_p > 0 && o.top_p < 1 && borderline(logits, o.top_p)) continue;
    CAPTURE(o.top_p);
    CAPTURE(o.top_k);
    CAPTURE(o.min_p);
    CAPTURE(o.temperature);
    check_distribution(draw(logits, o, 3000), naive_probabilities(logits, o));
    ++compared;
  }
}

TEST_CASE("each filter alone, on a distribution that can be read") {
  const std::vector<float> logits{std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  const auto support = [&](SamplerOptions o) {
    const auto counts = draw(logits, o, 2000);
    std::string drawn;
    for (std::size_t i = 0; i < counts.size(); ++i)
      if (counts[i] > 0) drawn += static_cast<char>('0' + i);
    return drawn;
  };
  CHECK(support({.top_p = 1}) == "0123");
  CHECK(support({.top_p = 0}) == "1");
  CHECK(support({.top_p = 0.39f}) == "1");
  CHECK(support({.top_p = 0.41f}) == "13");  // the one that crosses the limit belongs to it
  CHECK(support({.top_p = 0.71f}) == "123");
  CHECK(support({.top_p = 1, .top_k = 1}) == "1");
  CHECK(support({.top_p = 1, .top_k = 2}) == "13");
  CHECK(support({.top_p = 1, .top_k = 3}) == "123");
  CHECK(support({.top_p = 1, .top_k = 4}) == "0123");
  CHECK(support({.top_p = 1, .top_k = 5}) == "0123");
  CHECK(support({.top_p = 0.995f}) == "0123");
  CHECK(support({.top_p = 0.89f}) == "123");
  CHECK(support({.top_p = 1, .min_p = 0.26f}) == "123");
  CHECK(support({.top_p = 1, .min_p = 0.6f}) == "13");
  CHECK(support({.top_p = 1, .min_p = 1}) == "1");
  CHECK(support({.temperature = 0, .top_p = 1}) == "1");
  CHECK(support({.temperature = 0.01f, .top_p = 1}) == "1");
  CHECK(support({.temperature = 1e30f, .top_p = 1}) == "0123");
  CHECK(support({.top_p = 1, .banned = {1, 2}}) == "03");
  CHECK(support({.top_p = 0, .bias = {{0, 5.0f}}}) == "0");
  CHECK(support({.top_p = 1, .bias = {{0, -infinity}, {9, 1.0f}}}) == "123");
}

TEST_CASE("ties: top-k keeps the lowest ids, top-p keeps all") {
  const std::vector<float> logits{0, 1, 1, 1, 0};
  const auto k = draw(logits, {.top_p = 1, .top_k = 2}, 500);
  CHECK((k[1] > 0 && k[2] > 0 && k[3] == 0 && k[0] == 0));
  const auto p = draw(logits, {.top_p = 0.3f}, 500);
  CHECK((p[1] > 0 && p[2] > 0 && p[3] > 0 && p[0] == 0 && p[4] == 0));
  CHECK(draw(logits, {.temperature = 0}, 5)[1] == 5);
}

TEST_CASE("a vocabulary of 65536") {
  test::Random random(12);
  std::vector<float> logits(65536);
  for (float& x : logits) x = random(-4, 4) + random(-4, 4);
  for (const SamplerOptions& o :
       {SamplerOptions{.top_p = 1}, SamplerOptions{.temperature = 0.8f, .top_p = 0.7f},
        SamplerOptions{.top_p = 1, .top_k = 1000}, SamplerOptions{.top_p = 1, .min_p = 0.1f}}) {
    const auto p = naive_probabilities(logits, o);
    const auto counts = draw(logits, o, test::sanitized ? 300 : 1000);
    std::vector<double> folded_p(16);
    std::vector<std::size_t> folded(16);
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (p[i] == 0) REQUIRE(counts[i] == 0);
      folded_p[i % 16] += p[i];
      folded[i % 16] += counts[i];
    }
    check_distribution(folded, folded_p);
  }
}

TEST_CASE("penalties follow the official loop") {
  // Greedy, so that each choice shows the exact order of the penalised logits.
  const SamplerOptions o{.temperature = 0,
                         .presence_penalty = 0.37f,
                         .frequency_penalty = 0.61f,
                         .penalty_decay = 0.97f,
                         .banned = {5},
                         .uncounted = std::vector<Token>{7, 3}};
  Sampler sampler(o);
  test::Random random(13);
  std::vector<float> level(40);
  test::fill(level, random, 0, 3);
  level[3] = level[7] = 3;
  std::map<Token, double> occurrence;
  std::size_t repeats = 0;
  for (int step = 0; step < 3000; ++step) {
    std::vector<float> logits = level;
    for (float& x : logits) x += random(0, 0.5f);
    const Token got = sampler.sample(logits);

    std::vector<float> out = logits;
    out[5] = -infinity;
    for (const auto& [token, count] : occurrence)
      out[token] -=
          static_cast<float>(double{o.presence_penalty} + count * double{o.frequency_penalty});
    const auto want = static_cast<Token>(std::max_element(out.begin(), out.end()) - out.begin());
    for (auto& [token, count] : occurrence) count *= double{o.penalty_decay};
    repeats += occurrence.contains(want);
    occurrence[want] += want == 3 || want == 7 ? 0 : 1;
    REQUIRE(got == want);
  }
  CHECK(repeats > 2000);
  CHECK(occurrence.contains(3));
  CHECK(occurrence.contains(7));

  sampler.forget();
  std::vector<float> logits = level;
  logits[5] = 0;
  CHECK(sampler.sample(logits) == rwkv::argmax(logits));
}

TEST_CASE("the same tokens on every machine") {
  std::vector<float> logits(1000);
  for (std::uint32_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>((i * 2654435761u) >> 16) / 8192.0f;  // exact
  Sampler sampler({.temperature = 0.75f,
                   .top_p = 0.9f,
                   .top_k = 300,
                   .min_p = 0.001f,
                   .presence_penalty = 0.4f,
                   .frequency_penalty = 0.3f,
                   .seed = 42});
  std::vector<Token> tokens(16);
  for (Token& token : tokens) token = sampler.sample(logits);
  CHECK(tokens == std::vector<Token>{563, 987, 550, 605, 639, 982, 113, 262, 938, 987, 3, 838, 775,
                                     432, 173, 597});
}

TEST_CASE("a copy is a fork; seeds differ") {
  std::vector<float> logits(300);
  test::Random random(14);
  test::fill(logits, random);
  const auto some = [&](Sampler sampler) {
    std::vector<Token> tokens(20);
    for (Token& token : tokens) token = sampler.sample(logits);
    return tokens;
  };
  Sampler sampler({.seed = 5});
  for (int i = 0; i < 10; ++i) (void)sampler.sample(logits);
  CHECK(some(sampler) == some(sampler));
  CHECK(some(Sampler({.seed = 5})) == some(Sampler({.seed = 5})));
  CHECK(some(Sampler({.seed = 5})) != some(Sampler({.seed = 6})));
}

TEST_CASE("logits that cannot be sampled are refused, and nothing changes") {
  const std::vector<float> good{1, 2, 3, 2.5f};
  for (const float temperature : {0.0f, 1.0f}) {
    Sampler sampler({.temperature = temperature, .banned = {0}});
    Sampler untouched = sampler;
    const auto refuse = [&](ErrorCategory category, const char* sentence,
                            std::vector<float> logits) {
      test::check_error(category, sentence, [&] { (void)sampler.sample(logits); });
    };
    refuse(ErrorCategory::numeric, "the logit of token 2 is nan", {1, 2, not_a_number, 3});
    refuse(ErrorCategory::numeric, "the logit of token 1 is ", {1, -not_a_number, 2});
    refuse(ErrorCategory::numeric, "the logit of token 3 is inf", {1, 2, 3, infinity});
    refuse(ErrorCategory::numeric, "every logit is -infinity", {5, -infinity, -infinity});
    refuse(ErrorCategory::numeric, "every logit is -infinity", {5});
    refuse(ErrorCategory::argument, "no logits", {});
    CHECK(sampler.sample(std::vector<float>{not_a_number, 1, -infinity}) ==
          1);  // a ban hides a NaN
    CHECK(untouched.sample(std::vector<float>{not_a_number, 1, -infinity}) == 1);
    for (int i = 0; i < 20; ++i) REQUIRE(sampler.sample(good) == untouched.sample(good));
  }
  Sampler extreme({.top_p = 1});
  CHECK(extreme.sample(std::vector<float>{-3e38f, 3e38f, -infinity}) == 1);
}

TEST_CASE("options out of range are refused") {
  const auto refuse = [](const char* sentence, const SamplerOptions& o) {
    test::check_error(ErrorCategory::argument, sentence, [&] { Sampler sampler(o); });
  };
  refuse("temperature is -1", {.temperature = -1});
  refuse("temperature is nan", {.temperature = not_a_number});
  refuse("temperature is inf", {.temperature = infinity});
  refuse("top_p is 1.5", {.top_p = 1.5f});
  refuse("top_p is -0.1", {.top_p = -0.1f});
  refuse("top_p is nan", {.top_p = not_a_number});
  refuse("min_p is 2", {.min_p = 2});
  refuse("min_p is nan", {.min_p = not_a_number});
  refuse("presence_penalty is -1", {.presence_penalty = -1});
  refuse("frequency_penalty is nan", {.frequency_penalty = not_a_number});
  refuse("penalty_decay is 1.1", {.penalty_decay = 1.1f});
  refuse("the bias of a token is nan", {.bias = {{1, not_a_number}}});
  refuse("the bias of a token is inf", {.bias = {{1, infinity}}});
  const SamplerOptions tokens{.banned = {8}, .bias = {{9, 1.0f}}};
  CHECK_NOTHROW(tokens.validate(10));
  test::check_error(ErrorCategory::argument, "bias names token 9 of a vocabulary of 9",
                    [&] { tokens.validate(9); });
  test::check_error(ErrorCategory::argument, "banned names token 8 of a vocabulary of 8",
                    [&] { SamplerOptions{.banned = {8}}.validate(8); });
}

TEST_CASE("a mask is as good as banning the others") {
  std::vector<float> logits(130);
  for (std::size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>((i * 37) % 101) / 20.0f;
  rwkv::TokenMask mask(logits.size());
  rwkv::SamplerOptions options{.seed = 5};
  rwkv::Sampler masked(options);
  for (rwkv::Token token = 0; token < logits.size(); ++token) {
    if (token % 3 == 0)
      mask.set(token);
    else
      options.banned.push_back(token);
  }
  CHECK(mask.count() == 44);
  CHECK(mask.first() == 0);
  rwkv::Sampler banned(options);
  for (int i = 0; i < 50; ++i) CHECK(masked.sample(logits, mask) == banned.sample(logits));

  SUBCASE("a single token needs no random number, whatever its logit") {
    rwkv::TokenMask one(logits.size());
    one.set(7);
    logits[7] = -HUGE_VALF;
    CHECK(masked.sample(logits, one) == 7);
    banned.observe(7);
    for (int i = 0; i < 50; ++i) CHECK(masked.sample(logits, mask) == banned.sample(logits));
  }
  SUBCASE("none is an error; tokens past the mask are not in it") {
    test::check_error(ErrorCategory::numeric, "no token can be drawn",
                      [&] { (void)masked.sample(logits, rwkv::TokenMask(logits.size())); });
    rwkv::TokenMask shorter(100);
    shorter.set(98);
    shorter.set(99);
    for (int i = 0; i < 20; ++i) CHECK(masked.sample(logits, shorter) >= 98);
    CHECK_FALSE(shorter[100]);
    shorter.set(98, false);
    CHECK(shorter.first() == 99);
    shorter.clear(100);
    CHECK(shorter.none());
    CHECK(shorter.first() == shorter.size());
  }
}
