// SPDX-License-Identifier: Apache-2.0
#include "../support/golden.hpp"
#include "../support/static_cases.hpp"
#include "../support/static_weights.hpp"
#include "support.hpp"
#include <rwkv/generate.hpp>
#include <rwkv/grammar.hpp>
#include <rwkv/static_model.hpp>

#include <stop_token>

using rwkv::ErrorCategory;
using rwkv::GenerateOptions;
using rwkv::GenerateResult;
using rwkv::StopReason;
using rwkv::Token;
using rwkv::Tokenizer;

namespace {

// A model that recites: after `fed` tokens it wants script[fed - prompt]. Its state is the list of
// what it has consumed.
struct Reciter {
  struct Shape {
    std::size_t size;
    [[nodiscard]] std::size_t vocab() const { return size; }
  };
  using State = std::vector<Token>;
  struct Workspace {
    std::size_t rows_ = 4;
    std::vector<float> logits;
    std::vector<std::size_t> passes;
    [[nodiscard]] std::size_t rows() const { return rows_; }
  };

  std::vector<Token> script;
  std::size_t prompt;
  std::size_t vocab = 300;

  [[nodiscard]] Shape shape() const { return {vocab}; }

  template <class Exec>
  std::span<const float> forward(State& state, std::span<const Token> tokens, Workspace& work,
                                 Exec&& exec) const {
    REQUIRE(exec.concurrency() > 0);
    REQUIRE(!tokens.empty());
    REQUIRE(tokens.size() <= work.rows());
    work.passes.push_back(tokens.size());
    state.insert(state.end(), tokens.begin(), tokens.end());
    work.logits.assign(vocab, 0.0f);
    const std::size_t at = state.size() - prompt;  // wraps before the end of the prompt
    work.logits[at < script.size() ? script[at] : 0] = 50;
    return work.logits;
  }
};

// The bytes of `text` as ids 1 to 256; longer tokens after those; 0 ends.
Tokenizer reciter_tokenizer() {
  rwkv::io::Vocabulary v(1);
  for (int byte = 0; byte < 256; ++byte) v.emplace_back(1, static_cast<char>(byte));
  for (const char* token : {"\n\n", "User:", " the", "\xe2\x82", "ab", "User: x"})
    v.emplace_back(token);
  return Tokenizer(v);
}

struct Run {
  GenerateResult result;
  Reciter::State state;
  Reciter::Workspace work;
  std::vector<std::string> pieces;
};

Run recite(std::vector<Token> script, const GenerateOptions& options) {
  Run run;
  const std::vector<Token> prompt{2, 3, 4};
  const Reciter model{std::move(script), prompt.size()};
  run.result = rwkv::generate(model, run.state, run.work, reciter_tokenizer(), prompt, options,
                              [&](std::string_view piece) { run.pieces.emplace_back(piece); });

  // What must hold whatever happened.
  const auto& r = run.result;
  std::vector<Token> consumed = prompt;
  consumed.insert(consumed.end(), r.tokens.begin(), r.tokens.end());
  REQUIRE(run.state == consumed);
  REQUIRE(r.prompt_tokens == prompt.size());
  REQUIRE(r.text + r.overrun == reciter_tokenizer().decode(r.tokens));
  std::string shown;
  for (const std::string& piece : run.pieces) {
    REQUIRE_FALSE(piece.empty());
    shown += piece;
  }
  REQUIRE(shown == r.text);
  return run;
}

Run recite(std::string_view text, const GenerateOptions& options) {
  return recite(reciter_tokenizer().encode(text), options);
}

GenerateOptions greedy(std::size_t max_tokens, std::vector<std::string> stop_strings = {}) {
  return {.max_tokens = max_tokens,
          .sampler = {.temperature = 0, .presence_penalty = 0, .frequency_penalty = 0},
          .stop_strings = std::move(stop_strings)};
}

}  // namespace

TEST_CASE("a text that ends with a stop token") {
  const Run run = recite("Hello", greedy(100));
  CHECK(run.result.reason == StopReason::stop_token);
  CHECK(run.result.text == "Hello");
  CHECK(run.result.tokens.size() == 5);  // the stop token is neither shown nor consumed
  CHECK(run.result.overrun.empty());
  CHECK(run.pieces == std::vector<std::string>{"H", "e", "l", "l", "o"});
  CHECK(run.result.prompt_seconds >= 0);
  CHECK(run.result.generate_seconds >= 0);
}

TEST_CASE("max_tokens") {
  const Run run = recite("Hello", greedy(3));
  CHECK(run.result.reason == StopReason::max_tokens);
  CHECK(run.result.text == "Hel");
  const Run none = recite("Hello", greedy(0));
  CHECK(none.result.reason == StopReason::max_tokens);
  CHECK(none.result.tokens.empty());
  const Run cut = recite("a\xe2\x82\xac", greedy(2));  // ends in the middle of a character
  CHECK(cut.result.text == "a\xe2\x82");
  const Run held = recite("a\n\nb", greedy(2, {"\n\nUser:"}));
  CHECK(held.result.text == "a\n\n");  // only possibly the beginning of a stop string
}

TEST_CASE("stop strings over several tokens are never shown") {
  const Run run = recite("Hi \xe2\x82\xac.\n\nUser: bye", greedy(100, {"\n\nUser:"}));
  CHECK(run.result.reason == StopReason::stop_string);
  CHECK(run.result.text == "Hi \xe2\x82\xac.");
  CHECK(run.result.overrun == "\n\nUser:");
  CHECK(run.pieces == std::vector<std::string>{"H", "i", " ", "\xe2\x82\xac", "."});
  // A token that goes on after the stop string.
  const Run past = recite("Hi.\n\nUser: xyz", greedy(100, {"\n\nUser:"}));
  CHECK(past.result.text == "Hi.");
  CHECK(past.result.overrun == "\n\nUser: x");
}

TEST_CASE("every script: streamed as the definition says") {
  test::Random random(21);
  const Tokenizer tokenizer = reciter_tokenizer();
  std::size_t reasons[5] = {};
  for (int round = 0; round < 1500; ++round) {
    std::vector<Token> script;
    if (random.below(2) == 0)
      for (std::size_t n = random.below(30); n > 0; --n)
        script.push_back(static_cast<Token>(random.below(263)));
    else
      script = tokenizer.encode(test::messy_text(random, random.below(20)));
    const auto options = greedy(1 + random.below(30), {"\n\nUser:", "ab", "\xc3\xa9", "77"});
    const Run run = recite(script, options);

    std::string text;  // token by token: until the end, or the first stop string to be complete
    StopReason reason = StopReason::none;
    std::size_t used = 0;
    std::size_t at = std::string::npos;
    while (reason == StopReason::none) {
      if (used >= script.size() || script[used] == 0) {
        reason = StopReason::stop_token;
        break;
      }
      text += tokenizer.token_bytes(script[used++]);
      std::size_t end = std::string::npos;
      for (const std::string& s : options.stop_strings)
        if (const std::size_t i = text.find(s); i != std::string::npos && i + s.size() < end) {
          at = i;
          end = i + s.size();
        }
      if (at != std::string::npos)
        reason = StopReason::stop_string;
      else if (used == options.max_tokens)
        reason = StopReason::max_tokens;
    }
    REQUIRE(run.result.reason == reason);
    REQUIRE(run.result.tokens ==
            std::vector<Token>(script.begin(), script.begin() + static_cast<std::ptrdiff_t>(used)));
    REQUIRE(run.result.text == text.substr(0, at));
    ++reasons[static_cast<int>(reason)];
    std::size_t shown = 0;
    for (const std::string& piece : run.pieces)
      REQUIRE_FALSE(test::cuts_character(run.result.text, shown += piece.size()));
  }
  CHECK(reasons[static_cast<int>(StopReason::max_tokens)] > 100);
  CHECK(reasons[static_cast<int>(StopReason::stop_token)] > 100);
  CHECK(reasons[static_cast<int>(StopReason::stop_string)] > 100);
}

TEST_CASE("the callback cancels, and what it has not seen is reported") {
  const Reciter model{reciter_tokenizer().encode("one\n\nUx"), 3};
  for (std::size_t limit = 1; limit <= 6; ++limit) {
    Reciter::State state;
    Reciter::Workspace work;
    std::string shown;
    const auto result = rwkv::generate(model, state, work, reciter_tokenizer(), "xyz",
                                       greedy(100, {"\n\nUser:"}), [&](std::string_view piece) {
                                         shown += piece;
                                         return shown.size() < limit;
                                       });
    CHECK(result.text == shown);
    CHECK(result.text + result.overrun == reciter_tokenizer().decode(result.tokens));
    CHECK(state.size() == result.prompt_tokens + result.tokens.size());
    if (limit <= 3) {
      CHECK(result.reason == StopReason::cancelled);
      CHECK(shown.size() == limit);
    }
  }
}

TEST_CASE("a predicate cancels between passes, in the prompt as well") {
  const Tokenizer tokenizer = Tokenizer::bytes();
  const Reciter model{std::vector<Token>(100, 'x'), 10};
  for (int allowed = 0; allowed < 8; ++allowed) {
    Reciter::State state;
    Reciter::Workspace work;
    GenerateOptions options = greedy(100);
    int asked = 0;
    options.cancelled = [&] { return asked++ >= allowed; };
    const auto result = rwkv::generate(model, state, work, tokenizer, "0123456789", options);
    CHECK(result.reason == StopReason::cancelled);
    CHECK(work.passes.size() == static_cast<std::size_t>(allowed));
    CHECK(result.prompt_tokens == std::min<std::size_t>(10, 4 * static_cast<std::size_t>(allowed)));
    CHECK(state.size() == result.prompt_tokens + result.tokens.size());
    CHECK(result.tokens.size() == (allowed > 3 ? static_cast<std::size_t>(allowed) - 3 : 0));
  }
  std::stop_source source;
  source.request_stop();
  GenerateOptions options = greedy(100);
  options.cancelled = [token = source.get_token()] { return token.stop_requested(); };
  Reciter::State state;
  Reciter::Workspace work;
  CHECK(rwkv::generate(model, state, work, tokenizer, "a", options).prompt_tokens == 0);
}

TEST_CASE("a long prompt is fed in passes of the workspace") {
  const Reciter model{{'o', 'k'}, 11};
  Reciter::State state;
  Reciter::Workspace work;
  GenerateOptions options = greedy(100);
  options.leading_token = 0;
  const auto result = rwkv::generate(model, state, work, Tokenizer::bytes(), "0123456789", options);
  CHECK(work.passes == std::vector<std::size_t>{4, 4, 3, 1, 1});
  CHECK(state.front() == 0);
  CHECK(result.prompt_tokens == 11);
  CHECK(result.text == "ok");
}

TEST_CASE("without a prompt, token 0 begins a text, a leading token, or logits go on") {
  const Reciter model{{7}, 1};
  Reciter::State state;
  Reciter::Workspace work;
  const auto nothing = std::span<const Token>();
  GenerateOptions options = greedy(2);
  auto result = rwkv::generate(model, state, work, reciter_tokenizer(), nothing, options);
  CHECK(result.prompt_tokens == 1);
  CHECK(state == Reciter::State{0, 7});
  REQUIRE(result.logits.size() == model.vocab);
  CHECK(result.logits[0] == 50);

  options.logits = result.logits;  // which want the end
  result = rwkv::generate(model, state, work, reciter_tokenizer(), nothing, options);
  CHECK(result.reason == StopReason::stop_token);
  CHECK(result.prompt_tokens == 0);
  CHECK(state == Reciter::State{0, 7});
  CHECK(result.logits[0] == 50);

  state.clear();
  options.logits = {};
  options.leading_token = 5;
  result = rwkv::generate(model, state, work, reciter_tokenizer(), nothing, options);
  CHECK(state == Reciter::State{5, 7});

  options.leading_token.reset();
  state.clear();
  test::check_error(ErrorCategory::argument, "nothing to go on from", [&] {  // 0 is a byte
    rwkv::generate(model, state, work, Tokenizer::bytes(), "", options);
  });
  const std::vector<float> few(10);
  options.logits = few;
  test::check_error(ErrorCategory::argument, "10 logits to go on from, of a vocabulary of 300",
                    [&] { rwkv::generate(model, state, work, reciter_tokenizer(), "", options); });
  CHECK(state.empty());
}

TEST_CASE("what is wrong is found before the state changes") {
  const Reciter model{{'o', 'k'}, 1, 200};
  Reciter::State state;
  Reciter::Workspace work;
  const auto refuse = [&](const char* sentence, std::string_view prompt,
                          const GenerateOptions& options) {
    test::check_error(ErrorCategory::argument, sentence, [&] {
      (void)rwkv::generate(model, state, work, Tokenizer::bytes(), prompt, options);
    });
    CHECK(state.empty());
  };
  refuse("token 255 at position 5 of the prompt is outside the model's vocabulary of 200",
         "abcde\xff", {});
  refuse("token 200 at position 0", "abc", {.leading_token = Token{200}});
  refuse("temperature is -1", "abc", {.sampler = {.temperature = -1}});
  refuse("banned names token 200", "abc", {.sampler = {.banned = {200}}});
  refuse("a stop string is empty", "abc", {.stop_strings = {""}});
}

TEST_CASE("tokens that the tokenizer does not know are not sampled") {
  const Tokenizer tokenizer(rwkv::io::Vocabulary{"", "a", "b"});
  const Reciter model{{250, 250, 1, 250}, 1};
  Reciter::State state;
  Reciter::Workspace work;
  rwkv::GenerateOptions options{.max_tokens = 20, .sampler = {.top_p = 1, .seed = 1}};
  test::check_error(ErrorCategory::argument, "ids up to 2, and the model 300 tokens",
                    [&] { (void)rwkv::generate(model, state, work, tokenizer, "a", options); });
  CHECK(state.empty());
  options.any_vocabulary = true;
  const auto result = rwkv::generate(model, state, work, tokenizer, "a", options);
  for (const Token token : result.tokens) CHECK(token < 3);
}

TEST_CASE("digits and spaces do not count as repetitions") {
  const Tokenizer tokenizer(
      rwkv::io::Vocabulary{"", "a", " ", "1", "12", "13", "  ", " \t", "\t0", "0123456789", "1a"});
  CHECK(rwkv::digits_and_spaces(tokenizer) == std::vector<Token>{0, 2, 3, 4, 7, 8, 9});
}

TEST_CASE("a server's stream per sequence") {
  const Tokenizer tokenizer = Tokenizer::bytes();
  rwkv::TokenStream stream(tokenizer, {.max_tokens = 4, .stop_strings = {"##"}});
  CHECK(stream.reason() == StopReason::none);
  CHECK(stream.push('a') == "a");
  CHECK(stream.push('#') == "");
  CHECK(stream.pending() == "#");
  rwkv::TokenStream fork = stream;
  CHECK(stream.push('b') == "#b");
  CHECK(fork.push('#') == "");
  CHECK(fork.reason() == StopReason::stop_string);
  CHECK(fork.pending() == "##");
  CHECK_THROWS_AS((void)stream.push(256), rwkv::Error);
  CHECK(stream.push('#') == "#");
  CHECK(stream.reason() == StopReason::max_tokens);
}

TEST_CASE("with a real model: reproducible, and the state goes on where it ended") {
  const auto model = rwkv::load(golden::cases()[0].model);
  rwkv::io::Vocabulary vocabulary;
  for (std::size_t id = 0; id < model.shape().vocab(); ++id)
    vocabulary.emplace_back(1, static_cast<char>('0' + id));
  const Tokenizer tokenizer(vocabulary);
  const GenerateOptions options{.max_tokens = 12, .stop_tokens = {}};
  rwkv::Workspace work(model.shape(), 4);
  rwkv::State state(model.shape());
  const auto first = rwkv::generate(model, state, work, tokenizer, "0123456789", options);
  CHECK(first.text.size() == 12);

  rwkv::State again(model.shape());
  CHECK(rwkv::generate(model, again, work, tokenizer, "0123456789", options).tokens ==
        first.tokens);
  CHECK(state == again);

  rwkv::State fed(model.shape());
  (void)model.forward(fed, tokenizer.encode("0123456789" + first.text), work);
  CHECK(fed == state);
}

TEST_CASE("a constraint decides what may be written") {
  const Tokenizer tokenizer = reciter_tokenizer();
  const auto constraint = [&](const char* pattern) {
    return rwkv::Grammar::from_regex(pattern).constraint(tokenizer);
  };
  const std::vector<Token> prompt{1};
  const auto wants = [&](const char* text) {
    return Reciter{.script = tokenizer.encode(text), .prompt = prompt.size()};
  };
  const auto run = [&](const Reciter& model, const GenerateOptions& options,
                       Reciter::Workspace& work) {
    Reciter::State state;
    const GenerateResult r =
        rwkv::generate(model, state, work, tokenizer, std::span<const Token>(prompt), options);
    CHECK(state.size() == prompt.size() + r.tokens.size());
    CHECK(tokenizer.decode(r.tokens) == r.text + r.overrun);
    return r;
  };
  Reciter::Workspace work;
  GenerateOptions options;
  options.sampler.temperature = 0;

  SUBCASE("it ends where nothing can follow") {
    options.constraint = constraint("a(b|c)d");
    const GenerateResult r = run(wants("ac"), options, work);
    CHECK(r.text == "acd");
    CHECK(r.reason == StopReason::complete);
    CHECK(r.satisfied);
  }
  SUBCASE("it ends at a stop token only where it may") {
    options.constraint = constraint("(ab)+");
    const GenerateResult r = run(wants("ab"), options, work);  // then 0, which ends a text
    CHECK(r.text == "ab");
    CHECK(r.reason == StopReason::stop_token);
    CHECK(r.satisfied);
    options.constraint = constraint("ab(ab){3}x?");
    CHECK(run(wants("ab"), options, work).text == "abababab");
  }
  SUBCASE("what is forced is one pass of several tokens, with the same result") {
    const char* pattern = "1234567(8|9)User: x(a|b)";
    options.constraint = constraint(pattern);
    work.rows_ = 16;
    const GenerateResult all = run(wants("1234567"), options, work);
    CHECK(work.passes == std::vector<std::size_t>{1, 7, 1, 1, 1});
    for (const std::size_t rows : {std::size_t{1}, std::size_t{3}}) {
      Reciter::Workspace small;
      small.rows_ = rows;
      CHECK(run(wants("1234567"), options, small).tokens == all.tokens);
    }
    // And by hand, one token at a time, as one sequence of a batch would be.
    for (const float temperature : {0.0f, 1.0f}) {
      options.sampler.temperature = temperature;
      options.sampler.top_p = 1;
      options.sampler.presence_penalty = 40;
      const Reciter model = wants("1234567");
      const GenerateResult expected = run(model, options, work);
      Reciter::State state;
      std::span<const float> logits = model.forward(state, prompt, work, rwkv::Serial());
      rwkv::SamplerOptions sampling = options.sampler;
      sampling.uncounted = rwkv::digits_and_spaces(tokenizer);
      rwkv::Sampler sampler(sampling);
      rwkv::Constraint by_hand = options.constraint;
      rwkv::TokenMask mask;
      std::vector<Token> tokens;
      for (by_hand.allowed(mask); !mask.none(); by_hand.allowed(mask)) {
        const Token token = sampler.sample(logits.first(tokenizer.vocab_size()), mask);
        by_hand.accept(token);
        tokens.push_back(token);
        logits = model.forward(state, std::span<const Token>(&token, 1), work, rwkv::Serial());
      }
      CHECK(tokens == expected.tokens);
    }
  }
  SUBCASE("the largest number of tokens holds within forced text, and is reported") {
    options.constraint = constraint("1234567");
    options.max_tokens = 3;
    const GenerateResult r = run(wants("x"), options, work);
    CHECK(r.text == "123");
    CHECK(r.reason == StopReason::max_tokens);
    CHECK_FALSE(r.satisfied);
  }
  SUBCASE("a stop token that is forced ends the text before it, and is none of the instance") {
    options.constraint = constraint("12!");
    options.stop_tokens = tokenizer.encode("!");
    const GenerateResult r = run(wants("x"), options, work);
    CHECK(r.text == "12");
    CHECK(r.reason == StopReason::stop_token);
    CHECK_FALSE(r.satisfied);
    CHECK(rwkv::Constraint(r.constraint).forced() == "!");
  }
  SUBCASE("a vocabulary that lacks what must follow is an error") {
    rwkv::io::Vocabulary letters(1);
    letters.emplace_back("a");
    const Tokenizer few(letters);
    options.constraint = rwkv::Grammar::from_regex("a(a|b)c").constraint(few);
    Reciter::State state;
    const Reciter model{.script = {1, 1, 1}, .prompt = 1, .vocab = 2};
    test::check_error(ErrorCategory::argument, "no token of the vocabulary", [&] {
      (void)rwkv::generate(model, state, work, few, std::span<const Token>(prompt), options);
    });
  }
}

TEST_CASE("30 tokens and then 30 are 60: with a kept sampler, the logits and the constraint") {
  const auto model = rwkv::Model<>::load(std::filesystem::path(RWKV_MODELS) / "tales");
  const auto tokenizer = Tokenizer::bytes();
  rwkv::Workspace work(model.shape());
  const rwkv::SamplerOptions sampling{
      .temperature = 0.9f, .presence_penalty = 0.3f, .frequency_penalty = 0.3f, .seed = 5};
  const auto grammar = rwkv::Grammar::from_regex("[A-Za-z ,.\\n]*");
  for (const bool constrained : {false, true}) {
    GenerateOptions options{.max_tokens = 60, .sampler = sampling, .stop_tokens = {}};
    if (constrained) options.constraint = grammar.constraint(tokenizer);
    rwkv::State whole_state = model.initial_state();
    const auto whole = rwkv::generate(model, whole_state, work, tokenizer, "The king", options);
    REQUIRE(whole.tokens.size() == 60);

    rwkv::State state = model.initial_state();
    rwkv::Sampler sampler = rwkv::make_sampler(sampling, tokenizer);
    options.max_tokens = 30;
    options.sampler.seed = 77;  // not used
    const auto first = rwkv::generate(model, state, work, tokenizer, "The king", sampler, options);
    options.logits = first.logits;
    options.constraint = first.constraint;
    const auto second = rwkv::generate(model, state, work, tokenizer, "", sampler, options);
    auto tokens = first.tokens;
    tokens.insert(tokens.end(), second.tokens.begin(), second.tokens.end());
    CHECK(tokens == whole.tokens);
    CHECK(first.text + second.text == whole.text);
    CHECK(second.logits == whole.logits);
    CHECK(state == whole_state);
  }
}

TEST_CASE("a StaticModel generates what the model in memory does") {
  using Shape = test::F32::Shape;
  const rwkv::Model<> model(test::checkpoint_of<test::F32>());
  const auto weights = test::static_weights<Shape, float>(model.weights());
  using Weights = std::remove_reference_t<decltype(*weights)>;
  const rwkv::StaticModel<Weights, rwkv::simd::Chosen> constant(*weights);
  rwkv::io::Vocabulary vocabulary;
  for (std::size_t id = 0; id < model.shape().vocab(); ++id)
    vocabulary.emplace_back(1, static_cast<char>('0' + id));
  const Tokenizer tokenizer(vocabulary);
  GenerateOptions options{.max_tokens = 12, .stop_tokens = {}};
  options.cancelled = [] { return false; };
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape());
  const auto want = rwkv::generate(model, state, work, tokenizer, "0123456789", options);
  rwkv::State<Shape> static_state;
  rwkv::Workspace<Shape, 4> static_work;
  const auto got =
      rwkv::generate(constant, static_state, static_work, tokenizer, "0123456789", options);
  CHECK(got.tokens == want.tokens);
  CHECK(got.text == want.text);
  CHECK(got.logits == want.logits);
}
