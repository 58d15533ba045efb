// SPDX-License-Identifier: Apache-2.0
#include "../support/sample_hybrid.hpp"
#include "../support/sample_types.hpp"
#include "support.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/any_model.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate_batch.hpp>
#include <rwkv/grammar.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/speculate.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>

using rwkv::DType;
using rwkv::Feeder;
using rwkv::FeederOptions;
using rwkv::FixedDraft;
using rwkv::GenerateOptions;
using rwkv::GenerateResult;
using rwkv::History;
using rwkv::Model;
using rwkv::ModelDraft;
using rwkv::NgramDraft;
using rwkv::State;
using rwkv::StopReason;
using rwkv::Token;
using rwkv::Tokenizer;

namespace {

constexpr test::SampleSizes tiny{.embed = 24, .head_size = 8, .ffn = 32, .vocab = 40};

/// Token 0 has no bytes, the others are characters from '0' on.
Tokenizer characters() {
  rwkv::io::Vocabulary vocabulary(1);
  for (int id = 1; id < 40; ++id) vocabulary.emplace_back(1, static_cast<char>('0' + id));
  return Tokenizer(vocabulary);
}

const std::vector<Token> prompt{5, 6, 7, 8, 5, 6, 7, 9, 5, 6};

GenerateOptions greedy(std::size_t tokens) {
  return {.max_tokens = tokens,
          .sampler = {.temperature = 0, .presence_penalty = 0, .frequency_penalty = 0},
          .stop_tokens = {}};
}
GenerateOptions sampled(std::size_t tokens, std::uint64_t seed) {
  return {.max_tokens = tokens,
          .sampler = {.temperature = 0.8f,
                      .top_p = 0.9f,
                      .presence_penalty = 0.3f,
                      .frequency_penalty = 0.4f,
                      .seed = seed},
          .stop_tokens = {}};
}

struct Run {
  GenerateResult result;
  State<> state;
};

Run run(const Model<>& model, const GenerateOptions& options, std::size_t rows = 32,
        rwkv::ExecutorRef exec = {}) {
  Run r{{}, model.initial_state()};
  rwkv::Workspace work(model.shape(), rows);
  r.result = rwkv::generate(model, r.state, work, characters(), std::span(prompt), options,
                            rwkv::NoCallback{}, exec);
  return r;
}

void check_same(const Run& plain, const Run& fed) {
  CHECK(fed.result.tokens == plain.result.tokens);
  CHECK(fed.result.text == plain.result.text);
  CHECK(fed.result.overrun == plain.result.overrun);
  CHECK(fed.result.reason == plain.result.reason);
  CHECK(fed.result.satisfied == plain.result.satisfied);
  CHECK(fed.state == plain.state);
}

/// The prompt and the text, with a share of the text's tokens replaced by others.
std::vector<Token> spoilt(const std::vector<Token>& text, std::size_t percent, unsigned seed) {
  test::Random random(seed);
  std::vector<Token> script = prompt;
  for (const Token token : text)
    script.push_back(random.below(100) < percent ? (token + 1) % 40 : token);
  return script;
}

}  // namespace

TEST_CASE("the same text and state with any draft: types, passes, threads, samplers") {
  rwkv::ThreadPool pool({.threads = 2, .oversubscribe = true});
  test::Thinned combinations(4);
  for (const DType type : {DType::f32, DType::f16, DType::q8_0, DType::q4_k}) {
    CAPTURE(rwkv::name_of(type));
    const Model<> model = test::model_of_type(type);
    for (const GenerateOptions& options : {greedy(30), sampled(30, 1), sampled(30, 2)}) {
      const Run plain = run(model, options);
      for (const std::size_t percent : {0u, 30u, 100u}) {
        for (const std::size_t draft_tokens : {0u, 1u, 5u}) {
          if (combinations.leaves_out()) continue;
          FixedDraft draft(spoilt(plain.result.tokens, percent, 3));
          History history(model.shape(), 8 << 20);
          Feeder feeder(model.shape(), {.draft = &draft,
                                        .draft_tokens = draft_tokens,
                                        .history = percent == 30 ? &history : nullptr});
          GenerateOptions fed = options;
          fed.feeder = &feeder;
          const bool threads = draft_tokens == 1;
          check_same(plain, run(model, fed, draft_tokens == 5 ? 3 : 32,
                                threads ? rwkv::ExecutorRef(pool) : rwkv::ExecutorRef()));
          const rwkv::FeederCounts& counts = feeder.counts();
          CHECK(counts.accepted <= counts.guessed);
          if (percent == 100) CHECK(counts.accepted == 0);
          if (percent == 0) CHECK(counts.accepted == counts.guessed);
          if (percent == 0 && draft_tokens == 5) CHECK(counts.passes == 5);
        }
      }
    }
  }
}

TEST_CASE("drafts that look tokens up, and models as drafts") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  const Model<> other = test::model_of_type(DType::f32, tiny, 2);
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    GenerateOptions options = seed % 2 == 0 ? greedy(80) : sampled(80, seed);
    const Run plain = run(model, options);
    NgramDraft ngram;
    ModelDraft same(model);
    ModelDraft different(other);
    for (rwkv::Draft* const draft :
         {static_cast<rwkv::Draft*>(&ngram), static_cast<rwkv::Draft*>(&same),
          static_cast<rwkv::Draft*>(&different)}) {
      for (const std::size_t draft_tokens : {0u, 4u, 7u, 50u}) {
        draft->reset();
        Feeder feeder(model.shape(), {.draft = draft, .draft_tokens = draft_tokens});
        options.feeder = &feeder;
        check_same(plain, run(model, options));
        const rwkv::FeederCounts& counts = feeder.counts();
        CHECK(counts.tokens >= 79);
        CHECK(counts.tokens <= 80);
        if (draft == &same && seed % 2 == 0) {  // it is always right, in pieces or not
          CHECK(counts.accepted == counts.guessed);
          if (draft_tokens == 7) CHECK(counts.passes == 10);
        }
      }
    }
  }
}

TEST_CASE("a model of either architecture is fed by guesses if it is RWKV-7") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  GenerateOptions options = greedy(30);
  const Run plain = run(model, options);
  FixedDraft draft(spoilt(plain.result.tokens, 10, 1));
  Feeder feeder(model.shape(), {.draft = &draft, .draft_tokens = 4});
  options.feeder = &feeder;
  const rwkv::AnyModel any(model);
  rwkv::AnyState state = any.initial_state();
  rwkv::AnyWorkspace work = any.workspace();
  const auto result = rwkv::generate(any, state, work, characters(), std::span(prompt), options);
  CHECK(result.tokens == plain.result.tokens);
  CHECK(state.rwkv() == plain.state);
  CHECK(feeder.counts().accepted > 10);
  rwkv::GenerateBatch batch(any, characters());
  state = any.initial_state();
  draft.reset();
  const auto number = batch.add(state, std::span(prompt), options);
  batch.run(work);
  CHECK(batch.take(number).tokens == plain.result.tokens);
  CHECK(state.rwkv() == plain.state);

  const rwkv::AnyModel hybrid{rwkv::HybridModel(test::sample_hybrid())};
  rwkv::AnyState other = hybrid.initial_state();
  rwkv::AnyWorkspace other_work = hybrid.workspace();
  options.any_vocabulary = true;
  test::check_error(rwkv::ErrorCategory::unsupported, "RWKV-X, for one, have no way back", [&] {
    (void)rwkv::generate(hybrid, other, other_work, characters(), std::span(prompt).first(1),
                         options);
  });
  rwkv::GenerateBatch others(hybrid, characters());
  test::check_error(rwkv::ErrorCategory::unsupported, "RWKV-X, for one, have no way back",
                    [&] { (void)others.add(other, std::span(prompt).first(1), options); });
}

TEST_CASE("a draft of a model goes back with the text") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  test::Random random(4);
  for (int round = 0; round < 20; ++round) {
    ModelDraft draft(model);
    std::vector<Token> text = prompt;
    draft.append(text);
    for (int step = 0; step < 12; ++step) {
      // What it must guess: the model's greedy continuation of the text.
      const std::size_t most = 1 + random.below(5);
      State<> state = model.initial_state();
      rwkv::Workspace work(model.shape());
      std::vector<Token> expected;
      Token next = rwkv::argmax(model.forward(state, text, work));
      while (expected.size() < most) {
        expected.push_back(next);
        next = rwkv::argmax(model.forward(state, std::span(&next, 1), work));
      }
      std::vector<Token> guesses;
      draft.propose(most, guesses);
      REQUIRE(guesses == expected);
      std::vector<Token> more(
          guesses.begin(), guesses.begin() + static_cast<std::ptrdiff_t>(random.below(most + 1)));
      for (std::size_t i = random.below(3); i-- > 0;)
        more.push_back(static_cast<Token>(random.below(40)));
      draft.append(more);
      text.insert(text.end(), more.begin(), more.end());
    }
  }
}

TEST_CASE("texts end where they end without a draft") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  std::size_t reasons[6] = {};
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    GenerateOptions options = sampled(40, seed);
    options.stop_tokens = {static_cast<Token>(seed % 40)};
    const std::string text = run(model, sampled(40, seed)).result.text;
    if (seed % 3 == 1) options.stop_strings = {text.substr(text.size() / 2, 3)};
    const Run plain = run(model, options);
    FixedDraft draft(spoilt(run(model, sampled(40, seed)).result.tokens, seed % 40, 9));
    Feeder feeder(model.shape(), {.draft = &draft, .draft_tokens = 6});
    options.feeder = &feeder;
    check_same(plain, run(model, options));
    ++reasons[static_cast<int>(plain.result.reason)];
  }
  CHECK(reasons[static_cast<int>(StopReason::stop_token)] > 5);
  CHECK(reasons[static_cast<int>(StopReason::stop_string)] > 5);
  CHECK(reasons[static_cast<int>(StopReason::max_tokens)] > 5);
}

TEST_CASE("whoever cancels or throws finds the state at the tokens of the text") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  const GenerateOptions options = greedy(30);
  const Run whole = run(model, options);
  const auto state_after = [&](std::size_t tokens) {
    State<> state = model.initial_state();
    rwkv::Workspace work(model.shape());
    std::vector<Token> text = prompt;
    text.insert(text.end(), whole.result.tokens.begin(),
                whole.result.tokens.begin() + static_cast<std::ptrdiff_t>(tokens));
    (void)model.forward(state, text, work);
    return state;
  };
  for (std::size_t limit = 1; limit < 30; ++limit) {
    FixedDraft draft(spoilt(whole.result.tokens, 10, 1));
    Feeder feeder(model.shape(), {.draft = &draft, .draft_tokens = 7});
    GenerateOptions fed = options;
    fed.feeder = &feeder;
    rwkv::Workspace work(model.shape());
    State<> state = model.initial_state();
    std::size_t shown = 0;
    const auto result =
        rwkv::generate(model, state, work, characters(), std::span(prompt), fed,
                       [&](std::string_view piece) { return (shown += piece.size()) < limit; });
    CHECK(result.reason == StopReason::cancelled);
    CHECK(result.tokens.size() == limit);
    CHECK(state == state_after(limit));

    state = model.initial_state();
    draft.reset();
    shown = 0;
    CHECK_THROWS_AS((void)rwkv::generate(model, state, work, characters(), std::span(prompt), fed,
                                         [&](std::string_view piece) {
                                           if ((shown += piece.size()) >= limit)
                                             throw std::runtime_error("");
                                         }),
                    std::runtime_error);
    CHECK(state == state_after(limit - 1));

    state = model.initial_state();
    std::size_t asked = 0;
    fed.cancelled = [&] { return ++asked > limit; };
    const auto cancelled = rwkv::generate(model, state, work, characters(), std::span(prompt), fed);
    if (cancelled.prompt_tokens == 0)
      CHECK(state == model.initial_state());
    else
      CHECK(state == state_after(cancelled.tokens.size()));
  }
}

TEST_CASE("constraints and drafts") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  for (const char* pattern : {"(ABC|A2){3,9}", "1234567[A-C]{2,8}98765", "([1-5]+;)*END"}) {
    const auto grammar = rwkv::Grammar::from_regex(pattern, "pattern");
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      GenerateOptions options = sampled(40, seed);
      options.constraint = grammar.constraint(characters());
      const Run plain = run(model, options);
      for (const std::size_t percent : {0u, 20u}) {
        FixedDraft draft(spoilt(plain.result.tokens, percent, 9));
        NgramDraft ngram;
        for (rwkv::Draft* const d :
             {static_cast<rwkv::Draft*>(&draft), static_cast<rwkv::Draft*>(&ngram)}) {
          Feeder feeder(model.shape(), {.draft = d, .draft_tokens = 5});
          options.feeder = &feeder;
          check_same(plain, run(model, options));
          options.feeder = nullptr;
        }
      }
    }
  }
}

TEST_CASE("sequences of a batch go on by their own guesses, some faster than others") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  constexpr std::size_t count = 4;
  constexpr std::size_t length = 25;
  struct Sequence {
    std::vector<Token> prompt, text, spoken;
    State<> end, state;
    bool begun = false, done = false;
  };
  test::Random random(11);
  rwkv::Workspace work(model.shape(), 8);
  std::vector<Sequence> sequences;
  for (std::size_t s = 0; s < count; ++s) {
    Sequence q{{}, {}, {}, model.initial_state(), model.initial_state()};
    for (std::size_t i = 0; i <= 6 * s; ++i)
      q.prompt.push_back(static_cast<Token>(random.below(40)));
    std::span<const float> logits = model.forward(q.end, q.prompt, work);
    while (q.text.size() < length) {
      q.text.push_back(rwkv::argmax(logits));
      logits = model.forward(q.end, std::span(&q.text.back(), 1), work);
    }
    sequences.push_back(q);
  }
  for (const std::size_t draft_tokens : {0u, 1u, 6u}) {
    std::vector<FixedDraft> drafts;
    std::vector<Feeder> feeders;
    drafts.reserve(count);
    feeders.reserve(count);
    for (std::size_t s = 0; s < count; ++s) {
      Sequence& q = sequences[s];
      std::vector<Token> script = q.prompt;
      for (const Token token : q.text)
        script.push_back(random.below(count) < s ? (token + 1) % 40 : token);
      drafts.emplace_back(script);
      // The last one reads without a draft.
      feeders.emplace_back(model.shape(),
                           FeederOptions{.draft = s + 1 < count ? &drafts[s] : nullptr,
                                         .draft_tokens = draft_tokens});
      q.state = model.initial_state();
      q.spoken.clear();
      q.begun = q.done = false;
    }
    while (!std::ranges::all_of(sequences, &Sequence::done)) {
      std::vector<Feeder::Request> requests;
      std::vector<std::size_t> of;
      for (std::size_t s = 0; s < count; ++s) {
        Sequence& q = sequences[s];
        if (q.done || random.below(4) == 0) continue;  // they need not go on together
        requests.push_back({.feeder = &feeders[s],
                            .state = &q.state,
                            .tokens = q.begun ? std::span<const Token>(q.spoken).last(1)
                                              : std::span<const Token>(q.prompt),
                            .expected = length - q.spoken.size()});
        of.push_back(s);
      }
      rwkv::feed(model, std::span(requests), work);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        Sequence& q = sequences[of[i]];
        q.begun = true;
        q.done = q.spoken.size() == length;
        if (q.done)
          feeders[of[i]].settle(q.state, {});
        else
          q.spoken.push_back(rwkv::argmax(requests[i].logits));
      }
    }
    for (std::size_t s = 0; s < count; ++s) {
      CHECK(sequences[s].spoken == sequences[s].text);
      CHECK(sequences[s].state == sequences[s].end);
    }
    if (draft_tokens == 6) {
      CHECK(feeders[0].counts().passes == 4);  // of 1 + 6 tokens; the first is read with the prompt
      CHECK(feeders[1].counts().passes > 4);
      CHECK(feeders[1].counts().accepted > 0);
    }
  }
}

TEST_CASE("a lookup finds the longest end that occurred before") {
  test::Random random(2);
  std::size_t found = 0;
  for (int round = 0; round < 60; ++round) {
    NgramDraft draft({.shortest = 1});
    const std::size_t letters = 1 + random.below(4);
    std::vector<Token> text;
    for (int i = 0; i < 80; ++i) {
      const Token token = static_cast<Token>(random.below(letters) * 1000000007);
      text.push_back(token);
      draft.append(std::span(&token, 1));
      std::size_t longest = 0;
      const auto ends_at = [&](std::size_t end) {  // how many tokens agree there and at the end
        std::size_t n = 0;
        while (n < end && text[end - 1 - n] == text[text.size() - 1 - n]) ++n;
        return n;
      };
      for (std::size_t end = 1; end < text.size(); ++end) longest = std::max(longest, ends_at(end));
      std::vector<Token> guesses{7};
      draft.propose(1000, guesses);
      REQUIRE(guesses.front() == 7);
      REQUIRE(guesses.size() == longest + 1);
      if (longest == 0) continue;
      ++found;
      bool follows = false;  // somewhere, in the text as it goes on
      std::vector<Token> whole = text;
      whole.insert(whole.end(), guesses.begin() + 1, guesses.end());
      for (std::size_t end = 1; end < text.size(); ++end)
        follows = follows || (ends_at(end) == longest &&
                              std::equal(guesses.begin() + 1, guesses.end(),
                                         whole.begin() + static_cast<std::ptrdiff_t>(end)));
      REQUIRE(follows);
      std::vector<Token> few;
      draft.propose(1, few);
      REQUIRE(few.size() == 1);
    }
  }
  CHECK(found > 3000);
}

TEST_CASE("a lookup takes no longer in repetitive texts, and forgets the older half") {
  NgramDraft draft({.longest_text = 300000});
  std::vector<Token> text(200000, 5);  // quadratic time would take minutes
  for (std::size_t i = 0; i < 200000; ++i) text.push_back(static_cast<Token>(i % 3));
  draft.append(text);
  std::vector<Token> guesses;
  draft.propose(4, guesses);
  CHECK(guesses == std::vector<Token>{2, 0, 1, 2});
  NgramDraft small_draft({.longest_text = 8});
  small_draft.append(std::vector<Token>{1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2});
  guesses.clear();
  small_draft.propose(4, guesses);
  CHECK(guesses.empty());
  small_draft.append(std::vector<Token>{9, 1});
  small_draft.propose(1, guesses);
  CHECK(guesses == std::vector<Token>{2});
  small_draft.reset();
  guesses.clear();
  small_draft.propose(4, guesses);
  CHECK(guesses.empty());
}

TEST_CASE("wrong drafts get a sentence or do no harm") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  test::SampleSizes larger = tiny;
  larger.vocab = 44;
  ModelDraft foreign(test::model_of_type(DType::f32, larger));
  test::check_error(rwkv::ErrorCategory::argument,
                    "the draft guesses among 44 tokens, and the model has 40",
                    [&] { (void)Feeder(model.shape(), {.draft = &foreign}); });
  History history(test::model_of_type(DType::f32, larger).shape(), 8 << 20);
  test::check_error(rwkv::ErrorCategory::shape, "the history belongs to a model of another shape",
                    [&] { (void)Feeder(model.shape(), {.history = &history}); });
  GenerateOptions options = greedy(20);
  const Run plain = run(model, options);
  std::vector<Token> script = spoilt(plain.result.tokens, 0, 1);
  script[prompt.size() + 4] = 40;  // outside the vocabulary
  script[prompt.size() + 9] = 4000000000;
  FixedDraft draft(script);
  Feeder feeder(model.shape(), {.draft = &draft, .draft_tokens = 6});
  options.feeder = &feeder;
  check_same(plain, run(model, options));
  CHECK(feeder.counts().accepted == feeder.counts().guessed);

  rwkv::Workspace own_work(model.shape());
  State<> own_state = model.initial_state();
  const auto refuse = [&](std::vector<Feeder::Request> requests, const char* sentence) {
    test::check_error(rwkv::ErrorCategory::argument, sentence,
                      [&] { rwkv::feed(model, std::span(requests), own_work); });
    CHECK(own_state == model.initial_state());
  };
  const std::span<const Token> some = prompt;
  refuse({{nullptr, &own_state, some}}, "request 0 has no feeder");
  refuse({{&feeder, nullptr, some}}, "request 0 has no state");
  refuse({{&feeder, &own_state, {}}}, "request 0 has no tokens");
  refuse({{&feeder, &own_state, some}, {&feeder, &own_state, some}}, "have the same feeder");
  const std::vector<Token> outside{1, 40};
  refuse({{&feeder, &own_state, outside}}, "request 0: token 40 at position 1 is outside");

  // Also where an earlier pass would have fed the one before: inputs longer than a log.
  History short_history(model.shape(), 2 * rwkv::RowLog::bytes_for(model.shape(), 2));
  Feeder logging(model.shape(), {.history = &short_history});
  State<> other_state = model.initial_state();
  State<> larger_state(test::model_of_type(DType::f32, larger).shape());
  REQUIRE(short_history.capacity() < prompt.size());
  refuse({{&logging, &own_state, some}, {&feeder, &other_state, outside}}, "request 1: token 40");
  refuse({{&logging, &own_state, some}, {&feeder, &own_state, some}}, "have the same state");
  Feeder sharing(model.shape(), {.history = &short_history});
  refuse({{&logging, &own_state, some}, {&sharing, &other_state, some}}, "have the same history");
  const std::vector<Token> late{1, 2, 3, 4, 40};
  refuse({{&logging, &own_state, late}}, "token 40 at position 4");
  std::vector<Feeder::Request> foreign_state{{&logging, &own_state, some},
                                             {&feeder, &larger_state, some}};
  test::check_error(rwkv::ErrorCategory::shape,
                    "the state of request 1 belongs to a model of another",
                    [&] { rwkv::feed(model, std::span(foreign_state), own_work); });
  CHECK(own_state == model.initial_state());

  struct Foreign final : rwkv::AnyFeeder {
    std::span<const float> feed(State<>&, std::span<const Token>, std::size_t, const Forward&,
                                rwkv::ExecutorRef) override {
      return {};
    }
    void settle(State<>&, rwkv::ExecutorRef) override {}
    void abandon() override {}
    bool feed_ahead(Request&) override { return false; }
    void feed_together(std::span<Request>, const Forward&, rwkv::ExecutorRef) override {}
    std::unique_ptr<AnyFeeder> plain() const override { return nullptr; }
  } another;
  rwkv::GenerateBatch batch(model, characters());
  (void)batch.add(own_state, some, options);
  options.feeder = &another;
  (void)batch.add(other_state, some, options);
  test::check_error(rwkv::ErrorCategory::argument, "feeders of different kinds",
                    [&] { (void)batch.step(own_work); });
  options.feeder = &feeder;

  const rwkv::HybridModel hybrid(test::sample_hybrid());
  rwkv::HybridState state(hybrid.shape());
  rwkv::HybridWorkspace work(hybrid.shape());
  options.any_vocabulary = true;
  test::check_error(rwkv::ErrorCategory::unsupported, "RWKV-X, for one, have no way back", [&] {
    (void)rwkv::generate(hybrid, state, work, characters(), std::span(prompt).first(1), options);
  });
}

TEST_CASE("drafts and histories that were moved away are empty, or say so") {
  const Model<> model = test::model_of_type(DType::f32, tiny);
  rwkv::Workspace work(model.shape());
  State<> state = model.initial_state();
  NgramDraft draft;
  History history(model.shape(), 1 << 20);
  ModelDraft small(model);
  std::vector<Token> guesses;
  {
    Feeder feeder(model.shape(), {.draft = &draft, .draft_tokens = 3, .history = &history});
    Feeder::Request request{&feeder, &state, prompt, 4};
    rwkv::feed(model, std::span(&request, 1), work);
    feeder.settle(state, {});
    small.append(prompt);
    small.propose(3, guesses);
  }
  REQUIRE(history.size() == prompt.size());
  NgramDraft taken_draft = std::move(draft);
  History taken = std::move(history);
  const ModelDraft taken_small = std::move(small);
  CHECK(taken.size() == prompt.size());
  CHECK(taken.ends_with(state));
  CHECK(history.size() == 0);
  CHECK_FALSE(history.ends_with(state));
  CHECK_THROWS_AS(history.rewind(state, 1), rwkv::Error);
  history = taken;
  history.rewind(state, prompt.size());
  CHECK(state == model.initial_state());
  guesses.clear();
  draft.propose(3, guesses);
  CHECK(guesses.empty());
  draft.append(prompt);
  draft.propose(3, guesses);
  std::vector<Token> same;
  taken_draft.propose(3, same);
  CHECK(guesses == same);
  test::check_error(rwkv::ErrorCategory::argument, "the draft's state was moved away",
                    [&] { small.append(prompt); });
  test::check_error(rwkv::ErrorCategory::argument, "the draft's state was moved away",
                    [&] { small.propose(3, guesses); });
}
