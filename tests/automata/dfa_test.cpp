// SPDX-License-Identifier: Apache-2.0
#include "support/numbers.hpp"
#include <rwkv/automata/dfa.hpp>

#include <doctest/doctest.h>

#include <map>
#include <set>

namespace {

using namespace rwkv::automata;

Dfa random_dfa(test::Random& random, std::size_t states, std::size_t symbols) {
  std::vector<StateId> next(states * symbols);
  for (StateId& q : next) q = static_cast<StateId>(random.below(states));
  std::vector<bool> accepting(states);
  for (std::size_t q = 0; q < states; ++q) accepting[q] = random.below(3) == 0;
  return Dfa(symbols, next, accepting, static_cast<StateId>(random.below(states)));
}

/// The DFA of the reversed language, by the subset construction.
Dfa reversed(const Dfa& dfa) {
  std::map<std::set<StateId>, StateId> number;
  std::vector<std::set<StateId>> subsets;
  const auto number_of = [&](const std::set<StateId>& subset) {
    const auto [at, added] = number.emplace(subset, static_cast<StateId>(number.size()));
    if (added) subsets.push_back(subset);
    return at->second;
  };
  std::set<StateId> finals;
  for (StateId q = 0; q < dfa.states(); ++q)
    if (dfa.accepting(q)) finals.insert(q);
  number_of(finals);
  std::vector<StateId> next;
  std::vector<bool> accepting;
  for (std::size_t i = 0; i < subsets.size(); ++i) {
    const auto subset = subsets[i];
    for (std::size_t s = 0; s < dfa.symbols(); ++s) {
      std::set<StateId> before;
      for (StateId q = 0; q < dfa.states(); ++q)
        if (subset.count(dfa.next(q, s))) before.insert(q);
      next.push_back(number_of(before));
    }
    accepting.push_back(subset.count(dfa.start()) > 0);
  }
  return Dfa(dfa.symbols(), next, accepting, 0, dfa.alphabet());
}

template <class F>
rwkv::ErrorCategory category_of(F&& f) {
  try {
    f();
  } catch (const rwkv::Error& e) {
    return e.category();
  }
  FAIL("no error");
  return rwkv::ErrorCategory::io;
}

}  // namespace

TEST_CASE("a DFA runs over symbols and over bytes") {
  // Even number of b, over {a, b}.
  const Dfa dfa(2, {0, 1, 1, 0}, {true, false}, 0, Alphabet("ab"));
  CHECK(dfa.accepts(""));
  CHECK(dfa.accepts("abba"));
  CHECK_FALSE(dfa.accepts("ab"));
  const std::vector<Symbol> word{1, 0, 1, 1};
  CHECK(dfa.run(word) == 1);
  CHECK_FALSE(dfa.accepts(word));
  CHECK(category_of([&] { (void)dfa.accepts("abc"); }) == rwkv::ErrorCategory::argument);
}

TEST_CASE("automata that do not fit together are refused") {
  using Next = std::vector<StateId>;
  using States = std::vector<bool>;
  const auto refused = [](auto&&... arguments) {
    return category_of([&] { Dfa(arguments...); }) == rwkv::ErrorCategory::argument;
  };
  CHECK(refused(1u, Next{}, States{}));
  CHECK(refused(0u, Next{}, States{true}));
  CHECK(refused(2u, Next{0}, States{true}));
  CHECK(refused(1u, Next{1}, States{true}));
  CHECK(refused(1u, Next{0}, States{true}, StateId{1}));
  CHECK(refused(1u, Next{0}, States{true}, StateId{0}, Alphabet("ab")));
  CHECK(category_of([] { Alphabet("aba"); }) == rwkv::ErrorCategory::argument);
}

TEST_CASE("minimising agrees with reversing twice, keeps the language, and is canonical") {
  test::Random random(2);
  for (std::size_t trial = 0; trial < 400; ++trial) {
    const Dfa dfa = random_dfa(random, 1 + random.below(8), 1 + random.below(3));
    const Dfa minimal = minimise(dfa);
    // Brzozowski: reversing a DFA without unreachable states gives a minimal one.
    CHECK(minimise(reversed(reversed(dfa))) == minimal);
    CHECK(reversed(reversed(dfa)).states() == minimal.states());
    CHECK(minimise(minimal) == minimal);
    CHECK(minimal.start() == 0);
    for (std::size_t w = 0; w < 30; ++w) {
      std::vector<Symbol> word(random.below(12));
      for (Symbol& s : word) s = static_cast<Symbol>(random.below(dfa.symbols()));
      CHECK(minimal.accepts(word) == dfa.accepts(word));
    }
  }
}

TEST_CASE("minimising finds the size that is known") {
  // Words whose number of symbols is divisible by 7, counted modulo 7 * 60.
  const std::size_t n = 420;
  std::vector<StateId> next(n);
  std::vector<bool> accepting(n);
  for (std::size_t q = 0; q < n; ++q) {
    next[q] = static_cast<StateId>((q + 1) % n);
    accepting[q] = q % 7 == 0;
  }
  CHECK(minimise(Dfa(1, next, accepting)).states() == 7);
  // Nothing reachable accepts.
  CHECK(minimise(Dfa(1, {1, 0, 2}, {false, false, true})).states() == 1);
}
