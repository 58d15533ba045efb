// SPDX-License-Identifier: Apache-2.0
// Tokens drawn on the emulated device are those that rwkv::Sampler draws.
#include "support/numbers.hpp"
#include "support/sample_checkpoint.hpp"
#include <rwkv/cuda.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cuda/emulated/cuda_runtime.h>

namespace {

using rwkv::Token;

constexpr std::size_t vocab = 1100;

const rwkv::CudaModel& model() {
  static const rwkv::CudaModel one(test::sample_checkpoint(
      {.layers = 1, .embed = 32, .head_size = 16, .ffn = 40, .vocab = vocab}));
  return one;
}

std::vector<float> random_logits(test::Random& random) {
  std::vector<float> logits(vocab);
  for (float& x : logits) x = 4 * random(-1, 1) + 4 * random(-1, 1);
  for (int i = 0; i < 30; ++i)  // some are equal
    logits[random.below(vocab)] = 7;
  logits[random.below(vocab)] = -HUGE_VALF;
  return logits;
}

}  // namespace

TEST_CASE("the device draws what the sampler draws") {
  std::vector<rwkv::SamplerOptions> all(9);
  all[0].temperature = 0;
  all[1].top_p = 1;
  all[2].top_p = 0.3f;
  all[3].top_k = 17;
  all[3].top_p = 1;
  all[4].min_p = 0.2f;
  all[5].temperature = 1.7f;
  all[5].top_k = 5;
  all[5].presence_penalty = 2;
  all[5].frequency_penalty = 1.5f;
  all[5].penalty_decay = 0.7f;
  all[6].top_p = 0;
  all[7].banned = {3, 700};
  all[7].bias = {{5, 20.0f}, {900, 21.0f}, {5, 0.625f}, {6, -HUGE_VALF}, {3, 100.0f}};
  all[7].uncounted = std::vector<Token>{5, 9};
  all[8].presence_penalty = 0;
  all[8].frequency_penalty = 0;
  all[8].top_k = 1;
  rwkv::CudaWorkspace work(model(), 2);
  test::Random random(4);
  for (std::size_t o = 0; o < all.size(); ++o) {
    CAPTURE(o);
    all[o].seed = 1000 + o;
    emulator::set_seed(o);
    rwkv::Sampler expected(all[o]);
    rwkv::CudaSampler sampler(model(), all[o]);
    for (int t = 0; t < 12; ++t) {
      const auto logits = random_logits(random);
      if (t == 6) sampler = rwkv::CudaSampler(std::as_const(sampler));
      CHECK(sampler.sample(logits, work) == expected.sample(logits));
    }
    rwkv::CudaSampler fork = sampler;
    const auto logits = random_logits(random);
    CHECK(fork.sample(logits, work) == sampler.sample(logits, work));
  }
}

TEST_CASE("the lowest of several likeliest tokens is it, whatever the sign of their zero") {
  rwkv::CudaWorkspace work(model(), 1);
  rwkv::SamplerOptions options;
  options.temperature = 0;
  std::vector<float> logits(vocab, -1.0f);
  logits[70] = -0.0f;
  logits[80] = 0.0f;
  CHECK(rwkv::CudaSampler(model(), options).sample(logits, work) == 70);
}

TEST_CASE("logits that are no numbers, and no tokens at all, are errors on the device too") {
  rwkv::CudaWorkspace work(model(), 1);
  rwkv::CudaSampler sampler(model());
  const rwkv::CudaSampler before = sampler;
  std::vector<float> logits(vocab, 1.0f);
  const auto fails = [&](const std::string& part) {
    try {
      (void)sampler.sample(logits, work);
      FAIL("no error");
    } catch (const rwkv::Error& e) {
      CHECK(e.category() == rwkv::ErrorCategory::numeric);
      CHECK(std::string(e.what()).find(part) != std::string::npos);
    }
  };
  logits[40] = NAN;
  logits[90] = HUGE_VALF;
  fails("token 40 ");
  logits[40] = 1;
  fails("token 90 ");
  logits.assign(vocab, -HUGE_VALF);
  fails("every logit is -infinity");
  // Nothing has changed.
  test::Random random(9);
  const auto good = random_logits(random);
  rwkv::CudaSampler other = before;
  CHECK(sampler.sample(good, work) == other.sample(good, work));
  CHECK_THROWS_AS((void)sampler.sample(std::span(good).first(9), work), rwkv::Error);
  rwkv::SamplerOptions wrong;
  wrong.top_p = 2;
  CHECK_THROWS_AS(rwkv::CudaSampler(model(), wrong), rwkv::Error);
}

TEST_CASE("sequences that go on by themselves draw what the host would have drawn") {
  constexpr std::size_t steps = 5;
  for (const bool graphs : {true, false}) {
    rwkv::CudaWorkspace work(model(), {.rows = 4, .graphs = graphs});
    std::vector<rwkv::CudaState> states(3, model().initial_state());
    std::vector<rwkv::CudaSampler> samplers;
    std::vector<rwkv::CudaSequence> sequences;
    for (std::size_t s = 0; s < states.size(); ++s) {
      rwkv::SamplerOptions options;
      options.seed = s;
      samplers.emplace_back(model(), options);
    }
    for (std::size_t s = 0; s < states.size(); ++s)
      sequences.push_back({&states[s], &samplers[s], static_cast<Token>(s)});
    auto tokens = model().decode(sequences, steps, work);
    const auto more = model().decode(sequences, 2, work);
    tokens.insert(tokens.end(), more.begin(), more.end());
    for (std::size_t s = 0; s < states.size(); ++s) {
      rwkv::SamplerOptions options;
      options.seed = s;
      rwkv::Sampler sampler(options);
      rwkv::CudaState state = model().initial_state();
      auto token = static_cast<Token>(s);
      for (std::size_t t = 0; t < steps + 2; ++t) {
        token = sampler.sample(model().forward(state, std::span(&token, 1), work));
        CHECK(tokens[t * states.size() + s] == token);
      }
      CHECK(sequences[s].last == token);
      CHECK(state == states[s]);
    }
    sequences[1].sampler = sequences[0].sampler;
    CHECK_THROWS_AS(model().decode(sequences, 1, work), rwkv::Error);
    sequences[1].last = vocab;
    CHECK_THROWS_AS(model().decode(sequences, 1, work), rwkv::Error);
  }
}
