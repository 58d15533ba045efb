// SPDX-License-Identifier: Apache-2.0
// Texts of many sequences at once are those of each alone, whenever they begin and end.
#include "../support/numbers.hpp"
#include "support.hpp"
#include <rwkv/any_model.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate_batch.hpp>
#include <rwkv/grammar.hpp>
#include <rwkv/speculate.hpp>

using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::GenerateBatch;
using rwkv::GenerateOptions;
using rwkv::GenerateResult;
using rwkv::StopReason;
using rwkv::Token;
using rwkv::Tokenizer;

namespace {

const rwkv::Model<>& tales() {
  static const auto model =
      rwkv::Model<>::load(std::filesystem::path(RWKV_MODELS) / "tales" / "tales.safetensors");
  return model;
}

GenerateOptions random_options(test::Random& random, std::uint64_t seed) {
  GenerateOptions options{.max_tokens = random.below(40),
                          .sampler = {.temperature = 0.9f, .seed = seed},
                          .stop_tokens = {},
                          .stop_strings = {". "}};
  if (random.below(3) == 0)
    options.constraint = rwkv::Grammar::from_regex("( (king|queen) who [a-z ]+ here)+")
                             .constraint(Tokenizer::bytes());
  return options;
}

struct Alone {
  rwkv::State<> state;
  GenerateResult result;
  std::string shown;
};

Alone alone(const std::string& prompt, const GenerateOptions& options) {
  Alone a{tales().initial_state(), {}, {}};
  rwkv::Workspace work(tales().shape());
  a.result = rwkv::generate(tales(), a.state, work, Tokenizer::bytes(), prompt, options,
                            [&](std::string_view piece) { a.shown += piece; });
  return a;
}

void check_same(const GenerateResult& got, const GenerateResult& want) {
  CHECK(got.tokens == want.tokens);
  CHECK(got.text == want.text);
  CHECK(got.overrun == want.overrun);
  CHECK(got.reason == want.reason);
  CHECK(got.satisfied == want.satisfied);
  CHECK(got.prompt_tokens == want.prompt_tokens);
  CHECK(got.logits == want.logits);
}

}  // namespace

TEST_CASE("a batch whose sequences come and go gives what each gives alone") {
  rwkv::ThreadPool pool(2);
  for (const std::size_t rows : {1u, 4u, 9u, 64u}) {
    test::Random random(static_cast<std::uint32_t>(rows));
    rwkv::Workspace work(tales().shape(), rows);
    GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(tales(), Tokenizer::bytes());
    struct Running {
      std::string prompt;
      GenerateOptions options;
      rwkv::State<> state;
      std::string shown;
    };
    std::map<std::size_t, Running> running;
    std::size_t added = 0, most = 0;
    while (added < 12 || batch.size() > 0) {
      while (added < 12 && random.below(3) == 0) {
        std::string prompt = "The ";
        for (std::size_t n = random.below(30); n > 0; --n)
          prompt += static_cast<char>('a' + random.below(26));
        const std::size_t number = added++;
        auto& r =
            running
                .emplace(
                    number,
                    Running{prompt, random_options(random, number), tales().initial_state(), {}})
                .first->second;
        REQUIRE(batch.add(r.state, prompt, r.options, [&r](std::string_view piece) {
          r.shown += piece;
          return true;
        }) == number);
      }
      batch.step(work, pool);
      most = std::max(most, batch.size());
      for (auto it = running.begin(); it != running.end();) {
        if (!batch.ended(it->first)) {
          ++it;
          continue;
        }
        CAPTURE(it->first);
        const auto result = batch.take(it->first);
        const Alone want = alone(it->second.prompt, it->second.options);
        check_same(result, want.result);
        CHECK(it->second.state == want.state);
        CHECK(it->second.shown == want.shown);
        it = running.erase(it);
      }
    }
    CHECK(most > 2);
    CHECK_FALSE(batch.step(work, pool));
  }
}

TEST_CASE("sequences that are guessed or can be taken back are what each is alone") {
  struct Running {
    std::string prompt;
    GenerateOptions options;
    Alone want;
    rwkv::State<> state = tales().initial_state();
    std::string shown{};
    std::unique_ptr<rwkv::Draft> draft{};
    std::unique_ptr<rwkv::History> history{};
    std::unique_ptr<rwkv::Feeder> feeder{};
  };
  std::size_t accepted = 0, taken_early = 0;
  for (const std::size_t rows : {1u, 5u, 64u}) {
    test::Random random(static_cast<std::uint32_t>(7 * rows));
    rwkv::Workspace work(tales().shape(), rows);
    std::map<std::size_t, Running> running;  // outlives the batch
    GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(tales(), Tokenizer::bytes());
    std::size_t added = 0;
    while (added < 12 || batch.size() > 0) {
      while (added < 12 && random.below(3) == 0) {
        const std::string prompt = std::string("The ") + static_cast<char>('a' + added);
        const GenerateOptions options = random_options(random, added);
        Running& r =
            running.emplace(added, Running{prompt, options, alone(prompt, options)}).first->second;
        if (added % 4 == 1) r.draft = std::make_unique<rwkv::NgramDraft>();
        if (added % 4 >= 2) {  // right for the most part
          auto text = Tokenizer::bytes().encode(prompt);
          text.insert(text.end(), r.want.result.tokens.begin(), r.want.result.tokens.end());
          for (std::size_t t = 9; t < text.size(); t += 9) text[t] ^= 1;
          r.draft = std::make_unique<rwkv::FixedDraft>(text);
        }
        if (added % 3 == 2)
          r.history = std::make_unique<rwkv::History>(tales().shape(), std::size_t{1} << 23);
        if (added % 4 != 0 || r.history != nullptr)
          r.feeder = std::make_unique<rwkv::Feeder>(
              tales().shape(),
              rwkv::FeederOptions{.draft = r.draft.get(),
                                  .draft_tokens = added % 4 == 1 ? 0 : added % 4 + 1,
                                  .history = r.history.get()});
        r.options.feeder = r.feeder.get();
        REQUIRE(batch.add(r.state, prompt, r.options, [&r](std::string_view piece) {
          r.shown += piece;
          return true;
        }) == added);
        ++added;
      }
      batch.step(work);
      for (auto it = running.begin(); it != running.end();) {
        const std::size_t number = it->first;
        auto& r = it->second;
        const bool ended = batch.ended(number);
        if (!ended && random.below(40) > 0) {
          ++it;
          continue;
        }
        CAPTURE(rows);
        CAPTURE(number);
        const auto result = batch.take(number);
        if (ended) {
          check_same(result, r.want.result);
          CHECK(r.state == r.want.state);
          CHECK(r.shown == r.want.shown);
        } else {  // the state has read what the result says
          ++taken_early;
          auto read = Tokenizer::bytes().encode(r.prompt);
          read.resize(result.prompt_tokens);
          read.insert(read.end(), result.tokens.begin(), result.tokens.end());
          rwkv::State replayed = tales().initial_state();
          if (!read.empty()) (void)tales().forward(replayed, read, work);
          CHECK(r.state == replayed);
        }
        if (r.history != nullptr && r.history->size() > 0) {
          const std::size_t back = (std::min)(r.history->size(), std::size_t{5});
          auto read = Tokenizer::bytes().encode(r.prompt);
          read.resize(result.prompt_tokens);
          read.insert(read.end(), result.tokens.begin(), result.tokens.end());
          REQUIRE(back <= read.size());
          read.resize(read.size() - back);
          r.history->rewind(r.state, back);
          rwkv::State replayed = tales().initial_state();
          if (!read.empty()) (void)tales().forward(replayed, read, work);
          CHECK(r.state == replayed);
        }
        if (r.feeder != nullptr) accepted += r.feeder->counts().accepted;
        it = running.erase(it);
      }
    }
  }
  CHECK(accepted > 100);  // also where those that choose how many choose none
  CHECK(taken_early > 2);
}

TEST_CASE("guesses that are right save steps") {
  const GenerateOptions options{.max_tokens = 60, .stop_tokens = {}};
  const std::string prompts[] = {"The king", "A fox", "Once upon"};
  rwkv::Workspace work(tales().shape());
  std::vector<Alone> want;
  std::vector<std::unique_ptr<rwkv::FixedDraft>> drafts;
  std::vector<std::unique_ptr<rwkv::Feeder>> feeders;
  for (const std::string& prompt : prompts) {
    want.push_back(alone(prompt, options));
    auto text = Tokenizer::bytes().encode(prompt);
    text.insert(text.end(), want.back().result.tokens.begin(), want.back().result.tokens.end());
    drafts.push_back(std::make_unique<rwkv::FixedDraft>(std::move(text)));
    feeders.push_back(std::make_unique<rwkv::Feeder>(
        tales().shape(), rwkv::FeederOptions{.draft = drafts.back().get(), .draft_tokens = 5}));
  }
  std::vector<rwkv::State<>> states(3, tales().initial_state());
  {
    GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(tales(), Tokenizer::bytes());
    for (std::size_t s = 0; s < 3; ++s) {
      GenerateOptions mine = options;
      mine.feeder = feeders[s].get();
      (void)batch.add(states[s], prompts[s], mine);
    }
    std::size_t steps = 0;
    while (batch.step(work)) ++steps;
    CHECK(steps == 11);  // the prompts, and six tokens at a time
    for (std::size_t s = 0; s < 3; ++s) {
      check_same(batch.take(s), want[s].result);
      CHECK(states[s] == want[s].state);
    }
  }
  // The feeder of a sequence that has ended may go on with another one.
  {
    std::vector<rwkv::State<>> two(2, tales().initial_state());
    GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(tales(), Tokenizer::bytes());
    GenerateOptions mine = options;
    mine.feeder = feeders[1].get();
    drafts[1]->reset();
    const auto ended = batch.add(two[0], prompts[1], mine);
    batch.run(work);
    drafts[1]->reset();
    const auto next = batch.add(two[1], prompts[1], mine);
    for (int i = 0; i < 3; ++i) batch.step(work);
    check_same(batch.take(ended), want[1].result);
    batch.run(work);
    check_same(batch.take(next), want[1].result);
    CHECK(two[0] == want[1].state);
    CHECK(two[1] == want[1].state);
  }
  // A batch that goes away in the middle leaves states that feeders know to settle.
  states[0] = tales().initial_state();
  {
    GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(tales(), Tokenizer::bytes());
    drafts[0]->reset();
    GenerateOptions mine = options;
    mine.feeder = feeders[0].get();
    (void)batch.add(states[0], prompts[0], mine);
    for (int i = 0; i < 3; ++i) CHECK(batch.step(work));
  }
  feeders[0]->settle(states[0], {});
  auto read = Tokenizer::bytes().encode(prompts[0]);
  read.insert(read.end(), want[0].result.tokens.begin(), want[0].result.tokens.begin() + 7);
  rwkv::State replayed = tales().initial_state();
  (void)tales().forward(replayed, read, work);
  CHECK(states[0] == replayed);
}

TEST_CASE("all at once, with models of any kind") {
  const rwkv::AnyModel model(tales());
  std::vector<rwkv::AnyState> states(3, model.initial_state());
  auto work = model.workspace(16);
  const Tokenizer tokenizer = Tokenizer::bytes();
  const std::vector<std::vector<Token>> prompts{tokenizer.encode("The king"), tokenizer.encode("A"),
                                                tokenizer.encode("Once upon")};
  const GenerateOptions options{.max_tokens = 20, .stop_tokens = {}};
  std::vector<std::string> shown(3);
  const auto results =
      rwkv::generate_batch(model, std::span(states), work, tokenizer, prompts, options,
                           [&](std::size_t s, std::string_view piece) { shown[s] += piece; });
  for (std::size_t s = 0; s < 3; ++s) {
    check_same(results[s], alone(tokenizer.decode(prompts[s]), options).result);
    CHECK(shown[s] == results[s].text);
  }
  CHECK_THROWS_AS(rwkv::generate_batch(model, std::span(states).first(2), work, tokenizer, prompts,
                                       options, [](std::size_t, std::string_view) {}),
                  Error);
}

TEST_CASE("a sequence goes on from logits, with a sampler of the caller's") {
  const GenerateOptions sixty{.max_tokens = 60, .stop_tokens = {}};
  const Alone whole = alone("The king", sixty);
  GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(tales(), Tokenizer::bytes());
  rwkv::Workspace work(tales().shape());
  rwkv::State state = tales().initial_state();
  rwkv::Sampler sampler = rwkv::make_sampler(sixty.sampler, Tokenizer::bytes());
  GenerateOptions thirty = sixty;
  thirty.max_tokens = 30;
  std::size_t number = batch.add(state, "The king", thirty, {}, &sampler);
  batch.run(work);
  auto tokens = batch.ended(number) ? batch.take(number) : GenerateResult();
  thirty.logits = tokens.logits;
  number = batch.add(state, "", thirty, {}, &sampler);
  CHECK(batch.take(number).logits == tokens.logits);  // before the first step
  number = batch.add(state, "", thirty, {}, &sampler);
  thirty.logits = {};  // it has a copy
  batch.run(work);
  const auto more = batch.take(number);
  auto all = tokens.tokens;
  all.insert(all.end(), more.tokens.begin(), more.tokens.end());
  CHECK(all == whole.result.tokens);
  CHECK(state == whole.state);
}

TEST_CASE("what is taken early, cancelled or thrown out of does not disturb the others") {
  GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(tales(), Tokenizer::bytes());
  rwkv::Workspace work(tales().shape(), 8);
  std::vector<rwkv::State<>> states(5, tales().initial_state());
  const GenerateOptions options{.max_tokens = 20, .stop_tokens = {}};
  const auto whole = batch.add(states[0], "The king", options);
  const auto early = batch.add(states[1], "The queen", options);
  int pieces = 0;
  const auto throwing = batch.add(states[2], "A fox", options, [&](std::string_view) -> bool {
    if (++pieces == 3) throw std::runtime_error("enough");
    return true;
  });
  GenerateOptions never = options;
  never.cancelled = [] { return true; };
  const auto cancelled = batch.add(states[3], "A dog", never);
  int seen = 0;
  const auto stopped =
      batch.add(states[4], "A cat", options, [&](std::string_view) { return ++seen < 5; });
  int thrown = 0, steps = 0;
  GenerateResult taken;
  for (bool more = true; more;) {
    try {
      more = batch.step(work);
    } catch (const std::runtime_error&) {
      ++thrown;
      CHECK(batch.ended(throwing));  // at once
    }
    if (++steps == 12) taken = batch.take(early);
  }
  CHECK(thrown == 1);
  check_same(batch.take(whole), alone("The king", options).result);
  CHECK(taken.reason == StopReason::cancelled);
  CHECK(taken.tokens.size() > 3);
  {
    rwkv::State state = tales().initial_state();
    rwkv::Workspace other(tales().shape());
    auto fed = Tokenizer::bytes().encode("The queen");
    fed.insert(fed.end(), taken.tokens.begin(), taken.tokens.end());
    const auto logits = tales().forward(state, fed, other);
    CHECK(state == states[1]);
    CHECK(std::equal(logits.begin(), logits.end(), taken.logits.begin(), taken.logits.end()));
  }
  CHECK(batch.ended(throwing));
  CHECK(batch.take(throwing).tokens.size() == 2);
  const auto none = batch.take(cancelled);
  CHECK(none.reason == StopReason::cancelled);
  CHECK(none.prompt_tokens == 0);
  CHECK(states[3] == tales().initial_state());
  const auto five = batch.take(stopped);
  CHECK(five.reason == StopReason::cancelled);
  CHECK(five.tokens.size() == 5);
  CHECK(batch.size() == 0);
  CHECK_THROWS_WITH_AS(batch.take(stopped), "there is no sequence 4 in this batch", Error);
  test::check_error(ErrorCategory::argument, "outside the model's vocabulary", [&] {
    const Token far[] = {300};
    batch.add(states[0], std::span<const Token>(far), options);
  });
  (void)batch.add(states[0], "A cat", options);
  test::check_error(ErrorCategory::argument, "sequence 5 of this batch has this state already",
                    [&] { batch.add(states[0], "A dog", options); });
  rwkv::NgramDraft draft;
  rwkv::Feeder feeder(tales().shape(), {.draft = &draft});
  GenerateOptions fed = options;
  fed.feeder = &feeder;
  (void)batch.add(states[1], "A dog", fed);
  test::check_error(ErrorCategory::argument, "sequence 6 of this batch has this feeder already",
                    [&] { batch.add(states[2], "A dog", fed); });
  rwkv::Cancellable stopping(rwkv::ExecutorRef(), [] { return true; });
  test::check_error(ErrorCategory::cancelled, "has abandoned a pass",
                    [&] { batch.step(work, stopping); });
}
