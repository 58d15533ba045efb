// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/regex.hpp.
#pragma once

#include <rwkv/automata/regex.hpp>

#include <algorithm>
#include <bitset>
#include <map>
#include <optional>
#include <string>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

namespace detail {

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

/// Recursive descent. Throws Error (argument) that says where the pattern goes wrong.
class RegexParser {
 public:
  explicit RegexParser(std::string_view pattern) : pattern_(pattern) { root_ = choice(); }

  [[nodiscard]] const std::vector<Expression>& expressions() const noexcept { return nodes_; }
  [[nodiscard]] std::size_t root() const noexcept { return root_; }

 private:
  using Kind = Expression::Kind;
  static constexpr std::size_t deepest = 250;  // groups within groups; bounds the recursion
  static constexpr std::size_t most_repetitions = 1000;

  template <class... Why>
  [[noreturn]] void refuse(std::size_t position, const Why&... why) const {
    fail_with(ErrorCategory::argument, "regular expression, position ", position, ": ", why...);
  }

  [[nodiscard]] bool at_end() const noexcept { return at_ == pattern_.size(); }
  [[nodiscard]] bool next_is(char c) const noexcept { return !at_end() && pattern_[at_] == c; }
  bool take(char c) noexcept {
    const bool yes = next_is(c);
    if (yes) ++at_;
    return yes;
  }

  std::size_t add(Expression e) {
    nodes_.push_back(std::move(e));
    return nodes_.size() - 1;
  }
  std::size_t add_bytes(const ByteSet& bytes) { return add({.kind = Kind::bytes, .bytes = bytes}); }
  static ByteSet just(unsigned char byte) { return ByteSet().set(byte); }

  std::size_t choice() {
    std::vector<std::size_t> branches{sequence()};
    while (take('|')) branches.push_back(sequence());
    if (depth_ == 0 && next_is(')')) refuse(at_, "')' closes no group");
    if (branches.size() == 1) return branches[0];
    return add({.kind = Kind::choice, .children = std::move(branches)});
  }

  std::size_t sequence() {
    std::vector<std::size_t> parts;
    while (!at_end() && !next_is('|') && !next_is(')')) parts.push_back(repetition());
    return add({.kind = Kind::sequence, .children = std::move(parts)});
  }

  std::size_t repetition() {
    const std::size_t inner = atom();
    if (at_end()) return inner;
    Expression repeated{.kind = Kind::repetition, .children = {inner}};
    const std::size_t position = at_;
    if (take('*')) {
      repeated.least = 0, repeated.most = Expression::unbounded;
    } else if (take('+')) {
      repeated.least = 1, repeated.most = Expression::unbounded;
    } else if (take('?')) {
      repeated.least = 0, repeated.most = 1;
    } else if (take('{')) {
      bounds(position, repeated);
    } else {
      return inner;
    }
    if (!at_end() && (next_is('*') || next_is('+') || next_is('?') || next_is('{')))
      refuse(at_, "a repetition of a repetition needs a group, as in (a*)?");
    return add(std::move(repeated));
  }

  void bounds(std::size_t position, Expression& repeated) {
    repeated.least = number(position);
    repeated.most = repeated.least;
    if (take(',')) repeated.most = next_is('}') ? Expression::unbounded : number(position);
    if (!take('}')) refuse(position, "a repetition is written {3}, {2,} or {2,5}");
    if (repeated.most < repeated.least)
      refuse(position, "at least ", repeated.least, " but at most ", repeated.most, " times");
  }

  std::size_t number(std::size_t position) {
    std::size_t value = 0;
    const std::size_t begin = at_;
    for (; !at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; ++at_) {
      value = value * 10 + static_cast<std::size_t>(pattern_[at_] - '0');
      if (value > most_repetitions)
        refuse(position, "more than ", most_repetitions, " repetitions");
    }
    if (at_ == begin) refuse(position, "a repetition is written {3}, {2,} or {2,5}");
    return value;
  }

  std::size_t atom() {
    const std::size_t position = at_;
    const char c = pattern_[at_++];
    switch (c) {
      case '(':
        return group(position);
      case '[':
        return add_bytes(set(position));
      case '.':
        return add_bytes(~just('\n'));
      case '\\':
        return add_bytes(escape(position).bytes);
      case '*':
      case '+':
      case '?':
      case '{':
        refuse(position, "there is nothing to repeat before '", c, "'");
      case '^':
      case '$':
        refuse(position, "there are no anchors, the whole text is always meant; write \\", c,
               " for the character itself");
      default:
        return character(static_cast<unsigned char>(c));
    }
  }

  std::size_t group(std::size_t position) {
    if (take('?') && !take(':')) refuse(position, "groups are written ( ) or (?: )");
    if (++depth_ > deepest) refuse(position, "groups are nested more than ", deepest, " deep");
    const std::size_t inner = choice();
    --depth_;
    if (!take(')')) refuse(position, "this group is never closed");
    return inner;
  }

  /// One byte, or the whole of a UTF-8 character, so that a repetition applies to all of it.
  std::size_t character(unsigned char lead) {
    std::vector<std::size_t> bytes{add_bytes(just(lead))};
    if (lead >= 0xc0)
      for (; !at_end() && (static_cast<unsigned char>(pattern_[at_]) & 0xc0u) == 0x80u; ++at_)
        bytes.push_back(add_bytes(just(static_cast<unsigned char>(pattern_[at_]))));
    if (bytes.size() == 1) return bytes[0];
    return add({.kind = Kind::sequence, .children = std::move(bytes)});
  }

  /// What follows a backslash, and its value when it is one byte.
  struct Escape {
    ByteSet bytes;
    std::optional<unsigned char> byte;
  };

  Escape escape(std::size_t position) {
    if (at_end()) refuse(position, "a backslash ends the pattern");
    const char c = pattern_[at_++];
    const auto one = [](unsigned char byte) { return Escape{just(byte), byte}; };
    const auto many = [](const ByteSet& bytes) { return Escape{bytes, std::nullopt}; };
    switch (c) {
      case 'n':
        return one('\n');
      case 't':
        return one('\t');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        return one('\0');
      case 'x':
        return one(static_cast<unsigned char>(16 * hex_digit(position) + hex_digit(position)));
      case 'd':
        return many(digits());
      case 'D':
        return many(~digits());
      case 'w':
        return many(word());
      case 'W':
        return many(~word());
      case 's':
        return many(space());
      case 'S':
        return many(~space());
      default:
        if ((word() | ~ascii()).test(static_cast<unsigned char>(c)))
          refuse(position,
                 "unknown escape; known are \\n \\t \\r \\f \\v \\0 \\xHH \\d \\D \\w \\W "
                 "\\s \\S and punctuation");
        return one(static_cast<unsigned char>(c));
    }
  }

  unsigned hex_digit(std::size_t position) {
    const char c = at_end() ? '\0' : pattern_[at_];
    ++at_;
    if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
    if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
    refuse(position, "\\x needs two hexadecimal digits");
  }

  static ByteSet range(unsigned char first, unsigned char last) {
    ByteSet bytes;
    for (unsigned b = first; b <= last; ++b) bytes.set(b);
    return bytes;
  }
  static ByteSet ascii() { return range(0, 127); }
  static ByteSet digits() { return range('0', '9'); }
  static ByteSet word() { return digits() | range('a', 'z') | range('A', 'Z') | just('_'); }
  static ByteSet space() { return range('\t', '\r') | just(' '); }

  /// [...], the opening bracket already taken. A first ']' is a member, as is a '-' at either end.
  ByteSet set(std::size_t position) {
    const bool negated = take('^');
    ByteSet bytes;
    for (bool first = true;; first = false) {
      if (at_end()) refuse(position, "this set is never closed");
      if (!first && take(']')) break;
      const std::size_t member_position = at_;
      if (pattern_.substr(at_).starts_with("[:"))
        refuse(at_, "there are no named sets; write a '[' in a set as \\[");
      const Escape member = set_member();
      bytes |= member.bytes;
      const bool is_range = at_ + 1 < pattern_.size() && next_is('-') && pattern_[at_ + 1] != ']';
      if (!is_range) continue;
      ++at_;
      const Escape last = set_member();
      if (!member.byte || !last.byte || *member.byte > *last.byte)
        refuse(member_position, "a range goes from one byte up to another");
      bytes |= range(*member.byte, *last.byte);
    }
    return negated ? ~bytes : bytes;
  }

  Escape set_member() {
    const std::size_t position = at_;
    const char c = pattern_[at_++];
    if (c == '\\') return escape(position);
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80)
      refuse(position,
             "sets hold single bytes; write one as \\xHH, or a character of several "
             "bytes as a choice (a|b)");
    return {just(byte), byte};
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
  std::vector<Expression> nodes_;
  std::size_t root_;
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

  Nfa(const RegexParser& parsed, std::size_t most_states)
      : expressions_(parsed.expressions()), most_states_(most_states) {
    final_ = add({no_bytes, {none, none}});
    start_ = build(parsed.root(), final_);
  }

  [[nodiscard]] Id start() const noexcept { return start_; }
  [[nodiscard]] Id final() const noexcept { return final_; }
  [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }
  [[nodiscard]] const Node& operator[](Id id) const noexcept { return nodes_[id]; }
  [[nodiscard]] const std::vector<ByteSet>& sets() const noexcept { return sets_; }

 private:
  Id add(Node node) {
    if (nodes_.size() == most_states_)
      fail_with(ErrorCategory::argument, "the regular expression is too large: more than ",
                most_states_, " NFA states");
    nodes_.push_back(node);
    return static_cast<Id>(nodes_.size() - 1);
  }

  /// The first state of a part that reads expression `index` and goes on at `after`.
  Id build(std::size_t index, Id after) {
    const Expression& e = expressions_[index];
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
      for (std::size_t i = e.least; i < e.most; ++i)
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
    std::size_t i = 0;
    while (i < sets_.size() && sets_[i] != bytes) ++i;
    if (i == sets_.size()) sets_.push_back(bytes);
    return i;
  }

  const std::vector<Expression>& expressions_;
  std::size_t most_states_;
  std::vector<Node> nodes_;
  std::vector<ByteSet> sets_;
  Id start_, final_;
};

/// Bytes that no set tells apart become one symbol; numbered by their first byte.
[[nodiscard]] inline std::array<Symbol, 256> byte_classes(const std::vector<ByteSet>& sets) {
  std::array<Symbol, 256> symbols{};
  for (const ByteSet& set : sets) {
    std::map<std::pair<Symbol, bool>, Symbol> refined;
    for (std::size_t b = 0; b < 256; ++b)
      symbols[b] =
          refined.emplace(std::pair(symbols[b], set.test(b)), static_cast<Symbol>(refined.size()))
              .first->second;
  }
  return symbols;
}

/// The subset construction.
class Determiniser {
 public:
  Determiniser(const Nfa& nfa, std::size_t most_states)
      : nfa_(nfa), most_states_(most_states), seen_(nfa.size(), 0) {}

  Dfa run() {
    const auto symbol_of = byte_classes(nfa_.sets());
    std::vector<unsigned char> example;  // a byte of each symbol
    for (unsigned b = 0; b < 256; ++b)
      if (symbol_of[b] == example.size()) example.push_back(static_cast<unsigned char>(b));

    std::vector<StateId> next;
    number_of({nfa_.start()});
    for (std::size_t i = 0; i < subsets_.size(); ++i)
      for (const unsigned char byte : example) {
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
    if (added) {
      if (subsets_.size() == most_states_)
        fail_with(ErrorCategory::argument, "the regular expression needs more than ", most_states_,
                  " DFA states");
      subsets_.push_back(&found->first);
    }
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

}  // namespace detail

RWKV_FUNCTION Dfa from_regex(std::string_view pattern, const RegexLimits& limits) {
  const detail::RegexParser parsed(pattern);
  const detail::Nfa nfa(parsed, limits.nfa_states);
  return detail::merge_symbols(minimise(detail::Determiniser(nfa, limits.dfa_states).run()));
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
