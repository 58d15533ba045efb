// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/regex.hpp.
#pragma once

#include <rwkv/automata/expression.hpp>
#include <rwkv/automata/regex.hpp>

#include <optional>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

namespace detail {

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

}  // namespace detail

RWKV_FUNCTION Dfa from_regex(std::string_view pattern, const RegexLimits& limits) {
  const detail::RegexParser parsed(pattern);
  std::string why;
  auto dfa = detail::minimal_dfa(parsed.expressions(), parsed.root(),
                                 {limits.nfa_states, limits.dfa_states}, why);
  if (!dfa) fail_with(ErrorCategory::argument, "the regular expression ", why);
  return *std::move(dfa);
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
