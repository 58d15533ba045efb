// SPDX-License-Identifier: Apache-2.0
// A deterministic finite automaton over symbols 0 ... k-1, to which an alphabet may map bytes.
#pragma once

#include <rwkv/core/error.hpp>

#include <array>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

using Symbol = std::uint16_t;
using StateId = std::uint32_t;

/// Which symbol a byte stands for; several bytes may share one.
class Alphabet {
 public:
  static constexpr Symbol none = (std::numeric_limits<Symbol>::max)();

  /// No byte stands for anything.
  Alphabet() { symbols_.fill(none); }
  explicit Alphabet(const std::array<Symbol, 256>& symbols) : symbols_(symbols) {}
  /// The i-th character of `letters` is symbol i. Throws Error (argument) if one occurs twice.
  explicit Alphabet(std::string_view letters) : Alphabet() {
    for (std::size_t i = 0; i < letters.size(); ++i) {
      Symbol& symbol = symbols_[static_cast<unsigned char>(letters[i])];
      if (symbol != none)
        fail_with(ErrorCategory::argument, "letter ", i, " of an alphabet is also letter ",
                  unsigned{symbol});
      symbol = static_cast<Symbol>(i);
    }
  }

  [[nodiscard]] Symbol operator[](unsigned char byte) const noexcept { return symbols_[byte]; }

  /// The symbol of `byte`; throws Error (argument) if it has none.
  [[nodiscard]] Symbol at(char byte) const {
    const auto index = static_cast<unsigned char>(byte);
    if (symbols_[index] == none)
      fail_with(ErrorCategory::argument, "byte ", unsigned{index},
                " stands for no symbol of the automaton");
    return symbols_[index];
  }

  friend bool operator==(const Alphabet&, const Alphabet&) = default;

 private:
  std::array<Symbol, 256> symbols_;
};

/// A complete DFA: every state has a successor for every symbol. A regular value type.
class Dfa {
 public:
  /// States 0 ... accepting.size() - 1; `next[q * symbols + s]` follows state q on symbol s.
  /// Throws Error (argument) if the sizes do not fit or a state or symbol is out of range.
  Dfa(std::size_t symbols, std::vector<StateId> next, std::vector<bool> accepting,
      StateId start = 0, const Alphabet& alphabet = {})
      : symbols_(symbols),
        next_(std::move(next)),
        accepting_(std::move(accepting)),
        start_(start),
        alphabet_(alphabet) {
    if (states() == 0 || start_ >= states() || symbols_ == 0 || symbols_ >= Alphabet::none ||
        next_.size() != states() * symbols_)
      fail_with(ErrorCategory::argument, "no automaton has ", states(), " states, ", symbols_,
                " symbols, ", next_.size(), " transitions and start state ", start_);
    for (std::size_t i = 0; i < next_.size(); ++i)
      if (next_[i] >= states())
        fail_with(ErrorCategory::argument, "state ", i / symbols_, " goes to state ", next_[i],
                  " of ", states(), " on symbol ", i % symbols_);
    for (unsigned byte = 0; byte < 256; ++byte) {
      const Symbol s = alphabet_[static_cast<unsigned char>(byte)];
      if (s != Alphabet::none && s >= symbols_)
        fail_with(ErrorCategory::argument, "byte ", byte, " stands for symbol ", unsigned{s},
                  " of ", symbols_);
    }
  }

  [[nodiscard]] std::size_t states() const noexcept { return accepting_.size(); }
  [[nodiscard]] std::size_t symbols() const noexcept { return symbols_; }
  [[nodiscard]] StateId start() const noexcept { return start_; }
  [[nodiscard]] StateId next(StateId state, std::size_t symbol) const noexcept {
    return next_[state * symbols_ + symbol];
  }
  [[nodiscard]] bool accepting(StateId state) const noexcept { return accepting_[state]; }
  [[nodiscard]] const Alphabet& alphabet() const noexcept { return alphabet_; }

  /// The state after `word`. Throws Error (argument) for a symbol that does not exist.
  [[nodiscard]] StateId run(std::span<const Symbol> word) const {
    require_states();
    StateId q = start_;
    for (const Symbol s : word) {
      if (s >= symbols_)
        fail_with(ErrorCategory::argument, "symbol ", unsigned{s}, " of an automaton with ",
                  symbols_, " symbols");
      q = next(q, s);
    }
    return q;
  }

  [[nodiscard]] bool accepts(std::span<const Symbol> word) const { return accepting_[run(word)]; }
  /// Throws Error (argument) for a byte that stands for no symbol.
  [[nodiscard]] bool accepts(std::string_view text) const {
    require_states();
    StateId q = start_;
    for (const char byte : text) q = next(q, alphabet_.at(byte));
    return accepting_[q];
  }

  /// Throws Error (argument) if this automaton was moved away.
  void require_states() const {
    if (states() == 0)
      fail(ErrorCategory::argument, "this automaton was moved away: it has no states");
  }

  friend bool operator==(const Dfa&, const Dfa&) = default;

 private:
  std::size_t symbols_;
  std::vector<StateId> next_;
  std::vector<bool> accepting_;
  StateId start_;
  Alphabet alphabet_;
};

namespace detail {

/// `dfa` after merging every state q into state_of[q], without unreachable states, numbered in
/// breadth-first order from the start.
[[nodiscard]] inline Dfa quotient(const Dfa& dfa, std::span<const StateId> state_of) {
  constexpr auto unseen = static_cast<StateId>(-1);
  std::vector<StateId> number(dfa.states(), unseen);
  std::vector<StateId> member;  // some state of each class, by its number
  const auto number_of = [&](StateId q) {
    StateId& n = number[state_of[q]];
    if (n == unseen) {
      n = static_cast<StateId>(member.size());
      member.push_back(q);
    }
    return n;
  };
  const StateId start = number_of(dfa.start());
  std::vector<StateId> next;
  std::vector<bool> accepting;
  for (std::size_t i = 0; i < member.size(); ++i) {
    const StateId q = member[i];
    for (std::size_t s = 0; s < dfa.symbols(); ++s) next.push_back(number_of(dfa.next(q, s)));
    accepting.push_back(dfa.accepting(q));
  }
  return Dfa(dfa.symbols(), std::move(next), std::move(accepting), start, dfa.alphabet());
}

/// A partition of 0 ... n-1 into sets, refined by marking elements and splitting sets into the
/// marked and the others.
class Partition {
 public:
  explicit Partition(std::size_t n) : set_of_(n, 0), place_(n), elements_(n) {
    for (std::size_t i = 0; i < n; ++i) place_[i] = elements_[i] = static_cast<StateId>(i);
    sets_.push_back({0, n, 0});
  }

  [[nodiscard]] std::size_t size() const noexcept { return sets_.size(); }
  [[nodiscard]] std::span<const StateId> set_of() const noexcept { return set_of_; }
  [[nodiscard]] std::span<const StateId> elements(StateId set) const noexcept {
    return std::span(elements_).subspan(sets_[set].first, sets_[set].past - sets_[set].first);
  }

  void mark(StateId element) {
    const StateId set = set_of_[element];
    Set& s = sets_[set];
    if (place_[element] < s.first + s.marked) return;
    if (s.marked == 0) touched_.push_back(set);
    exchange(place_[element], s.first + s.marked++);
  }

  /// Splits every set with marked and unmarked elements; the smaller half becomes a new set.
  /// Calls split(old, new).
  template <class F>
  void split(F&& on_split) {
    for (const StateId set : touched_) {
      const Set s = sets_[set];
      sets_[set].marked = 0;
      if (s.first + s.marked == s.past) continue;
      const bool marked_is_smaller = 2 * s.marked <= s.past - s.first;
      const std::size_t cut = s.first + s.marked;
      const Set smaller{marked_is_smaller ? s.first : cut, marked_is_smaller ? cut : s.past, 0};
      (marked_is_smaller ? sets_[set].first : sets_[set].past) = cut;
      const auto added = static_cast<StateId>(sets_.size());
      sets_.push_back(smaller);
      for (std::size_t i = smaller.first; i < smaller.past; ++i) set_of_[elements_[i]] = added;
      on_split(set, added);
    }
    touched_.clear();
  }

 private:
  struct Set {
    std::size_t first, past;  // its range of elements_
    std::size_t marked;       // of these, at the front
  };

  void exchange(std::size_t a, std::size_t b) noexcept {
    std::swap(elements_[a], elements_[b]);
    place_[elements_[a]] = static_cast<StateId>(a);
    place_[elements_[b]] = static_cast<StateId>(b);
  }

  std::vector<StateId> set_of_;
  std::vector<StateId> place_;  // of an element in elements_
  std::vector<StateId> elements_;
  std::vector<Set> sets_;
  std::vector<StateId> touched_;
};

}  // namespace detail

/// The smallest DFA of the same language, with states numbered in breadth-first order from the
/// start: DFAs over the same symbols accept the same language exactly if their minimal ones are
/// equal. Hopcroft's algorithm, O(k n log n).
[[nodiscard]] inline Dfa minimise(const Dfa& dfa) {
  const std::size_t n = dfa.states();
  const std::size_t k = dfa.symbols();

  // Predecessors of state q on symbol s: from[first[s * n + q]] ... from[first[s * n + q + 1]].
  std::vector<std::size_t> first(n * k + 1, 0);
  std::vector<StateId> from(n * k);
  for (StateId q = 0; q < n; ++q)
    for (std::size_t s = 0; s < k; ++s) ++first[s * n + dfa.next(q, s) + 1];
  for (std::size_t i = 0; i < n * k; ++i) first[i + 1] += first[i];
  auto fill = first;
  for (StateId q = 0; q < n; ++q)
    for (std::size_t s = 0; s < k; ++s) from[fill[s * n + dfa.next(q, s)]++] = q;

  // A set waits if its predecessors have yet to be told from the other states. When a set that
  // does not wait is split, the smaller half is enough; when it waits, both halves must.
  detail::Partition partition(n);
  std::vector<StateId> waiting{0};
  const auto enqueue = [&](StateId, StateId smaller) { waiting.push_back(smaller); };
  for (StateId q = 0; q < n; ++q)
    if (dfa.accepting(q)) partition.mark(q);
  partition.split(enqueue);
  std::vector<StateId> members;
  while (!waiting.empty()) {
    const StateId set = waiting.back();
    waiting.pop_back();
    const auto now = partition.elements(set);
    members.assign(now.begin(), now.end());
    for (std::size_t s = 0; s < k; ++s) {
      for (const StateId q : members)
        for (std::size_t i = first[s * n + q]; i < first[s * n + q + 1]; ++i)
          partition.mark(from[i]);
      partition.split(enqueue);
    }
  }
  return detail::quotient(dfa, partition.set_of());
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
