// SPDX-License-Identifier: Apache-2.0
// The models in examples/models do what their cards say.
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/automata.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/core/argmax.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <random>

using namespace rwkv;

namespace {

const std::string models = RWKV_MODELS;

/// What the model appends to each prompt until its end token or `limit` tokens, always taking the
/// likeliest token; all texts in one batch.
std::vector<std::string> continuations(const Model<>& model, const Tokenizer& tokenizer,
                                       const std::vector<std::string>& prompts, Token end,
                                       std::size_t limit, ThreadPool& pool) {
  const std::size_t vocab = model.shape().vocab();
  std::vector<State<>> states(prompts.size(), State<>(model.shape()));
  std::vector<std::vector<Token>> next(prompts.size());
  std::vector<std::string> texts(prompts.size());
  std::vector<std::size_t> going;  // which texts have not ended
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    next[i] = tokenizer.encode(prompts[i]);
    going.push_back(i);
  }
  Workspace<> work(model.shape(), 256);
  for (std::size_t step = 0; step < limit && !going.empty(); ++step) {
    std::vector<Slot<>> slots;
    for (const std::size_t i : going) slots.push_back({&states[i], next[i]});
    std::vector<float> logits(going.size() * vocab);
    model.forward(slots, Logits::last, logits, work, pool);
    for (std::size_t s = 0; s < going.size(); ++s) {
      const Token token = argmax(std::span(logits).subspan(s * vocab, vocab));
      next[going[s]] = {token};
      if (token != end) texts[going[s]] += tokenizer.token_bytes(token);
    }
    std::erase_if(going, [&](std::size_t i) { return next[i].front() == end; });
  }
  return texts;
}

}  // namespace

#ifdef RWKV_TEST_SANITIZER  // a hundred times slower
constexpr int strings = 3;
#else
constexpr int strings = 200;
#endif

TEST_CASE("reverse: strings of 1 to 60 digits, as many of every tenth of the lengths") {
  const auto checkpoint = io::read_checkpoint(models + "/reverse/reverse.safetensors");
  const auto tokenizer = Tokenizer::from_checkpoint(checkpoint);
  const test::TemporaryDirectory directory;
  convert(checkpoint, directory / "int8.gguf", {.type = DType::q8_0, .self_test = false});
  const Model<> as_published(checkpoint);
  const Model<> int8 = load(directory / "int8.gguf");
  const Model<> int8_exact = load(directory / "int8.gguf", {.inputs = kernels::Inputs::exact});
  CHECK(as_published.shape().vocab() == 12);
  CHECK(as_published.weights().parameters() < 32000);
  ThreadPool pool(2);
  for (const Model<>* model : {&as_published, &int8, &int8_exact}) {
    CAPTURE(model == &int8);
    CAPTURE(model == &int8_exact);
    std::mt19937 random(1);
    std::size_t mistakes = 0;
    for (std::size_t shortest = 1; shortest <= 60; shortest += 6) {
      std::vector<std::string> prompts(strings), answers;
      for (std::string& prompt : prompts) {
        std::string digits(shortest + random() % 6, '0');
        for (char& c : digits) c = static_cast<char>('0' + random() % 10);
        answers.emplace_back(digits.rbegin(), digits.rend());
        prompt = digits + "=";
      }
      const auto given = continuations(*model, tokenizer, prompts, 0, 61, pool);
      for (std::size_t i = 0; i < given.size(); ++i) mistakes += given[i] != answers[i];
    }
    CHECK(mistakes == 0);
  }
}

TEST_CASE("tiny: strings of up to eight digits") {
  const auto model = load(models + "/tiny/tiny.safetensors");
  io::Vocabulary vocabulary;
  for (const char c : std::string("0123456789=#")) vocabulary.emplace_back(1, c);
  const Tokenizer tokenizer(vocabulary);
  ThreadPool pool(2);
  std::vector<std::string> prompts, answers;
  for (int number = 0; number < 2 * strings; ++number) {
    const std::string digits = std::to_string(number * number * 613 % 100000000);
    answers.emplace_back(digits.rbegin(), digits.rend());
    prompts.push_back(digits + "=");
  }
  CHECK(continuations(model, tokenizer, prompts, 11, 9, pool) == answers);
}

TEST_CASE("date: what the calendar says of eight digits") {
  automata::Recogniser date(io::read_checkpoint(models + "/automata/date.safetensors"));
  CHECK(date.model().shape().layers() == 1);
  std::mt19937 random(1);
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  const auto accepted = [&](const std::string& text) {
    date.reset();
    date.feed(text);
    return date.accepted();
  };
  std::size_t dates = 0, others = 0;
  for (int number = 0; number < 8 * strings; ++number) {
    const bool leap_day = number % 4 == 0;
    const unsigned year = number % 8 == 0 ? 100 * below(100) : below(10000),
                   month = leap_day ? 2 : below(14), day = leap_day ? 29 : below(33);
    const std::chrono::year_month_day calendar{std::chrono::year(static_cast<int>(year)),
                                               std::chrono::month(month), std::chrono::day(day)};
    char text[16];
    std::snprintf(text, sizeof text, "%04u-%02u-%02u", year % 10000, month % 100, day % 100);
    CAPTURE(text);
    CHECK(accepted(text) == calendar.ok());
    (calendar.ok() ? dates : others) += 1;
    std::string damaged = text;
    damaged.erase(below(10), 1);
    CHECK_FALSE(accepted(damaged));
    CHECK_FALSE(accepted(std::string(text) + static_cast<char>(below(256))));
  }
  CHECK(dates > static_cast<std::size_t>(2 * strings));
  CHECK(others > static_cast<std::size_t>(2 * strings));
}

TEST_CASE("multiple_of_three: numbers of any length") {
  automata::Recogniser model(
      io::read_checkpoint(models + "/automata/multiple_of_three.safetensors"));
  std::mt19937 random(1);
  unsigned remainder = 0;
  std::size_t multiples = 0;
  CHECK_FALSE(model.accepted());  // no digits, no number
  for (int digit = 0; digit < 100 * strings; ++digit) {
    const unsigned bit = random() % 2;
    remainder = (2 * remainder + bit) % 3;
    model.feed(bit == 0 ? "0" : "1");
    REQUIRE(model.accepted() == (remainder == 0));
    multiples += remainder == 0 ? 1 : 0;
  }
  CHECK(multiples > static_cast<std::size_t>(20 * strings));
  model.feed("2");
  CHECK_FALSE(model.accepted());
}

TEST_CASE("passkey: the right one of sixty in a thousand tokens of noise") {
  const auto model = HybridModel::load(models + "/passkey/passkey.safetensors");
  CHECK(model.weights().sparse_blocks() == 1);
  CHECK(model.weights().parameters() < 130000);
  constexpr Token numbers = 100, mark = 100, ask = 101, first_word = 102, first_name = 122;
  constexpr std::size_t keys = 60, stretch = 17, length = keys * stretch + 2;
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return static_cast<Token>(random() % n); };
  HybridState state(model.shape());
  HybridWorkspace work(model.shape(), 256);
  std::vector<Token> names(256), tokens(length);
  std::iota(names.begin(), names.end(), first_name);
  const int texts = std::max(1, strings / 3);
  int found = 0;
  for (int text = 0; text < texts; ++text) {
    for (Token& t : tokens) t = below(3) == 0 ? below(numbers) : first_word + below(20);
    const std::size_t wanted = below(keys);
    Token answer = 0;
    for (std::size_t k = 0; k < keys; ++k) {
      std::swap(names[k], names[k + below(256 - k)]);
      const std::size_t at = k * stretch + below(stretch - 2);
      tokens[at] = mark;
      tokens[at + 1] = names[k];
      tokens[at + 2] = below(numbers);
      if (k == wanted) answer = tokens[at + 2];
    }
    tokens[length - 2] = ask;
    tokens[length - 1] = names[wanted];
    state.reset();
    found += argmax(model.forward(state, tokens, work)) == answer;
  }
  CHECK(found >= texts * 9 / 10);
}

TEST_CASE("tales and fables: write words, the same ones for the same seed") {
  std::string path = models + "/tales/tales.safetensors";
  std::size_t most = 1500000;
  SUBCASE("tales") {}
  SUBCASE("fables") {
    path = models + "/fables/fables.safetensors";
    most = 790000;
  }
  const auto model = load(path);
  CHECK(model.weights().parameters() <= most);
  const auto tokenizer = Tokenizer::bytes();
  ThreadPool pool(2);
  const auto tell = [&] {
    State state(model.shape());
    Workspace<> work(model.shape());
    std::string text;
    generate(
        model, state, work, tokenizer, "Once upon a time ",
        {.max_tokens = 300, .sampler = {.temperature = 0.6f, .seed = 7}, .stop_tokens = {}},
        [&](std::string_view piece) { text += piece; }, pool);
    return text;
  };
  const std::string text = tell();
  CHECK(text.size() == 300);
  CHECK(tell() == text);
  CHECK(std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\n' ||
           (static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f);
  }));
  // As often as in English prose: every fifth or sixth character is a space.
  CHECK(std::count(text.begin(), text.end(), ' ') > 40);
  CHECK(text.find(" the ") != std::string::npos);
}
