// SPDX-License-Identifier: Apache-2.0
// What guessing ahead (speculate.hpp) makes of decoding.
//
//     speculate --model MODEL [--tokens 48] [--rounds 3] [--threads 1] [--csv FILE]
//       Speed by the share of right guesses and their number per pass, as a multiple of plain
//       decoding: guesses come from a script in which that share of the model's own text is right.
//       For any model, with random weights too; plot_speculate.py plots the CSV. Before that: how
//       long passes of so many rows take.
//     speculate --model MODEL --sequences N [--tokens 48] ...
//       The same for N texts of a GenerateBatch, with the number of guesses that the library chooses.
//     speculate --model MODEL --prompt FILE [--draft MODEL] [--tokens 400] [--prompt-bytes 2000] ...
//       A text is continued, greedily, with guesses that are looked up in it (or a smaller model's).
//     speculate --model MODEL --recite FILE [--vocab VOCABULARY] [--tokens 400] ...
//       The same as if this text were what the model says, from its middle on: what guesses from
//       the text bring with a model of this size (the weights may be random).
//
// Everything is measured in turns with plain decoding; the numbers are medians of the rounds. With
// --processor-time, for busy machines, the time counts during which the one thread had a processor.
#include "options.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate_batch.hpp>
#include <rwkv/speculate.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

namespace {

using rwkv::Token;

bool processor_time = false;

/// Seconds.
double now() {
  if (processor_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Timed {
  std::vector<Token> tokens;
  double seconds = 0;
  rwkv::FeederCounts counts;
};

/// `count` tokens greedily after a prompt, by `generate`'s steps without its text.
Timed decode(const rwkv::Model<>& model, const rwkv::State<>& after_prompt, Token first,
             std::size_t count, rwkv::Draft* draft, std::size_t draft_tokens,
             rwkv::ThreadPool& pool, std::span<const Token> recited = {}) {
  rwkv::State<> state = after_prompt;
  rwkv::Workspace work(model.shape(), 32);
  Timed timed;
  timed.tokens = {first};
  const auto run = [&](rwkv::Feeder* feeder) {
    const double begin = now();
    while (timed.tokens.size() <= count) {
      std::span<const float> logits;
      const std::span<const Token> last(&timed.tokens.back(), 1);
      if (feeder == nullptr) {
        logits = model.forward(state, last, work, pool);
      } else {
        rwkv::Feeder::Request request{feeder, &state, last, count - timed.tokens.size()};
        rwkv::feed(model, std::span(&request, 1), work, pool);
        logits = request.logits;
      }
      const std::size_t at = timed.tokens.size() - 1;
      const Token drawn = rwkv::argmax(logits);
      timed.tokens.push_back(at < recited.size() ? recited[at] : drawn);
    }
    if (feeder != nullptr) feeder->settle(state, pool);
    timed.seconds = now() - begin;
  };
  if (draft == nullptr) {
    run(nullptr);
    return timed;
  }
  rwkv::Feeder feeder(model.shape(), {.draft = draft, .draft_tokens = draft_tokens});
  run(&feeder);
  timed.counts = feeder.counts();
  return timed;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

bool same(const Timed& a, const Timed& b) {
  if (a.tokens == b.tokens) return true;
  std::fputs("error: the text is another one with guesses\n", stderr);
  return false;
}

/// The text, but only so large a share of its tokens.
std::vector<Token> partly(std::vector<Token> text, double right, std::size_t seed,
                          std::size_t vocab) {
  std::mt19937 random(static_cast<unsigned>(seed));
  for (Token& token : text)
    if (static_cast<double>(random() % 1000) >= right * 1000)
      token = (token + 1) % static_cast<Token>(vocab);
  return text;
}

void print_passes(const rwkv::Model<>& model, std::size_t rounds, rwkv::ThreadPool& pool) {
  constexpr std::size_t numbers[] = {1, 2, 3, 4, 5, 6, 8, 12, 16};
  rwkv::Workspace work(model.shape(), 16);
  std::vector<float> logits(16 * model.shape().vocab());
  std::vector<std::vector<double>> times(std::size(numbers));
  for (std::size_t round = 0; round < 4 * rounds; ++round)
    for (std::size_t i = 0; i < std::size(numbers); ++i) {
      rwkv::State<> state = model.initial_state();
      const std::vector<Token> tokens(numbers[i], 1);
      const rwkv::Slot<> slot{&state, tokens};
      const double begin = now();
      model.forward(std::span(&slot, 1), rwkv::Logits::all,
                    std::span(logits).first(numbers[i] * model.shape().vocab()), work, pool);
      times[i].push_back(now() - begin);
    }
  std::printf("| rows |");
  for (const std::size_t n : numbers) std::printf(" %zu |", n);
  std::printf("\n|---|");
  for (std::size_t i = 0; i < std::size(numbers); ++i) std::printf("---|");
  std::printf("\n| ms |");
  for (auto& of_number : times) std::printf(" %.2f |", 1e3 * median(std::move(of_number)));
  std::puts("\n");
  std::fflush(stdout);
}

/// Texts that a batch continues greedily, each from a first token of its own.
struct Batch {
  std::vector<std::vector<Token>> texts;
  double seconds = 0;
};
Batch decode_together(const rwkv::Model<>& model, std::size_t sequences, std::size_t count,
                      const Batch* guessed, double right, std::size_t seed,
                      rwkv::ThreadPool& pool) {
  rwkv::GenerateOptions options{.max_tokens = count};
  options.sampler.temperature = 0;
  options.stop_tokens.clear();
  options.any_vocabulary = true;  // only numbers of tokens are looked at
  std::vector<rwkv::State<>> states(sequences, model.initial_state());
  std::vector<std::unique_ptr<rwkv::FixedDraft>> drafts;
  std::vector<std::unique_ptr<rwkv::Feeder>> feeders;
  rwkv::GenerateBatch<rwkv::Model<>, rwkv::State<>> batch(model, rwkv::Tokenizer::bytes());
  for (std::size_t s = 0; s < sequences; ++s) {
    const Token first = static_cast<Token>(1 + s % (model.shape().vocab() - 1));
    if (guessed != nullptr) {
      auto script = partly(guessed->texts[s], right, seed * sequences + s, model.shape().vocab());
      script.insert(script.begin(), first);
      drafts.push_back(std::make_unique<rwkv::FixedDraft>(std::move(script)));
      feeders.push_back(std::make_unique<rwkv::Feeder>(
          model.shape(), rwkv::FeederOptions{.draft = drafts.back().get()}));
      options.feeder = feeders.back().get();
    }
    batch.add(states[s], std::span(&first, 1), options);
  }
  rwkv::Workspace work(model.shape(), 128);
  Batch result;
  const double begin = now();
  batch.run(work, pool);
  result.seconds = now() - begin;
  for (std::size_t s = 0; s < sequences; ++s)
    result.texts.push_back(std::move(batch.take(s).tokens));
  return result;
}

int simulate_batch(const rwkv::Model<>& model, std::size_t sequences, std::size_t count,
                   std::size_t rounds, rwkv::ThreadPool& pool) {
  std::puts("| right guesses | speed of the batch |\n|---|---|");
  for (const double right : {0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0}) {
    std::vector<double> ratios;
    for (std::size_t round = 0; round < rounds; ++round) {
      const Batch plain = decode_together(model, sequences, count, nullptr, 0, 0, pool);
      const Batch fed = decode_together(model, sequences, count, &plain, right, round + 1, pool);
      if (plain.texts != fed.texts) {
        std::fputs("error: a text is another one with guesses\n", stderr);
        return 1;
      }
      ratios.push_back(plain.seconds / fed.seconds);
    }
    std::printf("| %.0f %% | %.2f |\n", 100 * right, median(ratios));
    std::fflush(stdout);
  }
  return 0;
}

int simulate(const rwkv::Model<>& model, std::size_t count, std::size_t rounds,
             rwkv::ThreadPool& pool, const std::string& csv) {
  const rwkv::State<> start = model.initial_state();
  const Timed text = decode(model, start, 1, count, nullptr, 0, pool);
  std::FILE* const file = csv.empty() ? nullptr : std::fopen(csv.c_str(), "w");
  if (file != nullptr) std::fputs("right,guesses,speedup\n", file);
  constexpr std::size_t lengths[] = {1, 2, 3, 4, 6, 8, 12, 15, 0};  // 0: chosen
  std::printf("| right guesses |");
  for (const std::size_t k : lengths) k == 0 ? std::printf(" chosen |") : std::printf(" %zu |", k);
  std::printf("\n|---|");
  for (std::size_t i = 0; i < std::size(lengths); ++i) std::printf("---|");
  for (const double right : {0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0}) {
    std::vector<std::vector<double>> ratios(std::size(lengths));
    for (std::size_t round = 0; round < rounds; ++round) {
      const std::vector<Token> script =
          partly(text.tokens, right, round + 1, model.shape().vocab());
      for (std::size_t i = 0; i < std::size(lengths); ++i) {
        const Timed plain = decode(model, start, 1, count, nullptr, 0, pool);
        rwkv::FixedDraft draft(script);
        const Timed fed = decode(model, start, 1, count, &draft, lengths[i], pool);
        if (!same(plain, fed)) return 1;
        ratios[i].push_back(plain.seconds / fed.seconds);
      }
    }
    std::printf("\n| %.0f %% |", 100 * right);
    for (std::size_t i = 0; i < std::size(lengths); ++i) {
      std::printf(" %.2f |", median(ratios[i]));
      if (file != nullptr)
        std::fprintf(file, "%.2f,%zu,%.4f\n", right, lengths[i], median(ratios[i]));
    }
    std::fflush(stdout);
  }
  std::puts("");
  if (file != nullptr && std::fclose(file) != 0) {
    std::fprintf(stderr, "error: %s: cannot be written\n", csv.c_str());
    return 1;
  }
  return 0;
}

struct Text {
  std::vector<Token> prompt;
  std::vector<Token> recited;  // behind the prompt; empty: what the model says
};

int go_on(const rwkv::Model<>& model, const rwkv::Tokenizer& tokenizer, const Text& text,
          const std::string& draft_path, std::size_t draft_tokens, std::size_t count,
          std::size_t rounds, rwkv::ThreadPool& pool) {
  rwkv::State<> state = model.initial_state();
  rwkv::Workspace work(model.shape());
  Token first = rwkv::argmax(model.forward(state, text.prompt, work, pool));
  std::span<const Token> recited = text.recited;
  if (!recited.empty()) {
    first = recited.front();
    recited = recited.subspan(1);
    count = (std::min)(count, recited.size());
  }
  std::unique_ptr<rwkv::Draft> draft;
  if (draft_path.empty())
    draft = std::make_unique<rwkv::NgramDraft>();
  else
    draft = std::make_unique<rwkv::ModelDraft>(rwkv::load(draft_path), pool);
  std::vector<double> ratios, plain_speed, fed_speed;
  Timed fed;
  for (std::size_t round = 0; round < rounds; ++round) {
    const Timed plain = decode(model, state, first, count, nullptr, 0, pool, recited);
    draft->reset();
    draft->append(text.prompt);
    fed = decode(model, state, first, count, draft.get(), draft_tokens, pool, recited);
    if (!same(plain, fed)) return 1;
    ratios.push_back(plain.seconds / fed.seconds);
    plain_speed.push_back(static_cast<double>(count) / plain.seconds);
    fed_speed.push_back(static_cast<double>(count) / fed.seconds);
  }
  std::printf(
      "plain %.1f tokens/s, with guesses %.1f: %.2f times; %zu of %zu guesses right, %.2f "
      "tokens per pass\n",
      median(plain_speed), median(fed_speed), median(ratios), fed.counts.accepted,
      fed.counts.guessed,
      static_cast<double>(fed.counts.tokens) / static_cast<double>(fed.counts.passes));
  const std::string said = tokenizer.decode(
      std::span<const Token>(fed.tokens).first((std::min)(fed.tokens.size(), std::size_t{120})));
  std::printf("text begins: %s\n", said.c_str());
  return 0;
}

std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (text.empty()) rwkv::fail_with(rwkv::ErrorCategory::io, path, ": nothing can be read");
  return text;
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Options options(
      argc, argv,
      "speculate --model MODEL [--tokens 48] [--rounds 3] [--threads 1] [--csv FILE] "
      "[--processor-time] [--sequences N] | --model MODEL --prompt FILE [--prompt-bytes 2000] "
      "[--draft MODEL] "
      "[--draft-tokens 0] [--tokens 400] | --model MODEL --recite FILE [--vocab FILE] ...");
  const std::string path = options.text("model", "");
  const std::string prompt = options.text("prompt", "");
  const std::string recite = options.text("recite", "");
  const std::string vocab = options.text("vocab", "");
  const auto prompt_bytes = options.number<std::size_t>("prompt-bytes", 2000);
  const std::string draft = options.text("draft", "");
  const auto draft_tokens = options.number<std::size_t>("draft-tokens", 0);
  const auto count =
      options.number<std::size_t>("tokens", prompt.empty() && recite.empty() ? 48 : 400);
  const auto rounds = options.number<std::size_t>("rounds", 3);
  const auto threads = options.number<std::size_t>("threads", 1);
  const auto sequences = options.number<std::size_t>("sequences", 0);
  const std::string csv = options.text("csv", "");
  processor_time = options.flag("processor-time");
  options.finish();
  const bool not_for_batches = !csv.empty() || !prompt.empty() || !recite.empty();
  if (path.empty() || rounds == 0 || count == 0 || (processor_time && threads != 1) ||
      (sequences > 0 && not_for_batches)) {
    std::fputs(
        "speculate needs --model MODEL, a round and a token at least; --processor-time is that "
        "of one thread; --sequences goes without --csv, --prompt and --recite\n",
        stderr);
    return 2;
  }
  rwkv::ThreadPool pool(threads);
  const auto model = rwkv::load(path);
  if (sequences > 0) return simulate_batch(model, sequences, count, rounds, pool);
  if (prompt.empty() && recite.empty()) {
    print_passes(model, rounds, pool);
    return simulate(model, count, rounds, pool, csv);
  }
  const auto tokenizer = !vocab.empty() ? rwkv::Tokenizer::from_vocab_file(vocab)
                         : recite.empty()
                             ? rwkv::Tokenizer::from_checkpoint(rwkv::io::read_checkpoint(path))
                             : rwkv::Tokenizer::bytes();
  Text text;
  if (recite.empty()) {
    text.prompt = tokenizer.encode(content_of(prompt).substr(0, prompt_bytes));
  } else {
    text.prompt = tokenizer.encode(content_of(recite));
    const auto middle = text.prompt.begin() + static_cast<std::ptrdiff_t>(text.prompt.size() / 2);
    text.recited.assign(middle, text.prompt.end());
    text.prompt.erase(middle, text.prompt.end());
  }
  return go_on(model, tokenizer, text, draft, draft_tokens, count, rounds, pool);
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
