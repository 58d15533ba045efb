// SPDX-License-Identifier: Apache-2.0
// Compiled automata over long random words: errors against plain composition, largest deviation of
// the recurrent state from zeros and ones, micro-steps (tokens) per symbol, and symbols and 10^6
// micro-steps per second of one core with a label after every symbol.
#include "options.hpp"
#include <rwkv/automata.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <random>

namespace {

using namespace rwkv;

/// Calls truth(symbol) after each of `length` random symbols and compares with the model's label.
template <class Truth>
void measure(const char* name, const io::Checkpoint& checkpoint, const LoadOptions& options,
             std::size_t length, Truth truth) {
  automata::Recogniser model(checkpoint, options);
  const std::size_t symbols = model.spelling().symbols.size();
  std::mt19937 random(1);
  std::vector<automata::Symbol> word(1 << 14);
  std::vector<std::size_t> labels(word.size());
  std::size_t errors = 0, steps = 0;
  double seconds = 0;
  float deviation = 0;
  for (std::size_t done = 0; done < length; done += word.size()) {
    const std::size_t n = std::min(word.size(), length - done);
    word.resize(n), labels.resize(n);
    for (auto& s : word) s = static_cast<automata::Symbol>(random() % symbols);
    const std::clock_t begin = std::clock();
    model.feed(word, labels);
    seconds += static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    for (std::size_t i = 0; i < n; ++i) {
      errors += labels[i] != truth(word[i]);
      steps += model.spelling().symbols[word[i]].size();
    }
    for (const float s : model.state().wkv(0))
      deviation = std::max(deviation, std::abs(s - std::round(s)));
  }
  std::printf("| %-28s | %4zu | %5zu | %9zu | %6zu | %9.1e | %5.2f | %8.0f | %8.2f |\n", name,
              model.model().shape().embed(), model.model().shape().vocab(), length, errors,
              double{deviation}, static_cast<double>(steps) / static_cast<double>(length),
              static_cast<double>(length) / seconds, static_cast<double>(steps) / seconds / 1e6);
}

void measure_s5(const char* name, const io::Checkpoint& checkpoint, DType type,
                std::size_t length) {
  std::vector<automata::Permutation> elements;
  for (std::size_t g = 0; g < 120; ++g) elements.push_back(automata::permutation(5, g));
  automata::Permutation product = elements[0];
  LoadOptions options;
  options.matrix_type = type;
  measure(name, checkpoint, options, length, [&](automata::Symbol g) {
    product = automata::then(product, elements[g]);
    return automata::rank_of(product);
  });
}

void measure_dfa(const char* name, const automata::Dfa& dfa, std::size_t length) {
  automata::StateId q = dfa.start();
  measure(name, automata::compile(dfa), {}, length, [&](automata::Symbol s) {
    q = dfa.next(q, s);
    return std::size_t{dfa.accepting(q)};
  });
}

automata::Dfa random_dfa(std::size_t states, std::size_t symbols, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<automata::StateId> next(states * symbols);
  for (auto& q : next) q = static_cast<automata::StateId>(random() % states);
  std::vector<bool> accepting(states);
  for (std::size_t q = 0; q < states; ++q) accepting[q] = random() % 2 == 0;
  return automata::Dfa(symbols, next, accepting);
}

}  // namespace

int main(int argc, char** argv) {
  bench::Options options(argc, argv, "automata_s5 [--length SYMBOLS]");
  const auto length = options.number<std::size_t>("length", 1'000'000);
  options.finish();
  std::puts(
      "| automaton                    |    C | vocab |   symbols | errors | deviation |"
      " steps | symbol/s | Mstep/s |");
  std::puts("|---|---|---|---|---|---|---|---|---|");
  const io::Checkpoint s5 = automata::compile_permutations(5);
  measure_s5("S5, f32 weights", s5, DType::f32, length);
  measure_s5("S5, f16 weights", s5, DType::f16, length);
  measure_s5("S5, bf16 weights", s5, DType::bf16, length);
  measure_dfa("parity", automata::Dfa(2, {0, 1, 1, 0}, {true, false}), length);
  measure_dfa("multiples of 3 in binary", automata::from_regex("(0|1(01*0)*1)+"), length);
  measure_dfa("contains abba", automata::from_regex("[\\s\\S]*abba[\\s\\S]*"), length);
  measure_dfa("random, 8 states", random_dfa(8, 3, 1), length);
  measure_dfa("random, 24 states", random_dfa(24, 3, 2), length / 10);
  measure_dfa("random, 100 states", random_dfa(100, 3, 3), length / 100);
}
