// SPDX-License-Identifier: Apache-2.0
// What a model refuses to compute: with an Error that says why, before anything has changed.
#define RWKV_NO_IO
#include "support/sample_checkpoint.hpp"
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

using rwkv::ErrorCategory;
using rwkv::Logits;
using rwkv::Token;
using Slot = rwkv::Slot<>;

struct Fixture {
  rwkv::Model<> model{test::sample_checkpoint()};
  rwkv::Model<> other{test::sample_checkpoint({.layers = 3})};
  rwkv::State<> state{model.shape()};
  rwkv::Workspace<> work{model.shape(), 4};
  std::size_t vocab = model.shape().vocab();

  Fixture() { model.forward(state, std::vector<Token>{1, 2, 3}, work); }

  /// The sentence with which f refuses; f must leave the states as they were.
  template <class F>
  std::string refusal(ErrorCategory category, F&& f) {
    const rwkv::State<> before = state;
    std::string sentence;
    try {
      f();
    } catch (const rwkv::Error& e) {
      CHECK(e.category() == category);
      sentence = e.what();
    }
    CHECK(sentence != "");
    CHECK(state == before);
    return sentence;
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "no tokens") {
  CHECK(contains(refusal(ErrorCategory::argument, [&] { model.forward(state, {}, work); }),
                 "no tokens"));
}

TEST_CASE_FIXTURE(Fixture, "a token outside the vocabulary, wherever it stands") {
  const auto bad = static_cast<Token>(vocab);
  for (const std::vector<Token>& tokens :
       {std::vector<Token>{bad}, {1, 2, bad}, {1, 2, 3, 4, 5, 6, 7, 8, 9, bad}, {0xffffffffu}}) {
    const std::string sentence =
        refusal(ErrorCategory::argument, [&] { model.forward(state, tokens, work); });
    CHECK(contains(sentence, "token " + std::to_string(tokens.back()) + " at position " +
                                 std::to_string(tokens.size() - 1)));
    CHECK(contains(sentence, std::to_string(vocab)));
  }
}

TEST_CASE_FIXTURE(Fixture, "one bad slot refuses the whole batch") {
  rwkv::State second(model.shape());
  const rwkv::State<> untouched = second;
  const std::vector<Token> good{1, 2};
  const std::vector<Token> bad{1, static_cast<Token>(vocab)};
  std::vector<float> logits(2 * vocab, test::canary);
  for (const std::vector<Token>& tokens : {bad, std::vector<Token>{}}) {
    const Slot slots[] = {{&state, good}, {&second, tokens}};
    refusal(ErrorCategory::argument, [&] { model.forward(slots, Logits::last, logits, work); });
  }
  CHECK(second == untouched);
  for (const float f : logits) CHECK(test::bits(f) == test::bits(test::canary));
}

TEST_CASE_FIXTURE(Fixture, "a state or workspace of another model") {
  rwkv::State wrong(other.shape());
  const std::vector<Token> tokens{1};
  CHECK(contains(refusal(ErrorCategory::shape, [&] { model.forward(wrong, tokens, work); }),
                 "slot 0"));
  rwkv::Workspace small(other.shape());
  CHECK(contains(refusal(ErrorCategory::shape, [&] { model.forward(state, tokens, small); }),
                 "workspace"));
}

TEST_CASE_FIXTURE(Fixture, "room for another number of logits than are written") {
  const std::vector<Token> tokens{1, 2, 3};
  const Slot slots[] = {{&state, tokens}};
  const auto refused = [&](Logits which, std::size_t room) {
    std::vector<float> logits(room);
    return contains(
        refusal(ErrorCategory::argument, [&] { model.forward(slots, which, logits, work); }),
        "room for " + std::to_string(room));
  };
  CHECK(refused(Logits::last, 0));
  CHECK(refused(Logits::last, vocab - 1));
  CHECK(refused(Logits::last, 3 * vocab));
  CHECK(refused(Logits::all, vocab));
  CHECK(refused(Logits::all, 3 * vocab + 1));
}

TEST_CASE_FIXTURE(Fixture, "what is allowed: no slots, and no room where no logits are asked for") {
  std::vector<float> none;
  model.forward(std::span<const Slot>(), Logits::all, none, work);
  const std::vector<Token> tokens{1, 2, 3};
  rwkv::State quiet = state;
  const Slot slots[] = {{&quiet, tokens}};
  model.forward(slots, Logits::none, none, work);
  model.forward(state, tokens, work);
  CHECK(quiet == state);
}

TEST_CASE_FIXTURE(Fixture, "after a refusal the model goes on as if nothing had been asked") {
  rwkv::State same = state;
  const std::vector<Token> bad{static_cast<Token>(vocab)};
  refusal(ErrorCategory::argument, [&] { model.forward(state, bad, work); });
  const std::vector<Token> tokens{4, 5};
  const auto logits = model.forward(state, tokens, work);
  const std::vector<float> after(logits.begin(), logits.end());
  const auto again = model.forward(same, tokens, work);
  CHECK(test::same_bits(after, again));
  CHECK(state == same);
}
