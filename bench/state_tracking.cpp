// SPDX-License-Identifier: Apache-2.0
// State tracking, trained: models of a few layers learn the word problem of a group, that is to
// name the product of all elements read so far, and are tested on longer words than they were
// trained on. Standard against extended eigenvalues: with the latter one step of the recurrence can
// reflect, which parity and permutations need.
//
//   state_tracking                                         a quick look, one to two minutes
//   state_tracking --tasks parity,Z60,A5,S5 --layers 1,2,4 --embed 128 --batch 256 --steps 4000
//
// The numbers are the same for the same options, machine and number of threads. "swaps" are words
// of transpositions in S5, which one reflection per token can follow.
#include "options.hpp"
#include <rwkv/core/argmax.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/train.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace {

namespace train = rwkv::train;
using rwkv::Token;

constexpr const char* usage =
    "state_tracking [--tasks parity,swaps,Z60,A5,S5] [--layers 1,2]\n"
    "                      [--eigenvalues standard,extended] [--embed C] [--head-size N]\n"
    "                      [--batch B] [--length T] [--test-length T] [--words W] [--steps N]\n"
    "                      [--rate R] [--decay D] [--seed S] [--threads N] [--csv FILE]";

/// A finite group and the elements that words are made of.
struct Group {
  std::size_t order = 0;
  std::vector<Token> product;  // [order][order]: of the row's element, then the column's
  std::vector<Token> letters;
};

Group cyclic(std::size_t order) {
  Group g{order, std::vector<Token>(order * order), std::vector<Token>(order)};
  for (std::size_t a = 0; a < order; ++a)
    for (std::size_t b = 0; b < order; ++b)
      g.product[a * order + b] = static_cast<Token>((a + b) % order);
  std::iota(g.letters.begin(), g.letters.end(), Token{0});
  return g;
}

using Permutation = std::array<Token, 5>;

std::size_t inversions(const Permutation& p) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    for (std::size_t j = i + 1; j < p.size(); ++j) n += p[i] > p[j];
  return n;
}

bool is_swap(const Permutation& p) {
  std::size_t moved = 0;
  for (std::size_t i = 0; i < p.size(); ++i) moved += p[i] != i;
  return moved == 2;
}

/// The permutations of five, or only the even ones; letters: all of them, or only the swaps.
Group permutations(bool only_even, bool only_swaps) {
  std::vector<Permutation> elements;
  Permutation p{0, 1, 2, 3, 4};
  do {
    if (!only_even || inversions(p) % 2 == 0) elements.push_back(p);
  } while (std::next_permutation(p.begin(), p.end()));
  Group g{elements.size(), std::vector<Token>(elements.size() * elements.size()), {}};
  for (std::size_t a = 0; a < g.order; ++a) {
    if (!only_swaps || is_swap(elements[a])) g.letters.push_back(static_cast<Token>(a));
    for (std::size_t b = 0; b < g.order; ++b) {
      for (std::size_t i = 0; i < p.size(); ++i) p[i] = elements[b][elements[a][i]];
      const auto at = std::lower_bound(elements.begin(), elements.end(), p);  // sorted as generated
      g.product[a * g.order + b] = static_cast<Token>(at - elements.begin());
    }
  }
  return g;
}

Group group_called(const std::string& name) {
  if (name == "parity") return cyclic(2);
  if (name == "Z60") return cyclic(60);
  if (name == "A5") return permutations(true, false);
  if (name == "S5") return permutations(false, false);
  if (name == "swaps") return permutations(false, true);
  rwkv::fail_with(rwkv::ErrorCategory::argument, "there is no task ", name);
}

/// Random words with the product of every prefix: a data source without end. The first ones are
/// short: at positions whose product is still out of reach there is nothing to learn but noise.
class Words {
 public:
  /// The length doubles again and again, from two letters to `length`, in the course of `growth`
  /// words.
  Words(Group group, std::size_t length, std::uint64_t growth, std::uint64_t seed)
      : group_(std::move(group)), length_(length), growth_(growth), random_(seed) {}

  void next(std::span<train::Sample> samples) {
    words_.resize(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const double progress =
          drawn_ < growth_ ? static_cast<double>(drawn_) / static_cast<double>(growth_) : 1.0;
      const double shorter = std::pow(2.0 / static_cast<double>(length_), 1.0 - progress);
      const std::size_t length = std::min(
          length_, static_cast<std::size_t>(std::lround(static_cast<double>(length_) * shorter)));
      ++drawn_;
      Word& w = words_[i];
      w.letters.resize(length);
      w.products.resize(length);
      Token product = 0;  // the neutral element
      for (std::size_t t = 0; t < length; ++t) {
        w.letters[t] = group_.letters[random_.below(group_.letters.size())];
        w.products[t] = product = group_.product[product * group_.order + w.letters[t]];
      }
      samples[i].tokens = w.letters;
      samples[i].targets = w.products;
    }
  }

  [[nodiscard]] train::DataPosition position() const { return {random_.state(), 0, drawn_}; }
  void restore(const train::DataPosition& position) {
    random_ = train::Random(position.random);
    drawn_ = position.next;
  }
  [[nodiscard]] Token largest_token() const { return static_cast<Token>(group_.order - 1); }
  [[nodiscard]] std::uint64_t fingerprint() const {
    return (group_.order << 48) + (group_.letters.size() << 40) + (length_ << 24) + growth_;
  }

 private:
  struct Word {
    std::vector<Token> letters, products;
  };

  Group group_;
  std::size_t length_;
  std::uint64_t growth_;
  train::Random random_;
  std::vector<Word> words_;
  std::uint64_t drawn_ = 0;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts(1);
  for (const char c : list) {
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

struct Experiment {
  std::size_t embed, head_size, batch, length, test_length, words, steps;
  double rate, decay;
  std::uint64_t seed;
  std::vector<std::size_t> ends;  // of the stretches of positions whose accuracy is reported

  /// 4, 8, 16, ... up to the longest word.
  void choose_ends() {
    for (std::size_t end = 4; end < test_length; end *= 2) ends.push_back(end);
    ends.push_back(test_length);
  }
};

struct Outcome {
  double loss = 0.0;
  std::vector<double> accuracy;  // one per stretch
};

Outcome run(const Experiment& e, const Group& group, std::size_t layers,
            rwkv::Eigenvalues eigenvalues, rwkv::ThreadPool& pool) {
  const auto layout =
      std::make_shared<const train::Layout>(rwkv::Dimensions{.layers = layers,
                                                             .embed = e.embed,
                                                             .head_size = e.head_size,
                                                             .ffn = 2 * e.embed,
                                                             .vocab = group.order,
                                                             .decay_rank = 16,
                                                             .icl_rank = 16,
                                                             .value_rank = 16,
                                                             .gate_rank = 16},
                                            eigenvalues);
  train::TrainerOptions options;
  options.batch = e.batch;
  options.schedule = {
      .initial = e.rate, .final = e.rate / 20, .steps = e.steps, .warm_up = e.steps / 20};
  options.optimizer.weight_decay = e.decay;
  train::Trainer trainer(train::initialise(layout, e.seed),
                         Words(group, e.length, e.steps * e.batch / 2, e.seed), options);
  Outcome result;
  while (trainer.steps() < e.steps) result.loss = trainer.step(pool).loss;

  std::vector<train::Sample> samples(e.words);
  Words test(group, e.test_length, 0, e.seed + 1);
  test.next(samples);
  train::Objective objective(layout);
  std::vector<std::size_t> right(e.test_length);
  for (const train::Sample& s : samples) {
    const std::vector<float> logits = objective.logits(trainer.model(), s.tokens);
    for (std::size_t t = 0; t < e.test_length; ++t)
      right[t] +=
          rwkv::argmax(std::span(logits).subspan(t * group.order, group.order)) == s.targets[t];
  }
  for (std::size_t i = 0, begin = 0; i < e.ends.size(); begin = e.ends[i++]) {
    std::size_t sum = 0;
    for (std::size_t t = begin; t < e.ends[i]; ++t) sum += right[t];
    result.accuracy.push_back(static_cast<double>(sum) /
                              static_cast<double>((e.ends[i] - begin) * e.words));
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Options options(argc, argv, usage);
  const auto size = [&](const char* name, std::size_t otherwise) {
    return options.number<std::size_t>(name, otherwise);
  };
  const auto tasks = split(options.text("tasks", "parity,swaps,Z60"));
  const auto layer_counts = split(options.text("layers", "1,2"));
  const auto variants = split(options.text("eigenvalues", "standard,extended"));
  Experiment e{.embed = size("embed", 64),
               .head_size = size("head-size", 32),
               .batch = size("batch", 32),
               .length = size("length", 32),
               .test_length = size("test-length", 128),
               .words = size("words", 200),
               .steps = size("steps", 400),
               .rate = options.number("rate", 3e-3),
               .decay = options.number("decay", 0.01),
               .seed = options.number<std::uint64_t>("seed", 1),
               .ends = {}};
  const std::size_t threads = size("threads", 1);
  const std::string csv_path = options.text("csv", "");
  options.finish();
  e.choose_ends();
  rwkv::ThreadPool pool(threads);
  std::FILE* csv = csv_path.empty() ? nullptr : std::fopen(csv_path.c_str(), "w");
  if (csv == nullptr && !csv_path.empty())
    rwkv::fail_with(rwkv::ErrorCategory::io, csv_path, ": cannot be written");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> close_csv(csv, std::fclose);
  if (csv) std::fputs("task,layers,eigenvalues,train_length,length,accuracy\n", csv);

  std::printf("accuracy (%%) at positions up to ...; %zu steps on %zu words of %zu letters\n",
              e.steps, e.batch, e.length);
  std::printf("%-8s %6s %-11s %8s %7s |", "task", "layers", "eigenvalues", "loss", "seconds");
  for (const std::size_t end : e.ends) std::printf(" %6zu", end);
  std::printf("\n");
  for (const std::string& task : tasks) {
    const Group group = group_called(task);
    for (const std::string& layer_count : layer_counts)
      for (const std::string& variant : variants) {
        if (variant != "standard" && variant != "extended")
          rwkv::fail_with(rwkv::ErrorCategory::argument, "eigenvalues are not ", variant);
        const auto start = std::chrono::steady_clock::now();
        const Outcome r =
            run(e, group, std::stoul(layer_count),
                variant == "extended" ? rwkv::Eigenvalues::extended : rwkv::Eigenvalues::standard,
                pool);
        const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
        std::printf("%-8s %6s %-11s %8.4f %7.1f |", task.c_str(), layer_count.c_str(),
                    variant.c_str(), r.loss, spent.count());
        for (const double a : r.accuracy) std::printf(" %6.1f", 100.0 * a);
        std::printf("\n");
        std::fflush(stdout);
        for (std::size_t i = 0; csv && i < e.ends.size(); ++i)
          std::fprintf(csv, "%s,%s,%s,%zu,%zu,%.5f\n", task.c_str(), layer_count.c_str(),
                       variant.c_str(), e.length, e.ends[i], r.accuracy[i]);
        if (csv) std::fflush(csv);
      }
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
