// SPDX-License-Identifier: Apache-2.0
// Patterns against a matcher that works on sets of positions, against std::regex, and against what
// the syntax promises byte by byte.
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/automata/regex.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <regex>
#include <set>

namespace {

using namespace rwkv::automata;

using Positions = std::set<std::size_t>;
using Matcher = std::function<Positions(const std::string&, const Positions&)>;

/// A pattern, and the positions of a text that it reaches from given ones.
struct Expression {
  std::string pattern;
  Matcher reach;
};

Positions join(Positions a, const Positions& b) {
  a.insert(b.begin(), b.end());
  return a;
}

Expression byte_of(const std::string& pattern, const std::string& bytes) {
  return {pattern, [bytes](const std::string& text, const Positions& from) {
            Positions to;
            for (const std::size_t i : from)
              if (i < text.size() && bytes.find(text[i]) != std::string::npos) to.insert(i + 1);
            return to;
          }};
}

Expression repeated(const Expression& e, std::size_t least, std::size_t most,
                    const std::string& suffix) {
  return {"(" + e.pattern + ")" + suffix,
          [inner = e.reach, least, most](const std::string& text, const Positions& from) {
            Positions now = from;
            for (std::size_t i = 0; i < least; ++i) now = inner(text, now);
            // Beyond text.size() optional rounds nothing new can be reached.
            for (std::size_t i = least; i < most && i <= least + text.size(); ++i)
              now = join(now, inner(text, now));
            return now;
          }};
}

/// Over a, b, c.
Expression random_expression(test::Random& random, std::size_t depth) {
  if (depth == 0) {
    switch (random.below(6)) {
      case 0:
        return byte_of(".", "abc");
      case 1:
        return byte_of("[ab]", "ab");
      case 2:
        return byte_of("[^a]", "bc");
      default: {
        const std::string letter(1, static_cast<char>('a' + random.below(3)));
        return byte_of(letter, letter);
      }
    }
  }
  const auto part = [&] { return random_expression(random, random.below(depth)); };
  switch (random.below(7)) {
    case 0:
    case 1: {
      const Expression a = part(), b = part();
      return {a.pattern + b.pattern, [a, b](const std::string& text, const Positions& from) {
                return b.reach(text, a.reach(text, from));
              }};
    }
    case 2: {
      const Expression a = part(), b = part();
      return {"(?:" + a.pattern + "|" + b.pattern + ")",
              [a, b](const std::string& text, const Positions& from) {
                return join(a.reach(text, from), b.reach(text, from));
              }};
    }
    case 3:
      return repeated(part(), 0, 1000, "*");
    case 4:
      return repeated(part(), 1, 1000, "+");
    case 5:
      return repeated(part(), 0, 1, "?");
    default: {
      const std::size_t least = random.below(3);
      const std::size_t most = least + random.below(3);
      std::string written = "{";
      written += std::to_string(least);
      if (least != most) written.append(",").append(std::to_string(most));
      return repeated(part(), least, most, written + "}");
    }
  }
}

/// Calls f with every text over a, b, c of up to `longest` letters.
template <class F>
void for_each_text(std::size_t longest, F&& f) {
  std::vector<std::string> texts{""};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    f(texts[i]);
    if (texts[i].size() == longest) continue;
    for (const char c : {'a', 'b', 'c'}) texts.push_back(texts[i] + c);
  }
}

/// The bytes that `pattern`, which describes single bytes, accepts.
std::string bytes_of(std::string_view pattern) {
  const Dfa dfa = from_regex(pattern);
  std::string bytes;
  for (unsigned b = 0; b < 256; ++b)
    if (dfa.accepts(std::string(1, static_cast<char>(b)))) bytes += static_cast<char>(b);
  return bytes;
}

std::string range(unsigned first, unsigned last) {
  std::string bytes;
  for (unsigned b = first; b <= last; ++b) bytes += static_cast<char>(b);
  return bytes;
}

std::string complaint(std::string_view pattern, const RegexLimits& limits = {}) {
  try {
    (void)from_regex(pattern, limits);
  } catch (const rwkv::Error& e) {
    CHECK(e.category() == rwkv::ErrorCategory::argument);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("random expressions match what a matcher on positions says") {
  test::Random random(3);
  std::size_t accepted = 0;
  for (std::size_t trial = 0; trial < (test::sanitized ? 200 : 600); ++trial) {
    const Expression e = random_expression(random, 1 + random.below(5));
    CAPTURE(e.pattern);
    const Dfa dfa = from_regex(e.pattern);
    REQUIRE(minimise(dfa) == dfa);
    for_each_text(5, [&](const std::string& text) {
      const bool want = e.reach(text, {0}).count(text.size()) > 0;
      accepted += want;
      if (dfa.accepts(text) != want) FAIL_CHECK(text);
    });
  }
  CHECK(accepted > (test::sanitized ? 3000 : 10000));  // both answers occur, often
}

TEST_CASE("random expressions match what std::regex says") {
  test::Random random(4);
  for (std::size_t trial = 0; trial < 60; ++trial) {
    const Expression e = random_expression(random, 1 + random.below(3));
    CAPTURE(e.pattern);
    const Dfa dfa = from_regex(e.pattern);
    const std::regex other(e.pattern);
    for_each_text(4, [&](const std::string& text) {
      if (dfa.accepts(text) != std::regex_match(text, other)) FAIL_CHECK(text);
    });
  }
}

TEST_CASE("atoms stand for the bytes they say") {
  CHECK(bytes_of("a") == "a");
  CHECK(bytes_of("\\x41") == "A");
  CHECK(bytes_of("\\xfF") == "\xff");
  CHECK(bytes_of("\\0") == std::string(1, '\0'));
  CHECK(bytes_of("\\n|\\t|\\r|\\f|\\v") == "\t\n\v\f\r");
  CHECK(bytes_of(".") == range(0, 9) + range(11, 255));
  CHECK(bytes_of("\\d") == range('0', '9'));
  CHECK(bytes_of("\\D") == range(0, '0' - 1) + range('9' + 1, 255));
  CHECK(bytes_of("\\w") == range('0', '9') + range('A', 'Z') + "_" + range('a', 'z'));
  CHECK(bytes_of("\\s") == "\t\n\v\f\r ");
  CHECK(bytes_of("[\\s\\S]") == range(0, 255));
  CHECK(bytes_of("\\w|\\W") == range(0, 255));
  for (const char c : std::string(".*+?|()[]{}^$\\/-\"' ")) {
    CHECK(bytes_of(std::string("\\") + c) == std::string(1, c));
    CHECK(bytes_of(std::string("[\\") + c + "]") == std::string(1, c));
  }
  CHECK(bytes_of("]") == "]");
  CHECK(bytes_of("}") == "}");
}

TEST_CASE("sets stand for the bytes they say") {
  CHECK(bytes_of("[abc]") == "abc");
  CHECK(bytes_of("[a-cx-z]") == "abcxyz");
  CHECK(bytes_of("[^a-z]") == range(0, 'a' - 1) + range('z' + 1, 255));
  CHECK(bytes_of("[]a]") == "]a");
  CHECK(bytes_of("[^]]") == range(0, ']' - 1) + range(']' + 1, 255));
  CHECK(bytes_of("[-a]") == "-a");
  CHECK(bytes_of("[a-]") == "-a");
  CHECK(bytes_of("[a^]") == "^a");
  CHECK(bytes_of("[.*]") == "*.");
  CHECK(bytes_of("[\\d_]") == range('0', '9') + "_");
  CHECK(bytes_of("[\\x00-\\x1f]") == range(0, 31));
  CHECK(bytes_of("[+--]") == "+,-");
}

TEST_CASE("whole texts are described, repetitions apply to whole characters") {
  CHECK(from_regex("").accepts(""));
  CHECK_FALSE(from_regex("").accepts("a"));
  CHECK(from_regex("a||b").accepts(""));
  CHECK_FALSE(from_regex("ab").accepts("abc"));
  CHECK(from_regex("é*x").accepts("ééx"));
  CHECK_FALSE(from_regex("é*x").accepts("é\xa9x"));
  CHECK(from_regex("(ab){2,3}").accepts("ababab"));
  CHECK_FALSE(from_regex("(ab){2,3}").accepts("abababab"));
  CHECK(from_regex("(ab){2,}").accepts("abababab"));
  CHECK(from_regex("a{0}").states() == from_regex("").states());
  CHECK(from_regex("(((){1000}){1000}){1000}") == from_regex(""));
}

TEST_CASE("equal languages give equal automata, bytes that do not matter share a symbol") {
  CHECK(from_regex("(a|b)*") == from_regex("[ab]*"));
  CHECK(from_regex("(a*b*)*") == from_regex("[ab]*"));
  CHECK(from_regex("a(ba)*") == from_regex("(ab)*a"));
  CHECK_FALSE(from_regex("a(ba)*") == from_regex("(ab)*"));
  CHECK(from_regex("[a-z]+").symbols() == 2);
  CHECK(from_regex("(a|b|[c-z])*|[^a-z]").symbols() == 2);
  CHECK(from_regex("[\\s\\S]*").symbols() == 1);
  CHECK(from_regex("[\\s\\S]*").states() == 1);
  CHECK(from_regex("[\\s\\S]*abc[\\s\\S]*").states() == 4);
}

TEST_CASE("mistakes are named with their position") {
  struct Mistake {
    std::string_view pattern, sentence;
  };
  const Mistake mistakes[] = {
      {"(ab", "position 0: this group is never closed"},
      {"a)b", "position 1: ')' closes no group"},
      {"a(b|c))", "position 6: ')' closes no group"},
      {"*a", "position 0: there is nothing to repeat"},
      {"a|+", "position 2: there is nothing to repeat"},
      {"a**", "position 2: a repetition of a repetition"},
      {"a+?", "position 2: a repetition of a repetition"},
      {"a{2}{3}", "position 4: a repetition of a repetition"},
      {"a{", "position 1: a repetition is written"},
      {"a{x}", "position 1: a repetition is written"},
      {"a{,3}", "position 1: a repetition is written"},
      {"a{1,2", "position 1: a repetition is written"},
      {"a{3,2}", "position 1: at least 3 but at most 2"},
      {"a{1001}", "position 1: more than 1000"},
      {"a{99999999999999999999}", "position 1: more than 1000"},
      {"x[abc", "position 1: this set is never closed"},
      {"[]", "position 0: this set is never closed"},
      {"[a-", "position 0: this set is never closed"},
      {"[z-a]", "position 1: a range goes"},
      {"[\\d-z]", "position 1: a range goes"},
      {"[[:alpha:]]", "position 1: there are no named sets"},
      {"[é]", "position 1: sets hold single bytes"},
      {"ab\\", "position 2: a backslash ends"},
      {"\\q", "position 0: unknown escape"},
      {"a\\1", "position 1: unknown escape"},
      {"\\x4", "position 0: \\x needs two"},
      {"\\xg0", "position 0: \\x needs two"},
      {"^a", "position 0: there are no anchors"},
      {"a$", "position 1: there are no anchors"},
      {"(?=a)", "position 0: groups are written"},
  };
  for (const Mistake& mistake : mistakes) {
    CAPTURE(mistake.pattern);
    const std::string said = complaint(mistake.pattern);
    CAPTURE(said);
    CHECK(said.find("regular expression, " + std::string(mistake.sentence)) == 0);
  }
}

TEST_CASE("what grows too large is refused") {
  CHECK(complaint("((a{1000}){1000}){1000}").find("NFA states") != std::string::npos);
  CHECK(complaint("((a?){1000}){1000}").find("NFA states") != std::string::npos);
  CHECK(complaint("(a|b)*a(a|b){20}").find("DFA states") != std::string::npos);
  CHECK(complaint("(a|b)*a(a|b){7}").empty());
  CHECK(complaint("a{40}", {.nfa_states = 30}).find("30 NFA") != std::string::npos);
  CHECK(complaint("a{40}", {.dfa_states = 30}).find("30 DFA") != std::string::npos);
  CHECK(complaint(std::string(300, '(') + std::string(300, ')')).find("nested") !=
        std::string::npos);
  CHECK(complaint(std::string(200, '(') + std::string(200, ')')).empty());
}

TEST_CASE("no pattern does harm") {
  test::Random random(5);
  const std::string alphabet = "ab()[]{}*+?|\\.^$-,0123x:\xc3\xa9\n";
  std::size_t good = 0;
  for (std::size_t trial = 0; trial < 20000; ++trial) {
    std::string pattern(random.below(10), ' ');
    for (char& c : pattern) c = alphabet[random.below(alphabet.size())];
    good += complaint(pattern, {.nfa_states = 2000, .dfa_states = 200}).empty();
  }
  CHECK(good > 500);
}
