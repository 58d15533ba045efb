// SPDX-License-Identifier: Apache-2.0
#include "support/executors.hpp"
#include "support/numbers.hpp"
#include "support/sample_types.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/rewind.hpp>

#include <doctest/doctest.h>

#include <vector>

using rwkv::DType;
using rwkv::Logits;
using rwkv::Model;
using rwkv::RowLog;
using rwkv::Slot;
using rwkv::State;
using rwkv::Token;

namespace {

std::vector<Token> random_tokens(test::Random& random, std::size_t count, std::size_t vocab) {
  std::vector<Token> tokens(count);
  for (Token& token : tokens) token = static_cast<Token>(random.below(vocab));
  return tokens;
}

/// The states after each of the tokens, fed one by one.
std::vector<State<>> one_by_one(const Model<>& model, State<> state,
                                const std::vector<Token>& tokens) {
  rwkv::Workspace work(model.shape(), 1);
  std::vector<State<>> states{state};
  for (const Token token : tokens) {
    (void)model.forward(state, std::span(&token, 1), work);
    states.push_back(state);
  }
  return states;
}

}  // namespace

TEST_CASE(
    "a logged pass changes nothing, and every row's state comes back: any type, cut, executor") {
  test::Random random(5);
  for (const DType type : {DType::f32, DType::f16, DType::q8_0, DType::q4_k}) {
    CAPTURE(rwkv::name_of(type));
    const Model<> model = test::model_of_type(type);
    const auto tokens = random_tokens(random, 11, model.shape().vocab());
    const auto states = one_by_one(model, model.initial_state(), tokens);
    rwkv::ThreadPool pool({.threads = 2, .oversubscribe = true});
    test::Backwards backwards(3);
    for (const std::size_t rows : {std::size_t{1}, std::size_t{3}, std::size_t{32}}) {
      for (const rwkv::ExecutorRef exec :
           {rwkv::ExecutorRef(), rwkv::ExecutorRef(pool), rwkv::ExecutorRef(backwards)}) {
        rwkv::Workspace work(model.shape(), rows);
        State<> state = model.initial_state();
        RowLog log(model.shape(), 12);
        std::vector<float> logits(tokens.size() * model.shape().vocab());
        std::vector<float> plain(logits.size());
        const Slot<> slot{.state = &state, .tokens = tokens, .log = &log};
        model.forward(std::span(&slot, 1), Logits::all, logits, work, exec);
        CHECK(state == states.back());
        CHECK(log.size() == tokens.size());
        State<> without = model.initial_state();
        const Slot<> unlogged{.state = &without, .tokens = tokens};
        model.forward(std::span(&unlogged, 1), Logits::all, plain, work, exec);
        CHECK(logits == plain);
        for (std::size_t m = tokens.size() + 1; m-- > 0;) {
          rwkv::rewind(state, log, m, exec);
          REQUIRE(state == states[m]);
          REQUIRE(log.size() == m);
        }
      }
    }
  }
}

TEST_CASE("a log goes on over passes, is cut and goes on again") {
  test::Random random(6);
  const Model<> model = test::model_of_type(DType::f32, {.embed = 24, .head_size = 8});
  rwkv::Workspace work(model.shape(), 4);
  State<> state = model.initial_state();
  const auto start = random_tokens(random, 3, model.shape().vocab());
  (void)model.forward(state, start, work);
  std::vector<State<>> states{state};
  RowLog log(model.shape(), 9);
  for (int round = 0; round < 60; ++round) {
    if (log.room() > 0 && random.below(3) != 0) {
      const auto tokens =
          random_tokens(random, 1 + random.below(log.room()), model.shape().vocab());
      const auto more = one_by_one(model, state, tokens);
      const Slot<> slot{.state = &state, .tokens = tokens, .log = &log};
      model.forward(std::span(&slot, 1), Logits::none, {}, work);
      states.insert(states.end(), more.begin() + 1, more.end());
    } else {
      const std::size_t left = random.below(states.size());
      rwkv::rewind(state, log, left);
      states.resize(left + 1, state);
    }
    REQUIRE(state == states.back());
    REQUIRE(log.size() + 1 == states.size());
    RowLog copy(model.shape(), 20);  // as a part of another
    copy.append(log, log.size() / 2);
    State<> other = model.initial_state();
    rwkv::rewind(other, copy, log.size() / 2);
    REQUIRE(other == states[log.size() / 2]);
  }
}

TEST_CASE("some sequences of a batch are logged") {
  test::Random random(7);
  const Model<> model = test::model_of_type(DType::f32, {.embed = 24, .head_size = 8});
  rwkv::Workspace work(model.shape(), 5);
  std::vector<State<>> states(3, model.initial_state());
  std::vector<std::vector<Token>> texts;
  std::vector<RowLog> logs(3, RowLog(model.shape(), 8));
  for (const std::size_t length : {4u, 7u, 2u})
    texts.push_back(random_tokens(random, length, model.shape().vocab()));
  std::vector<Slot<>> slots;
  for (std::size_t s = 0; s < 3; ++s)
    slots.push_back({.state = &states[s], .tokens = texts[s], .log = s == 1 ? nullptr : &logs[s]});
  std::vector<float> logits(3 * model.shape().vocab());
  model.forward(std::span<const Slot<>>(slots), Logits::last, logits, work);
  CHECK(logs[1].size() == 0);
  for (const std::size_t s : {0u, 2u}) {
    const auto expected = one_by_one(model, model.initial_state(), texts[s]);
    for (std::size_t m = texts[s].size() + 1; m-- > 0;) {
      rwkv::rewind(states[s], logs[s], m);
      CHECK(states[s] == expected[m]);
    }
  }
}

TEST_CASE("what does not fit a log is refused before anything has changed") {
  const Model<> model = test::model_of_type(DType::f32, {.embed = 24, .head_size = 8});
  const Model<> other = test::model_of_type(DType::f32, {.embed = 16, .head_size = 8});
  rwkv::Workspace work(model.shape(), 8);
  State<> state = model.initial_state();
  const std::vector<Token> tokens{1, 2, 3};
  const auto sentence = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const rwkv::Error& error) {
      return error.what();
    }
    return "";
  };
  const auto feed = [&](RowLog& log) {
    const Slot<> slot{.state = &state, .tokens = tokens, .log = &log};
    model.forward(std::span(&slot, 1), Logits::none, {}, work);
  };
  RowLog small_log(model.shape(), 2);
  CHECK(sentence([&] { feed(small_log); }).find("has room for 2 tokens, not 3") !=
        std::string::npos);
  RowLog foreign(other.shape(), 8);
  CHECK(sentence([&] { feed(foreign); }).find("another shape") != std::string::npos);
  CHECK(state == model.initial_state());
  CHECK(small_log.size() == 0);
  RowLog log(model.shape(), 8);
  feed(log);
  const State<> after = state;
  CHECK(sentence([&] { rwkv::rewind(state, log, 4); }).find("has 3 tokens, not 4") !=
        std::string::npos);
  State<> foreign_state(other.shape());
  CHECK(sentence([&] { rwkv::rewind(foreign_state, log, 1); }).find("another shape") !=
        std::string::npos);
  CHECK(state == after);
  CHECK(log.size() == 3);
  CHECK(log.bytes() == RowLog::bytes_for(model.shape(), 8));

  State<> second = model.initial_state();
  const Slot<> shared[] = {{.state = &state, .tokens = tokens, .log = &log},
                           {.state = &second, .tokens = std::span(tokens).first(2), .log = &log}};
  CHECK(sentence([&] { model.forward(std::span<const Slot<>>(shared), Logits::none, {}, work); }) ==
        "slots 0 and 1 have the same log: a log is of one sequence");
  CHECK(state == after);
  CHECK(log.size() == 3);

  RowLog empty(model.shape(), 4);
  rwkv::rewind(state, empty, 0);  // nothing was fed since
  CHECK(state == after);
  const State<> taken = std::move(second);
  CHECK(sentence([&] { rwkv::rewind(second, log, 1); }).find("was moved away") !=
        std::string::npos);
  const RowLog moved = std::move(log);
  CHECK(moved.size() == 3);
  CHECK(log.size() == 0);
  CHECK(sentence([&] { feed(log); }).find("has room for 0 tokens, not 3") != std::string::npos);
  CHECK(sentence([&] { rwkv::rewind(state, log, 1); }).find("has 0 tokens") != std::string::npos);
  log = moved;
  rwkv::rewind(state, log, 0);
  CHECK(state == model.initial_state());
  feed(log);
  model.forward(state, tokens, work);
  CHECK(sentence([&] { feed(log); }) ==
        "the log of slot 0 does not end with its state, which went on without it");
  CHECK(log.size() == 3);
}
