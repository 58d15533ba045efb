// SPDX-License-Identifier: Apache-2.0
// The rows that a batch is asked for: after chosen positions, and before the head.
#include "support/golden.hpp"
#include "support/numbers.hpp"
#include "support/sample_hybrid.hpp"
#include <rwkv/hybrid.hpp>

#include <doctest/doctest.h>

using rwkv::Error;
using rwkv::Logits;
using rwkv::Token;

namespace {

std::filesystem::path golden_model() {
  return std::filesystem::path(RWKV_TEST_DATA) / "golden_l2_c32_f32.model.safetensors";
}

std::vector<Token> some_tokens(std::size_t n, std::size_t vocab, std::size_t step) {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < n; ++i) tokens.push_back(static_cast<Token>((i * step + 3) % vocab));
  return tokens;
}

/// All rows of ragged batches against what was asked for of them.
template <class Slot, class Model, class Work>
void check_choices(const Model& model, Work make_work) {
  const std::size_t vocab = model.shape().vocab();
  const std::size_t channels = model.shape().embed();
  std::vector<std::vector<Token>> texts;
  for (const std::size_t n : {9u, 1u, 17u, 4u}) texts.push_back(some_tokens(n, vocab, n + 2));
  std::vector<float> all(31 * vocab), all_hidden(31 * channels);
  auto states = std::vector(4, model.initial_state());
  std::vector<Slot> slots;
  for (std::size_t s = 0; s < 4; ++s) slots.push_back({&states[s], texts[s]});
  auto wide = make_work(64);
  model.forward(slots, Logits::all, {all, all_hidden}, wide);

  test::Random random(5);
  for (const std::size_t rows : {1u, 2u, 3u, 7u, 10u, 64u})
    for (int round = 0; round < 10; ++round) {
      CAPTURE(rows);
      auto work = make_work(rows);
      std::vector<std::vector<std::size_t>> positions(4);
      std::vector<float> expected, expected_hidden;
      std::size_t row = 0;
      for (std::size_t s = 0; s < 4; ++s)
        for (std::size_t t = 0; t < texts[s].size(); ++t, ++row)
          if (random.below(3) == 0) {
            positions[s].push_back(t);
            const auto take = [row](std::vector<float>& to, const std::vector<float>& from,
                                    std::size_t n) {
              const auto first = from.begin() + static_cast<std::ptrdiff_t>(row * n);
              to.insert(to.end(), first, first + static_cast<std::ptrdiff_t>(n));
            };
            take(expected, all, vocab);
            take(expected_hidden, all_hidden, channels);
          }
      auto again = std::vector(4, model.initial_state());
      std::vector<Slot> chosen;
      for (std::size_t s = 0; s < 4; ++s) chosen.push_back({&again[s], texts[s], positions[s]});
      std::vector<float> logits(expected.size()), hidden(expected_hidden.size());
      model.forward(chosen, Logits::chosen, {logits, hidden}, work);
      REQUIRE(logits == expected);
      REQUIRE(hidden == expected_hidden);
      REQUIRE(again == states);

      std::fill(hidden.begin(), hidden.end(), 0.0f);  // and without the head
      auto third = std::vector(4, model.initial_state());
      for (std::size_t s = 0; s < 4; ++s) chosen[s].state = &third[s];
      if (hidden.empty()) continue;
      model.forward(chosen, Logits::chosen, {{}, hidden}, work);
      REQUIRE(hidden == expected_hidden);
    }
}

}  // namespace

TEST_CASE("rows of chosen positions, and hidden states, are rows of all") {
  const auto model = rwkv::Model<>::load(golden_model());
  check_choices<rwkv::Slot<>>(
      model, [&](std::size_t rows) { return rwkv::Workspace(model.shape(), rows); });
  const rwkv::HybridModel hybrid(test::sample_hybrid());
  check_choices<rwkv::HybridSlot>(
      hybrid, [&](std::size_t rows) { return rwkv::HybridWorkspace(hybrid.shape(), rows); });
}

TEST_CASE("the hidden state is what the head is multiplied with") {
  const auto checkpoint = rwkv::io::read_checkpoint(golden_model());
  const rwkv::Model<> model(checkpoint);
  const std::size_t vocab = model.shape().vocab(), channels = model.shape().embed();
  rwkv::State state = model.initial_state();
  rwkv::Workspace work(model.shape());
  const auto tokens = some_tokens(12, vocab, 5);
  std::vector<float> logits(vocab), hidden(channels);
  const rwkv::Slot<> slot{&state, tokens};
  model.forward(std::span(&slot, 1), Logits::last, {logits, hidden}, work);
  const auto head = checkpoint.get("head.weight").values<double>();
  double mean = 0;
  const auto weight = checkpoint.get("ln_out.weight").values<double>();
  const auto bias = checkpoint.get("ln_out.bias").values<double>();
  for (std::size_t i = 0; i < channels; ++i) mean += (double{hidden[i]} - bias[i]) / weight[i];
  CHECK(std::abs(mean / static_cast<double>(channels)) < 1e-5);  // a norm's output
  for (std::size_t v = 0; v < vocab; ++v) {
    double sum = 0;
    for (std::size_t i = 0; i < channels; ++i) sum += head[v * channels + i] * double{hidden[i]};
    CHECK(double{logits[v]} == doctest::Approx(sum).epsilon(1e-4).scale(1.0));
  }
}

TEST_CASE("positions and room that do not fit are refused before anything has changed") {
  const auto model = rwkv::Model<>::load(golden_model());
  const std::size_t vocab = model.shape().vocab();
  rwkv::State state = model.initial_state();
  rwkv::Workspace work(model.shape());
  const auto tokens = some_tokens(5, vocab, 5);
  std::vector<float> room(2 * vocab);
  const auto refuse = [&](std::vector<std::size_t> positions, rwkv::Outputs out,
                          const std::string& sentence) {
    const rwkv::Slot<> slot{&state, tokens, positions};
    CHECK_THROWS_WITH_AS(model.forward(std::span(&slot, 1), Logits::chosen, out, work),
                         sentence.c_str(), Error);
    CHECK(state == model.initial_state());
  };
  refuse({1, 5}, room, "position 5 of slot 0 is behind its last token");
  refuse({2, 2}, room, "position 2 of slot 0 does not come after the one before it");
  refuse({3, 1}, room, "position 1 of slot 0 does not come after the one before it");
  refuse({1}, room,
         "room for " + std::to_string(2 * vocab) + " logits where 1 rows of " +
             std::to_string(vocab) + " are written");
  refuse({1}, {{}, room},
         "room for " + std::to_string(2 * vocab) + " numbers of hidden states where 1 rows of " +
             std::to_string(model.shape().embed()) + " are written");
  refuse({1}, {}, "room for 0 logits where 1 rows of " + std::to_string(vocab) + " are written");
}
