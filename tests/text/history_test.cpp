// SPDX-License-Identifier: Apache-2.0
#include "../support/sample_types.hpp"
#include "support.hpp"
#include <rwkv/speculate.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::Feeder;
using rwkv::History;
using rwkv::Model;
using rwkv::NgramDraft;
using rwkv::RowLog;
using rwkv::State;
using rwkv::Token;

namespace {

constexpr test::SampleSizes tiny{.embed = 24, .head_size = 8, .ffn = 32, .vocab = 40};

/// A text, and the states after each of its tokens.
struct Path {
  std::vector<Token> text;
  std::vector<State<>> states;

  Path(const Model<>& model, std::size_t length, unsigned seed) : states{model.initial_state()} {
    test::Random random(seed);
    rwkv::Workspace work(model.shape(), 1);
    while (text.size() < length) {
      text.push_back(static_cast<Token>(random.below(4)));  // repetitive: drafts are right at times
      State<> next = states.back();
      (void)model.forward(next, std::span(&text.back(), 1), work);
      states.push_back(next);
    }
  }
};

/// Feeds `tokens` as `generate` does.
void feed(const Model<>& model, Feeder& feeder, State<>& state, std::span<const Token> tokens,
          rwkv::Workspace<>& work, std::size_t expected = 0) {
  Feeder::Request request{&feeder, &state, tokens, expected};
  rwkv::feed(model, std::span(&request, 1), work);
}

std::size_t budget(const Model<>& model, std::size_t logs, std::size_t tokens) {
  return logs * RowLog::bytes_for(model.shape(), tokens);
}

}  // namespace

TEST_CASE("every token can be taken back: the bits are as if it had never been fed") {
  for (const DType type : {DType::f32, DType::q8_0, DType::q4_k}) {
    CAPTURE(rwkv::name_of(type));
    const Model<> model = test::model_of_type(type);
    const Path path(model, 60, 3);
    rwkv::Workspace work(model.shape(), 16);
    for (const bool drafts : {false, true}) {
      History history(model.shape(), 64 << 20);
      NgramDraft draft;
      Feeder feeder(model.shape(), {.draft = drafts ? &draft : nullptr, .history = &history});
      State<> state = model.initial_state();
      const std::span<const Token> text(path.text);
      feed(model, feeder, state, text.first(20), work);
      for (std::size_t i = 20; i < 60; ++i)
        feed(model, feeder, state, text.subspan(i, 1), work, 60 - i);
      feeder.settle(state, {});
      REQUIRE(state == path.states[60]);
      REQUIRE(history.size() == 60);
      for (std::size_t back = 0; back <= 60; ++back) {
        History copy = history;
        State<> earlier = state;
        copy.rewind(earlier, back);
        REQUIRE(earlier == path.states[60 - back]);
        REQUIRE(copy.size() == 60 - back);
      }
    }
  }
}

TEST_CASE("forth and back at random, within a budget") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  test::Random random(8);
  for (const std::size_t logs : {2u, 3u, 9u}) {
    for (const std::size_t tokens : {1u, 5u, 17u}) {
      const std::size_t bytes = budget(model, logs, tokens) + 100;
      History history(model.shape(), bytes);
      NgramDraft draft;
      Feeder feeder(model.shape(), {.draft = &draft, .history = &history});
      rwkv::Workspace work(model.shape(), 6);
      std::vector<State<>> states{model.initial_state()};
      State<> state = states.back();
      const Path path(model, 1, 1);
      std::size_t fed = 0;
      for (int round = 0; round < 150; ++round) {
        const std::size_t have = history.size();
        REQUIRE(have + 1 <= states.size());
        REQUIRE(history.bytes() <= bytes);
        if (fed > history.reach() + 20) REQUIRE(have >= history.reach());
        if (random.below(3) != 0) {
          std::vector<Token> text;
          for (std::size_t i = 1 + random.below(random.below(4) == 0 ? 40 : 3); i-- > 0;)
            text.push_back(static_cast<Token>(random.below(3)));
          rwkv::Workspace one(model.shape(), 1);
          State<> next = state;
          for (const Token token : text) {
            (void)model.forward(next, std::span(&token, 1), one);
            states.push_back(next);
          }
          feed(model, feeder, state, text, work, 4);
          feeder.settle(state, {});
          fed += text.size();
        } else {
          const std::size_t back = random.below(have + 1);
          history.rewind(state, back);
          states.resize(states.size() - back, state);
          fed = 0;
        }
        REQUIRE(state == states.back());
      }
    }
  }
}

TEST_CASE("a state that went another way begins a new history, or an earlier part of the old one") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  const Path path(model, 12, 5);
  rwkv::Workspace work(model.shape());
  History history(model.shape(), 1 << 20);
  Feeder feeder(model.shape(), {.history = &history});
  State<> state = model.initial_state();
  const std::span<const Token> text(path.text);
  feed(model, feeder, state, text.first(8), work);
  state = path.states[5];  // a copy from before: the history still holds the place
  test::check_error(rwkv::ErrorCategory::argument, "went on without it",
                    [&] { history.rewind(state, 1); });
  CHECK_FALSE(history.ends_with(state));
  CHECK(history.ends_with(path.states[8]));
  CHECK(state == path.states[5]);
  CHECK(history.size() == 8);
  feed(model, feeder, state, text.subspan(5, 2), work);
  CHECK(history.size() == 7);
  history.rewind(state, 7);
  CHECK(state == path.states[0]);

  feed(model, feeder, state, text.first(3), work);
  (void)model.forward(state, text.subspan(3, 4), work);
  CHECK_THROWS_AS(history.rewind(state, 1), rwkv::Error);
  feed(model, feeder, state, text.subspan(7, 2), work);
  CHECK(history.size() == 2);
  test::check_error(rwkv::ErrorCategory::argument, "the history has 2 tokens, not 3",
                    [&] { history.rewind(state, 3); });
  history.rewind(state, 2);
  CHECK(state == path.states[7]);

  history.clear();
  CHECK(history.size() == 0);
  history.rewind(state, 0);
  CHECK_THROWS_AS(history.rewind(state, 1), rwkv::Error);
  State<> other(test::model_of_type(DType::f32, {.embed = 16, .head_size = 8}).shape());
  test::check_error(rwkv::ErrorCategory::shape, "another shape", [&] { history.rewind(other, 0); });
}

TEST_CASE("a pass that comes to nothing, wherever it ends, leaves the history as it was") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  rwkv::io::Vocabulary vocabulary;
  for (std::size_t id = 0; id < 40; ++id) vocabulary.emplace_back(1, static_cast<char>('0' + id));
  const rwkv::Tokenizer tokenizer(vocabulary);
  const Path path(model, 60, 6);
  rwkv::Workspace work(model.shape(), 64);
  rwkv::Workspace narrow(model.shape(), 3);  // passes are cut
  const std::span<const Token> text(path.text);
  // Logs of fewer tokens than the prompt has, and of more.
  for (const std::size_t capacity : {20u, 40u}) {
    for (const bool cut : {false, true}) {
      CAPTURE(capacity);
      CAPTURE(cut);
      for (int allowed = 0, asked = 1; asked > allowed; ++allowed) {
        History history(model.shape(), budget(model, 8, capacity));
        CHECK(history.capacity() == capacity);
        Feeder feeder(model.shape(), {.history = &history});
        State<> state = model.initial_state();
        feed(model, feeder, state, text.first(8), work);
        asked = 0;
        rwkv::Cancellable exec(rwkv::ExecutorRef(), [&] { return ++asked > allowed; });
        const auto run = [&](auto slots, auto which, auto logits) {
          model.forward(slots, which, logits, cut ? narrow : work, exec);
        };
        const State<> before = state;
        (void)feeder.feed(state, text.subspan(8, 30), 0, run, exec);
        if (!exec.stopped()) continue;
        state = before;
        feeder.abandon();
        CHECK(history.size() == 8);
        CHECK(history.ends_with(state));
        history.rewind(state, 6);
        CHECK(state == path.states[2]);
      }
    }
  }
}

TEST_CASE("a cancelled prompt leaves what was before it") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  rwkv::io::Vocabulary vocabulary;
  for (std::size_t id = 0; id < 40; ++id) vocabulary.emplace_back(1, static_cast<char>('0' + id));
  const rwkv::Tokenizer tokenizer(vocabulary);
  const Path path(model, 20, 6);
  rwkv::Workspace work(model.shape());
  History history(model.shape(), 1 << 20);
  Feeder feeder(model.shape(), {.history = &history});
  State<> state = model.initial_state();
  const std::span<const Token> text(path.text);
  feed(model, feeder, state, text.first(8), work);
  rwkv::GenerateOptions options{.max_tokens = 3, .stop_tokens = {}, .feeder = &feeder};
  int asked = 0;
  options.cancelled = [&] { return ++asked > 2; };  // in the middle of the pass
  const auto result = rwkv::generate(model, state, work, tokenizer, text.subspan(8, 9), options);
  CHECK(result.prompt_tokens == 0);
  CHECK(state == path.states[8]);
  CHECK(history.size() == 8);
  history.rewind(state, 6);
  CHECK(state == path.states[2]);
}

TEST_CASE("how far back it reaches, by the length of passes") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  rwkv::Workspace work(model.shape());
  constexpr std::size_t capacity = 17;
  for (std::size_t length = 1; length <= 2 * capacity; length += length < 4 ? 1 : 5) {
    CAPTURE(length);
    History history(model.shape(), budget(model, 8, capacity));
    REQUIRE(history.capacity() == capacity);
    REQUIRE(history.reach() == 7 * capacity);
    Feeder feeder(model.shape(), {.history = &history});
    State<> state = model.initial_state();
    const std::vector<Token> text(length, 3);
    const std::size_t least = length > capacity ? capacity : 7 * (capacity - length + 1);
    for (std::size_t fed = 0; fed < 4 * history.reach(); fed += length) {
      CHECK(history.size() >= (std::min)(fed, least));
      feed(model, feeder, state, text, work);
      if (length > capacity) CHECK(history.size() == capacity);
    }
  }
}

TEST_CASE("budgets") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  const std::size_t least = 2 * RowLog::bytes_for(model.shape(), 1);
  test::check_error(rwkv::ErrorCategory::argument, "the smallest has " + std::to_string(least),
                    [&] { (void)History(model.shape(), least - 1); });
  History smallest(model.shape(), least);
  CHECK(smallest.reach() == 1);
  CHECK(smallest.bytes() == 0);  // until something is fed
  const History large(model.shape(), std::size_t{1} << 30);
  CHECK(large.capacity() == 64);
  CHECK(large.reach() > 10000);
}
