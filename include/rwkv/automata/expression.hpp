// SPDX-License-Identifier: Apache-2.0
// Regular expressions as trees -> DFAs over bytes: Thompson's construction and that of subsets.
#pragma once

#include <rwkv/automata/dfa.hpp>

#include <algorithm>
#include <bitset>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA::detail {

using ByteSet = std::bitset<256>;

/// An expression as a tree; children by index.
struct Expression {
  enum class Kind : std::uint8_t { bytes, sequence, choice, repetition };
  static constexpr std::size_t unbounded = static_cast<std::size_t>(-1);

  Kind kind = Kind::sequence;
  ByteSet bytes{};                      // bytes: one of these
  std::vector<std::size_t> children{};  // an empty sequence is the empty text
  std::size_t least = 1, most = 1;      // repetition of the one child
};

/// Thompson's construction: a state either consumes a byte of a set, or splits without consuming,
/// or is the final one.
class Nfa {
 public:
  using Id = std::uint32_t;
  static constexpr Id none = static_cast<Id>(-1);

  struct Node {
    std::size_t bytes;  // index into sets(), or no_bytes
    Id out[2];
  };
  static constexpr std::size_t no_bytes = static_cast<std::size_t>(-1);

  Nfa(const std::vector<Expression>& expressions, std::size_t root, std::size_t most_states)
      : expressions_(expressions), most_states_(most_states) {
    final_ = add({no_bytes, {none, none}});
    start_ = build(root, final_);
  }

  /// It would have more states than it may; of no use then.
  [[nodiscard]] bool too_large() const noexcept { return too_large_; }

  [[nodiscard]] Id start() const noexcept { return start_; }
  [[nodiscard]] Id final() const noexcept { return final_; }
  [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }
  [[nodiscard]] const Node& operator[](Id id) const noexcept { return nodes_[id]; }
  [[nodiscard]] const std::vector<ByteSet>& sets() const noexcept { return sets_; }

 private:
  Id add(Node node) {
    if (nodes_.size() == most_states_) {
      too_large_ = true;
      return 0;
    }
    nodes_.push_back(node);
    return static_cast<Id>(nodes_.size() - 1);
  }

  /// The first state of a part that reads expression `index` and goes on at `after`.
  Id build(std::size_t index, Id after) {
    const Expression& e = expressions_[index];
    if (too_large_) return after;
    switch (e.kind) {
      case Expression::Kind::bytes:
        return add({set_index(e.bytes), {after, none}});
      case Expression::Kind::sequence:
        for (auto child = e.children.rbegin(); child != e.children.rend(); ++child)
          after = build(*child, after);
        return after;
      case Expression::Kind::choice: {
        Id start = build(e.children.back(), after);
        for (std::size_t i = e.children.size() - 1; i-- > 0;)
          start = add({no_bytes, {build(e.children[i], after), start}});
        return start;
      }
      default:
        return build_repetition(e, after);
    }
  }

  Id build_repetition(const Expression& e, Id after) {
    const std::size_t child = e.children[0];
    if (e.most == Expression::unbounded) {
      const Id loop = add({no_bytes, {none, after}});
      const Id body = build(child, loop);
      nodes_[loop].out[0] = body;
      after = loop;
    } else {
      const Id end = after;  // each optional copy may be skipped, with all that follow
      for (std::size_t i = e.least; i < e.most && !too_large_; ++i)
        after = add({no_bytes, {build(child, after), end}});
    }
    for (std::size_t i = 0; i < e.least; ++i) {
      const Id first = build(child, after);
      if (first == after) break;  // the child is the empty text
      after = first;
    }
    return after;
  }

  std::size_t set_index(const ByteSet& bytes) {
    const auto [found, added] = numbers_.emplace(bytes, sets_.size());
    if (added) sets_.push_back(bytes);
    return found->second;
  }

  const std::vector<Expression>& expressions_;
  std::size_t most_states_;
  std::vector<Node> nodes_;
  std::vector<ByteSet> sets_;
  std::unordered_map<ByteSet, std::size_t> numbers_;  // of the sets
  bool too_large_ = false;
  Id start_, final_;
};

/// Bytes that no set tells apart become one symbol; numbered by their first byte.
[[nodiscard]] inline std::array<Symbol, 256> byte_classes(const std::vector<ByteSet>& sets) {
  std::array<Symbol, 256> symbols{};
  constexpr Symbol unseen = Alphabet::none;
  std::vector<std::array<Symbol, 2>> refined;
  for (const ByteSet& set : sets) {
    refined.assign(256, {unseen, unseen});
    Symbol count = 0;
    for (std::size_t b = 0; b < 256; ++b) {
      Symbol& symbol = refined[symbols[b]][set.test(b)];
      if (symbol == unseen) symbol = count++;
      symbols[b] = symbol;
    }
  }
  return symbols;
}

/// The subset construction.
class Determiniser {
 public:
  Determiniser(const Nfa& nfa, std::size_t most_states)
      : nfa_(nfa), most_states_(most_states), seen_(nfa.size(), 0) {}

  /// Nothing if it would have more states than it may, or take too long to find.
  std::optional<Dfa> run() {
    const auto symbol_of = byte_classes(nfa_.sets());
    std::vector<unsigned char> example;  // a byte of each symbol
    for (unsigned b = 0; b < 256; ++b)
      if (symbol_of[b] == example.size()) example.push_back(static_cast<unsigned char>(b));

    std::vector<StateId> next;
    number_of({nfa_.start()});
    std::size_t work = 0;
    for (std::size_t i = 0; i < subsets_.size(); ++i)
      for (const unsigned char byte : example) {
        if (subsets_.size() > most_states_ || work > most_work) return std::nullopt;
        work += subsets_[i]->size() + 1;
        std::vector<Nfa::Id> reached;
        for (const Nfa::Id id : *subsets_[i])
          if (const auto& node = nfa_[id];
              node.bytes != Nfa::no_bytes && nfa_.sets()[node.bytes].test(byte))
            reached.push_back(node.out[0]);
        next.push_back(number_of(std::move(reached)));
      }
    std::vector<bool> accepting;
    for (const auto* subset : subsets_)
      accepting.push_back(std::binary_search(subset->begin(), subset->end(), nfa_.final()));
    return Dfa(example.size(), std::move(next), std::move(accepting), 0, Alphabet(symbol_of));
  }

 private:
  using Subset = std::vector<Nfa::Id>;
  static constexpr std::size_t most_work = 50'000'000;  // NFA states visited: about a second

  /// The number of the subset reached from `stack` without consuming anything. Only states that
  /// consume, and the final one, tell subsets apart.
  StateId number_of(Subset stack) {
    ++round_;
    Subset subset;
    while (!stack.empty()) {
      const Nfa::Id id = stack.back();
      stack.pop_back();
      if (seen_[id] == round_) continue;
      seen_[id] = round_;
      const auto& node = nfa_[id];
      if (node.bytes != Nfa::no_bytes || id == nfa_.final())
        subset.push_back(id);
      else
        stack.insert(stack.end(), std::begin(node.out), std::end(node.out));
    }
    std::sort(subset.begin(), subset.end());
    const auto [found, added] =
        numbers_.emplace(std::move(subset), static_cast<StateId>(numbers_.size()));
    if (added) subsets_.push_back(&found->first);
    return found->second;
  }

  const Nfa& nfa_;
  std::size_t most_states_;
  std::vector<std::size_t> seen_;  // the last round that met an NFA state
  std::size_t round_ = 0;
  std::map<Subset, StateId> numbers_;
  std::vector<const Subset*> subsets_;
};

/// `dfa` with symbols that no state tells apart made one.
[[nodiscard]] inline Dfa merge_symbols(const Dfa& dfa) {
  std::map<std::vector<StateId>, Symbol> columns;
  std::vector<Symbol> merged(dfa.symbols());
  std::vector<std::size_t> example;
  for (std::size_t s = 0; s < dfa.symbols(); ++s) {
    std::vector<StateId> column;
    for (StateId q = 0; q < dfa.states(); ++q) column.push_back(dfa.next(q, s));
    const auto [found, added] =
        columns.emplace(std::move(column), static_cast<Symbol>(columns.size()));
    merged[s] = found->second;
    if (added) example.push_back(s);
  }
  std::vector<StateId> next;
  std::vector<bool> accepting;
  for (StateId q = 0; q < dfa.states(); ++q) {
    for (const std::size_t s : example) next.push_back(dfa.next(q, s));
    accepting.push_back(dfa.accepting(q));
  }
  std::array<Symbol, 256> symbols{};
  for (std::size_t b = 0; b < 256; ++b)
    symbols[b] = merged[dfa.alphabet()[static_cast<unsigned char>(b)]];
  return Dfa(example.size(), std::move(next), std::move(accepting), dfa.start(), Alphabet(symbols));
}

/// How large the automata on the way to a minimal DFA may grow.
struct Limits {
  std::size_t nfa_states;  ///< bounded repetitions are written out
  std::size_t dfa_states;  ///< before minimisation
};

/// The minimal DFA of an expression; or none, and `why` says what it exceeds.
[[nodiscard]] inline std::optional<Dfa> minimal_dfa(const std::vector<Expression>& expressions,
                                                    std::size_t root, const Limits& limits,
                                                    std::string& why) {
  const Nfa nfa(expressions, root, limits.nfa_states);
  if (nfa.too_large()) {
    why = "is too large: more than " + std::to_string(limits.nfa_states) + " NFA states";
    return std::nullopt;
  }
  const auto dfa = Determiniser(nfa, limits.dfa_states).run();
  if (!dfa) {
    why = "needs more than " + std::to_string(limits.dfa_states) + " DFA states";
    return std::nullopt;
  }
  return merge_symbols(minimise(*dfa));
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA::detail
