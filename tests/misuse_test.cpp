// SPDX-License-Identifier: Apache-2.0
// What a program may do wrong with models, states and tokenizers: each time it gets a sentence with
// the numbers, and nothing has changed.
#include "support/refusal.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/sample_hybrid.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/chat.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/grammar.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using rwkv::ErrorCategory;
using rwkv::Logits;
using rwkv::Token;

namespace {

using test::contains;
using test::refusal;

/// Moves a value away for good.
template <class T>
void lose(T& value) {
  [[maybe_unused]] const T elsewhere(std::move(value));
}

struct Fixture {
  rwkv::Model<> model{test::sample_checkpoint()};
  rwkv::State<> state{model.shape()};
  rwkv::Workspace<> work{model.shape(), 4};
  std::size_t vocab = model.shape().vocab();
  std::vector<Token> tokens{1, 2, 3};
  std::vector<float> logits = std::vector<float>(8 * vocab, test::canary);
};

rwkv::HybridConfig small_caches() {
  rwkv::HybridConfig config;
  config.chunk = 4;
  config.max_cache = 24;
  config.min_cache = 12;
  config.window = 5;
  return config;
}

struct HybridFixture {
  rwkv::HybridModel model{test::sample_hybrid(), small_caches()};
  rwkv::HybridState state{model.shape()};
  rwkv::HybridWorkspace work{model.shape(), 4};
  std::size_t vocab = model.shape().vocab();
  std::vector<Token> tokens{1, 2, 3};
  std::vector<float> logits = std::vector<float>(8 * vocab);
};

}  // namespace

// -- batches

TEST_CASE_FIXTURE(Fixture, "a slot without a state") {
  const rwkv::Slot<> slots[] = {{&state, tokens}, {nullptr, tokens}};
  const rwkv::State<> before = state;
  CHECK(contains(refusal(ErrorCategory::argument,
                         [&] {
                           model.forward(slots, Logits::last, std::span(logits).first(2 * vocab),
                                         work);
                         }),
                 "slot 1 has no state"));
  CHECK(state == before);
}

TEST_CASE_FIXTURE(HybridFixture, "a slot without a state, of a hybrid model") {
  const rwkv::HybridSlot slots[] = {{nullptr, tokens}};
  CHECK(contains(
      refusal(ErrorCategory::argument,
              [&] { model.forward(slots, Logits::last, std::span(logits).first(vocab), work); }),
      "slot 0 has no state"));
}

TEST_CASE_FIXTURE(Fixture, "one state in two slots") {
  rwkv::State<> other(model.shape());
  const rwkv::State<> before = state;
  for (const Logits which : {Logits::none, Logits::last, Logits::all}) {
    const rwkv::Slot<> slots[] = {{&other, tokens}, {&state, tokens}, {&state, tokens}};
    const std::size_t rows = which == Logits::none ? 0 : which == Logits::last ? 3 : 9;
    std::vector<float> room(rows * vocab);
    CHECK(
        contains(refusal(ErrorCategory::argument, [&] { model.forward(slots, which, room, work); }),
                 "slots 1 and 2 have the same state"));
    CHECK(state == before);
    CHECK(other == before);
  }
}

TEST_CASE_FIXTURE(HybridFixture, "one state in two slots of a hybrid model") {
  const rwkv::HybridState before = state;
  const rwkv::HybridSlot slots[] = {{&state, tokens}, {&state, tokens}};
  CHECK(contains(refusal(ErrorCategory::argument,
                         [&] {
                           model.forward(slots, Logits::last, std::span(logits).first(2 * vocab),
                                         work);
                         }),
                 "slots 0 and 1 have the same state"));
  CHECK(state == before);
}

TEST_CASE_FIXTURE(Fixture, "many different states are fine") {
  std::vector<rwkv::State<>> states(300, state);
  std::vector<rwkv::Slot<>> slots;
  for (auto& s : states) slots.push_back({&s, tokens});
  model.forward(slots, Logits::none, {}, work);
  CHECK(states[299] == states[0]);
  slots[299].state = &states[17];
  CHECK(contains(
      refusal(ErrorCategory::argument, [&] { model.forward(slots, Logits::none, {}, work); }),
      "slots 17 and 299 have the same state"));
}

TEST_CASE_FIXTURE(Fixture, "sentences about shapes name what differs") {
  const rwkv::Model<> deep(test::sample_checkpoint({.layers = 3}));
  rwkv::State<> wrong(deep.shape());
  const std::string sentence =
      refusal(ErrorCategory::shape, [&] { model.forward(wrong, tokens, work); });
  CHECK(contains(sentence, "3 layers"));
  CHECK(contains(sentence, std::to_string(model.shape().layers())));
  rwkv::Workspace<> other(deep.shape());
  CHECK(contains(refusal(ErrorCategory::shape, [&] { model.forward(state, tokens, other); }),
                 "3 layers"));
}

// -- values that were moved away

TEST_CASE_FIXTURE(Fixture, "a state that was moved away") {
  lose(state);
  CHECK(contains(refusal(ErrorCategory::argument, [&] { model.forward(state, tokens, work); }),
                 "slot 0 was moved away"));
}

TEST_CASE_FIXTURE(Fixture, "a state that was assigned away holds nothing of another shape") {
  const rwkv::Model<> deep(test::sample_checkpoint({.layers = 5}));
  rwkv::State<> larger(deep.shape());
  rwkv::Workspace<> wide(deep.shape());
  state = std::move(larger);  // `larger` must not be left with the numbers of `state`
  CHECK(contains(refusal(ErrorCategory::argument, [&] { deep.forward(larger, tokens, wide); }),
                 "moved away"));
  CHECK_NOTHROW(deep.forward(state, tokens, wide));
  larger = rwkv::State<>(deep.shape());  // and may be used again
  CHECK_NOTHROW(deep.forward(larger, tokens, wide));
}

TEST_CASE_FIXTURE(HybridFixture, "a hybrid state that was moved away") {
  lose(state);
  CHECK(contains(refusal(ErrorCategory::argument, [&] { model.forward(state, tokens, work); }),
                 "slot 0 was moved away"));
}

TEST_CASE_FIXTURE(Fixture, "a workspace that was moved away") {
  lose(work);
  const rwkv::Slot<> slots[] = {{&state, tokens}};
  CHECK(contains(
      refusal(ErrorCategory::argument,
              [&] { model.forward(slots, Logits::last, std::span(logits).first(vocab), work); }),
      "workspace was moved away"));
  CHECK(contains(refusal(ErrorCategory::argument, [&] { model.forward(state, tokens, work); }),
                 "workspace was moved away"));
}

TEST_CASE_FIXTURE(HybridFixture, "a hybrid workspace that was moved away") {
  lose(work);
  CHECK(contains(refusal(ErrorCategory::argument, [&] { model.forward(state, tokens, work); }),
                 "workspace was moved away"));
}

TEST_CASE_FIXTURE(Fixture, "a model that was moved away") {
  const test::TemporaryDirectory directory;
  lose(model);
  const auto says = [](auto&& f) {
    return contains(refusal(ErrorCategory::argument, f), "this model was moved away");
  };
  CHECK(says([&] { model.forward(state, tokens, work); }));
  CHECK(says([&] { (void)model.initial_state(); }));
  CHECK(says([&] { model.save_state(directory / "s", state); }));
  CHECK(says([&] { (void)model.load_state(directory / "s"); }));
  CHECK(says([&] { (void)model.weights(); }));
}

TEST_CASE_FIXTURE(HybridFixture, "a hybrid model that was moved away") {
  const test::TemporaryDirectory directory;
  lose(model);
  const auto says = [](auto&& f) {
    return contains(refusal(ErrorCategory::argument, f), "this model was moved away");
  };
  CHECK(says([&] { model.forward(state, tokens, work); }));
  CHECK(says([&] { (void)model.initial_state(); }));
  CHECK(says([&] { model.save_state(directory / "s", state); }));
  CHECK(says([&] { (void)model.load_state(directory / "s"); }));
  CHECK(says([&] { (void)model.weights(); }));
}

TEST_CASE("a tokenizer that was moved away") {
  auto tokenizer = rwkv::Tokenizer::bytes();
  lose(tokenizer);
  const auto says = [](auto&& f) {
    return contains(refusal(ErrorCategory::argument, f), "this tokenizer was moved away");
  };
  CHECK(says([&] { (void)tokenizer.vocab_size(); }));
  CHECK(says([&] { (void)tokenizer.ids_in_use(); }));
  CHECK(says([&] { (void)tokenizer.encode("text"); }));
  CHECK(says([&] { (void)tokenizer.token_bytes(0); }));
  CHECK(says([&] { (void)tokenizer.decode(std::vector<Token>{1}); }));
  CHECK(says([&] { tokenizer.require_fit(256); }));
}

// -- states in files

TEST_CASE_FIXTURE(Fixture, "a state of another model, or none, is not saved") {
  const test::TemporaryDirectory directory;
  const rwkv::Model<> deep(test::sample_checkpoint({.layers = 3}));
  const rwkv::State<> wrong(deep.shape());
  CHECK(contains(refusal(ErrorCategory::shape, [&] { model.save_state(directory / "s", wrong); }),
                 "3 layers"));
  lose(state);
  CHECK(
      contains(refusal(ErrorCategory::argument, [&] { model.save_state(directory / "s", state); }),
               "moved away"));
  CHECK(contains(
      refusal(ErrorCategory::argument, [&] { rwkv::io::save_state(directory / "s", state, 1); }),
      "moved away"));
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE_FIXTURE(HybridFixture, "a hybrid state of another model, or none, is not saved") {
  const test::TemporaryDirectory directory;
  rwkv::HybridConfig config = small_caches();
  config.max_cache = 25;
  const rwkv::HybridModel longer(test::sample_hybrid(), config);
  const rwkv::HybridState wrong(longer.shape());
  CHECK(contains(refusal(ErrorCategory::shape, [&] { model.save_state(directory / "s", wrong); }),
                 "max 25"));
  lose(state);
  CHECK(
      contains(refusal(ErrorCategory::argument, [&] { model.save_state(directory / "s", state); }),
               "moved away"));
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE_FIXTURE(HybridFixture, "a state of a hybrid model is none of its RWKV-7 blocks alone") {
  const test::TemporaryDirectory directory;
  model.forward(state, tokens, work);
  model.save_state(directory / "s", state);
  const rwkv::Model<> plain(test::sample_checkpoint(test::hybrid_sizes));
  const std::string sentence =
      refusal(ErrorCategory::argument, [&] { (void)plain.load_state(directory / "s"); });
  CHECK(contains(sentence, "RWKV-X"));
}

// -- assignment

TEST_CASE("states and caches are assigned whole") {
  const rwkv::HybridModel model(test::sample_hybrid(), small_caches());
  rwkv::HybridWorkspace work(model.shape(), 16);
  std::vector<Token> tokens(70);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * i % 40);
  rwkv::HybridState a(model.shape());
  for (const std::size_t n : {0u, 3u, 30u, 70u}) {
    if (n > 0) model.forward(a, std::span(tokens).first(n), work);
    for (const std::size_t m : {0u, 2u, 70u}) {
      rwkv::HybridState b(model.shape());
      if (m > 0) model.forward(b, std::span(tokens).first(m), work);
      b = a;
      CHECK(b == a);
      const rwkv::HybridState& self = b;
      b = self;
      CHECK(b == a);
      rwkv::HybridState c = a;
      model.forward(b, tokens, work);
      model.forward(c, tokens, work);
      CHECK(b == c);
    }
  }
}

// -- text

TEST_CASE_FIXTURE(Fixture, "a conversation without a template") {
  const auto tokenizer = rwkv::Tokenizer::bytes();
  rwkv::ChatSettings settings;
  settings.form = nullptr;
  CHECK(contains(refusal(ErrorCategory::argument,
                         [&] { rwkv::Conversation(model, state, tokenizer, settings); }),
                 "no chat template"));
  CHECK(
      contains(refusal(ErrorCategory::argument, [&] { (void)rwkv::chat::prompt_of(settings, {}); }),
               "no chat template"));
  CHECK(contains(refusal(ErrorCategory::argument,
                         [&] { (void)rwkv::chat::with_stops({}, settings, tokenizer); }),
                 "no chat template"));
}

TEST_CASE_FIXTURE(Fixture,
                  "a turn that does not exist, a conversation with another model's state") {
  const auto tokenizer = rwkv::Tokenizer::bytes();
  const rwkv::Conversation talk(model, state, tokenizer);
  CHECK(contains(refusal(ErrorCategory::argument, [&] { (void)talk.turn(0); }), "turn 0 of 0"));
  const rwkv::Model<> deep(test::sample_checkpoint({.layers = 3}));
  const rwkv::State<> wrong(deep.shape());
  CHECK(
      contains(refusal(ErrorCategory::shape, [&] { rwkv::Conversation(model, wrong, tokenizer); }),
               "another shape"));
}

TEST_CASE("a constraint that is none") {
  rwkv::Constraint none;
  rwkv::TokenMask mask(4);
  const auto says = [](auto&& f) {
    return contains(refusal(ErrorCategory::argument, f), "no constraint");
  };
  CHECK(says([&] { none.allowed(mask); }));
  CHECK(says([&] { none.accept(1); }));
  CHECK(says([&] { (void)none.forced(); }));
  CHECK(says([&] { (void)none.forced_tokens(); }));
  CHECK(says([&] { (void)none.complete(); }));
}

TEST_CASE("a grammar, or the tokens for it, that were moved away") {
  auto grammar = rwkv::Grammar::from_regex("a+");
  rwkv::TokenTrie tokens(rwkv::Tokenizer::bytes());
  CHECK_NOTHROW((void)grammar.constraint(tokens));
  lose(tokens);
  CHECK(contains(refusal(ErrorCategory::argument, [&] { (void)grammar.constraint(tokens); }),
                 "token trie was moved away"));
  lose(grammar);
  CHECK(contains(refusal(ErrorCategory::argument, [&] { (void)grammar.matches("a"); }),
                 "grammar was moved away"));
  CHECK(contains(
      refusal(ErrorCategory::argument, [&] { (void)grammar.constraint(rwkv::Tokenizer::bytes()); }),
      "grammar was moved away"));
}

TEST_CASE("a mask is not set outside") {
  rwkv::TokenMask mask(70);
  CHECK(contains(refusal(ErrorCategory::argument, [&] { mask.set(70); }), "token 70"));
  CHECK(contains(refusal(ErrorCategory::argument, [&] { mask.set(5'000'000); }), "70"));
  CHECK(mask.none());
}

TEST_CASE("a stream of tokens that has ended takes no more") {
  rwkv::TokenStream stream(rwkv::Tokenizer::bytes(), {.max_tokens = 1});
  (void)stream.push('a');
  CHECK(contains(refusal(ErrorCategory::argument, [&] { (void)stream.push('b'); }), "ended"));
  rwkv::StopMatcher matcher({"b"});
  (void)matcher.push("b");
  CHECK(contains(refusal(ErrorCategory::argument, [&] { (void)matcher.push("c"); }), "complete"));
  CHECK(contains(refusal(ErrorCategory::argument, [&] { (void)matcher.flush(); }), "complete"));
}

TEST_CASE("sampling options that are no numbers, or negative") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refuses = [](rwkv::SamplerOptions options, const char* name) {
    return contains(refusal(ErrorCategory::argument, [&] { rwkv::Sampler s(options); }), name);
  };
  for (const float bad : {-0.5f, nan, std::numeric_limits<float>::infinity()}) {
    CHECK(refuses({.temperature = bad}, "temperature"));
    CHECK(refuses({.top_p = bad}, "top_p"));
    CHECK(refuses({.min_p = bad}, "min_p"));
    CHECK(refuses({.presence_penalty = bad}, "presence_penalty"));
    CHECK(refuses({.frequency_penalty = bad}, "frequency_penalty"));
    CHECK(refuses({.penalty_decay = bad}, "penalty_decay"));
  }
  CHECK(refuses({.bias = {{1, nan}}}, "bias"));
  // What was given is said, whatever its size.
  CHECK(refuses({.temperature = -1e-7f}, "-1e-07"));
}
