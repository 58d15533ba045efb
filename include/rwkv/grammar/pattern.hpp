// SPDX-License-Identifier: Apache-2.0
// Regular expressions as ECMAScript writes them (with the flag u), as far as they are regular.
#pragma once

#include <rwkv/grammar/byte_dfa.hpp>
#include <rwkv/grammar/characters.hpp>

#include <string>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

// Assertions read one or more of these, which no text holds. A text has several at each end,
// because several assertions may stand there: ^(^a|b)$.
inline constexpr unsigned char begin_mark = 0xf8;
inline constexpr unsigned char end_mark = 0xf9;
inline constexpr std::size_t marks = 8;

/// Limits of the automata of an expression.
inline constexpr automata::detail::Limits pattern_limits{60'000, 10'000};

/// Recursive descent. Throws Error: "<source>: position <i>: ...", (argument) for mistakes,
/// (unsupported) for what is not regular or not known.
class PatternParser {
 public:
  PatternParser(std::string_view pattern, const std::string& source, Expressions& out)
      : pattern_(pattern), source_(source), out_(out) {
    root_ = choice();
  }

  [[nodiscard]] std::size_t root() const noexcept { return root_; }
  /// Are there assertions?
  [[nodiscard]] bool anchored() const noexcept { return anchored_; }

 private:
  static constexpr std::size_t deepest = 250;  // groups within groups; bounds the recursion
  static constexpr std::size_t most_repetitions = 100'000;
  static constexpr std::size_t most_nodes = 2'000'000;

  template <class... Why>
  [[noreturn]] void refuse(std::size_t position, const Why&... why) const {
    fail_with(ErrorCategory::argument, source_, ": position ", position, ": ", why...);
  }
  template <class... Why>
  [[noreturn]] void lacks(std::size_t position, const Why&... why) const {
    fail_with(ErrorCategory::unsupported, source_, ": position ", position, ": ", why...);
  }

  [[nodiscard]] bool at_end() const noexcept { return at_ == pattern_.size(); }
  [[nodiscard]] bool next_is(char c) const noexcept { return !at_end() && pattern_[at_] == c; }
  bool take(char c) noexcept {
    const bool yes = next_is(c);
    if (yes) ++at_;
    return yes;
  }

  std::size_t choice() {
    std::vector<std::size_t> branches{sequence()};
    while (take('|')) branches.push_back(sequence());
    if (depth_ == 0 && next_is(')')) refuse(at_, "')' closes no group");
    return out_.choice(std::move(branches));
  }

  std::size_t sequence() {
    std::vector<std::size_t> parts;
    while (!at_end() && !next_is('|') && !next_is(')')) {
      parts.push_back(term());
      if (out_.size() > most_nodes) refuse(at_, "the expression is too large");
    }
    return out_.sequence(std::move(parts));
  }

  std::size_t term() {
    if (take('^')) return mark(begin_mark);
    if (take('$')) return mark(end_mark);
    const std::size_t inner = atom();
    std::size_t least = 1;
    std::size_t most = 1;
    if (take('*')) {
      least = 0, most = Expression::unbounded;
    } else if (take('+')) {
      most = Expression::unbounded;
    } else if (take('?')) {
      least = 0;
    } else if (!bounds(least, most)) {
      return inner;
    }
    take('?');  // lazy: the same texts
    if (next_is('*') || next_is('+') || next_is('?'))
      refuse(at_, "there is nothing to repeat before '", pattern_[at_], "'");
    return out_.repeat(inner, least, most);
  }

  std::size_t mark(unsigned char byte) {
    anchored_ = true;
    return out_.repeat(out_.byte(byte), 1, Expression::unbounded);
  }

  // {3}, {2,} or {2,5}; anything else in braces stands for itself.
  bool bounds(std::size_t& least, std::size_t& most) {
    const std::size_t position = at_;
    if (!take('{')) return false;
    const auto number = [&](std::size_t& value) {
      const std::size_t begin = at_;
      value = 0;
      for (; !at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; ++at_) {
        value = value * 10 + static_cast<std::size_t>(pattern_[at_] - '0');
        if (value > most_repetitions)
          refuse(position, "more than ", most_repetitions, " repetitions");
      }
      return at_ > begin;
    };
    bool good = number(least);
    most = least;
    if (good && take(',')) {
      if (next_is('}'))
        most = Expression::unbounded;
      else
        good = number(most);
    }
    if (!good || !take('}')) {
      at_ = position;
      return false;
    }
    if (most < least) refuse(position, "at least ", least, " but at most ", most, " times");
    return true;
  }

  std::size_t atom() {
    const std::size_t position = at_;
    const char c = pattern_[at_];
    switch (c) {
      case '(':
        ++at_;
        return group(position);
      case '[':
        ++at_;
        return out_.characters(set(position));
      case '.': {
        ++at_;
        Characters line_ends('\n', '\n');
        line_ends.add('\r', '\r');
        line_ends.add(0x2028, 0x2029);
        return out_.characters(line_ends.complement());
      }
      case '\\':
        ++at_;
        return out_.characters(escape(position, false).set);
      case '*':
      case '+':
      case '?':
        refuse(position, "there is nothing to repeat before '", c, "'");
      default: {
        const std::uint32_t character = next_character();
        return out_.characters({character, character});
      }
    }
  }

  std::uint32_t next_character() {
    const std::size_t position = at_;
    const auto lead = static_cast<unsigned char>(pattern_[at_++]);
    if (lead < 0x80) return lead;
    const unsigned more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc2 ? 1 : 0;
    std::uint32_t c = more == 3 ? lead & 7u : more == 2 ? lead & 15u : lead & 31u;
    bool good = more > 0 && lead < 0xf5;
    for (unsigned i = 0; good && i < more; ++i) {
      good = !at_end() && (static_cast<unsigned char>(pattern_[at_]) & 0xc0u) == 0x80u;
      if (good) c = c << 6 | (static_cast<unsigned char>(pattern_[at_++]) & 0x3fu);
    }
    if (!good || Utf8(c).size != more + 1 || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
      refuse(position, "the expression is not UTF-8");
    return c;
  }

  std::size_t group(std::size_t position) {
    if (take('?')) {
      const std::string_view rest = pattern_.substr(at_);
      if (rest.starts_with("=") || rest.starts_with("!") || rest.starts_with("<=") ||
          rest.starts_with("<!"))
        lacks(position, "assertions about what follows or precedes are not supported");
      if (take('<')) {
        while (!at_end() && !next_is('>')) ++at_;
        if (!take('>')) refuse(position, "the name of this group is never closed");
      } else if (!take(':')) {
        lacks(position, "groups are written ( ), (?: ) or (?<name> )");
      }
    }
    if (++depth_ > deepest) refuse(position, "groups are nested more than ", deepest, " deep");
    const std::size_t inner = choice();
    --depth_;
    if (!take(')')) refuse(position, "this group is never closed");
    return inner;
  }

  struct Escape {
    Characters set;
    std::uint32_t character;  // `several`: more than one
  };
  static constexpr std::uint32_t several = static_cast<std::uint32_t>(-1);
  static Escape one(std::uint32_t c) { return {{c, c}, c}; }
  static Escape many(Characters set, bool negated) {
    return {negated ? set.complement() : std::move(set), several};
  }

  Escape escape(std::size_t position, bool in_set) {
    if (at_end()) refuse(position, "a backslash ends the expression");
    const char c = pattern_[at_++];
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
        if (!at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9')
          refuse(position, "octal escapes are not supported");
        return one(0);
      case 'x':
        return one(hex(position, 2));
      case 'u':
        return one(unicode(position));
      case 'c': {
        const char letter = at_end() ? '\0' : pattern_[at_++];
        if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z')))
          refuse(position, "\\c needs a letter");
        return one(static_cast<std::uint32_t>(letter) % 32);
      }
      case 'd':
      case 'D':
        return many({'0', '9'}, c == 'D');
      case 'w':
      case 'W': {
        Characters word('0', '9');
        word.add('a', 'z');
        word.add('A', 'Z');
        word.add('_', '_');
        return many(word, c == 'W');
      }
      case 's':
      case 'S': {
        Characters space('\t', '\r');
        for (const std::uint32_t s :
             {0x20u, 0xa0u, 0x1680u, 0x2028u, 0x2029u, 0x202fu, 0x205fu, 0x3000u, 0xfeffu})
          space.add(s, s);
        space.add(0x2000, 0x200a);
        return many(space, c == 'S');
      }
      case 'b':
        if (in_set) return one('\b');
        [[fallthrough]];
      case 'B':
        lacks(position, "assertions about word boundaries are not supported");
      case 'p':
      case 'P':
        lacks(position, "Unicode properties (\\p) are not supported");
      case 'k':
        lacks(position, "references to groups are not supported");
      default:
        if (c >= '1' && c <= '9' && !in_set)
          lacks(position, "references to groups are not supported");
        if (static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9') ||
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
          refuse(position, "unknown escape");
        return one(static_cast<unsigned char>(c));
    }
  }

  std::uint32_t hex(std::size_t position, int digits) {
    std::uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = at_end() ? '\0' : pattern_[at_++];
      std::uint32_t d = 0;
      if (c >= '0' && c <= '9')
        d = static_cast<std::uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        d = static_cast<std::uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F')
        d = static_cast<std::uint32_t>(c - 'A' + 10);
      else
        refuse(position, "this escape needs ", digits, " hexadecimal digits");
      value = value << 4 | d;
    }
    return value;
  }

  std::uint32_t unicode(std::size_t position) {
    std::uint32_t c = 0;
    if (take('{')) {
      std::size_t digits = 0;
      for (; !at_end() && !next_is('}') && digits < 8; ++digits) c = c << 4 | hex(position, 1);
      if (digits == 0 || !take('}')) refuse(position, "\\u{ needs hexadecimal digits and }");
    } else {
      c = hex(position, 4);
      if (c >= 0xd800 && c <= 0xdbff && pattern_.substr(at_).starts_with("\\u")) {
        at_ += 2;
        const std::uint32_t low = hex(position, 4);
        if (low < 0xdc00 || low > 0xdfff) refuse(position, "half a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
      }
    }
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
      refuse(position, "no character has this number");
    return c;
  }

  /// [...], the opening bracket already taken.
  Characters set(std::size_t position) {
    const bool negated = take('^');
    Characters out;
    for (;;) {
      if (at_end()) refuse(position, "this set is never closed");
      if (take(']')) break;
      const std::size_t member_position = at_;
      const Escape member = set_member();
      out.add(member.set);
      const bool is_range = at_ + 1 < pattern_.size() && next_is('-') && pattern_[at_ + 1] != ']';
      if (!is_range) continue;
      ++at_;
      const Escape last = set_member();
      if (member.character == several || last.character == several) {  // a '-' like any other
        out.add('-', '-');
        out.add(last.set);
        continue;
      }
      if (member.character > last.character)
        refuse(member_position, "a range goes from one character up to another");
      out.add(member.character, last.character);
    }
    return negated ? out.complement() : out;
  }

  Escape set_member() {
    const std::size_t position = at_;
    if (take('\\')) return escape(position, true);
    return one(next_character());
  }

  std::string_view pattern_;
  const std::string& source_;
  Expressions& out_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
  bool anchored_ = false;
  std::size_t root_;
};

/// The minimal automaton of an expression; throws Error (argument) if it is too large.
[[nodiscard]] inline ByteDfa compiled(const Expressions& expressions, std::size_t root,
                                      const std::string& source) {
  std::string why;
  const auto dfa = automata::detail::minimal_dfa(expressions.nodes(), root, pattern_limits, why);
  if (!dfa) fail_with(ErrorCategory::argument, source, ": the expression ", why);
  return ByteDfa(*dfa);
}

/// Where the marks of one end of a text lead from q.
[[nodiscard]] inline std::uint32_t behind_marks(const ByteDfa& marked, std::uint32_t q,
                                                unsigned char mark) noexcept {
  for (std::size_t i = 0; i < marks && q != ByteDfa::dead; ++i) q = marked.next(q, mark);
  return q;
}

/// An automaton that reads begin marks first and end marks last, without them.
[[nodiscard]] inline ByteDfa without_marks(const ByteDfa& marked) {
  const std::uint32_t start = marked.empty() ? ByteDfa::dead : behind_marks(marked, 0, begin_mark);
  if (start == ByteDfa::dead) return {};
  return *explore(
      start,
      [&](std::uint32_t q, unsigned char byte) -> std::optional<std::uint32_t> {
        const std::uint32_t to = marked.next(q, byte);
        if (to == ByteDfa::dead || byte == begin_mark || byte == end_mark) return std::nullopt;
        return to;
      },
      [&](std::uint32_t q) {
        const std::uint32_t end = behind_marks(marked, q, end_mark);
        return end != ByteDfa::dead && marked.accepting(end) ? 0 : ByteDfa::not_accepting;
      },
      [&] {
        auto class_of = marked.class_of();
        return class_of;
      }(),
      marked.states());
}

/// The texts that `pattern` describes as a whole.
[[nodiscard]] inline ByteDfa whole_match(std::string_view pattern, const std::string& source) {
  Expressions e(Expressions::Form::utf8);
  const PatternParser parsed(pattern, source, e);
  if (!parsed.anchored()) return compiled(e, parsed.root(), source);
  // The marks that the pattern does not ask for, at the ends alone.
  constexpr std::size_t any_number = Expression::unbounded;
  const std::size_t root = e.sequence({e.repeat(e.byte(begin_mark), 0, any_number), parsed.root(),
                                       e.repeat(e.byte(end_mark), 0, any_number)});
  const ByteDfa searched = compiled(e, root, source);
  Expressions any(Expressions::Form::utf8);
  const std::size_t texts = any.repeat(any.characters(Characters::all()), 0, Expression::unbounded);
  const std::size_t marked = any.sequence({any.repeat(any.byte(begin_mark), marks, marks), texts,
                                           any.repeat(any.byte(end_mark), marks, marks)});
  const auto both = intersection(searched, compiled(any, marked, source), 20 * 10'000);
  if (!both) fail_with(ErrorCategory::argument, source, ": the expression is too large");
  return without_marks(*both);
}

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
