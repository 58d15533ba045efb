// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"

using rwkv::ErrorCategory;
using rwkv::Grammar;
using test::check_error;

TEST_CASE("an expression describes whole texts") {
  struct Case {
    const char* pattern;
    std::vector<const char*> matched, not_matched;
  };
  for (const Case& c : {
           Case{"a|bc?", {"a", "b", "bc"}, {"", "ab", "c"}},
           Case{"[a-cä]{2,3}", {"ab", "äää"}, {"a", "abcc", "d"}},
           Case{"^a$", {"a"}, {"", "aa"}},
           Case{"(^|x)a($|y)", {"a", "xa", "ay", "xay"}, {"x", "aa"}},
           Case{"a^b|c", {"c"}, {"ab"}},
           Case{"^(^a|b$|(?:^|x){2}y)$$", {"a", "b", "y", "xy", "xxy"}, {"", "ab", "xxxy"}},
           Case{"\\d+(?:\\.\\d*)?", {"1", "12.", "1.5"}, {".5", "a"}},
           Case{"(?<year>\\d{4})-[01]\\d", {"2024-12"}, {"24-12"}},
           Case{".", {"x", "€", "😀"}, {"\n", "\xe2\x82", "xx"}},
           Case{"[^\\w\\s]", {"!", "€"}, {"a", " ", "_"}},
           Case{"\\u20ac\\u{1F600}\\uD83D\\uDE00\\x41\\cJ\\/", {"€😀😀A\n/"}, {"€"}},
           Case{"a{,2}|b{", {"a{,2}", "b{"}, {"aa"}},
           Case{"a+?b*?", {"a", "aab"}, {"b"}},
           Case{"[\\d-x]", {"1", "-", "x"}, {"a"}},
           Case{"", {""}, {"a"}},
       }) {
    CAPTURE(c.pattern);
    const auto g = Grammar::from_regex(c.pattern);
    for (const char* text : c.matched) {
      CAPTURE(text);
      CHECK(g.matches(text));
    }
    for (const char* text : c.not_matched) {
      CAPTURE(text);
      CHECK_FALSE(g.matches(text));
    }
  }
}

TEST_CASE("masks are what accept takes") {
  const rwkv::Tokenizer tokenizer = test::pieces();
  std::mt19937 random(2);
  for (const char* pattern : {"(\\d{4})-(0[1-9]|1[0-2])-\\d\\d", "[a-z]+@[a-z]+\\.com", ".{3,9}",
                              "(abc|aab|b)*", "\"(blue|green|red)\"", "€*ä+"}) {
    CAPTURE(pattern);
    const Grammar grammar = Grammar::from_regex(pattern);
    for (int i = 0; i < 5; ++i) {
      const std::string text =
          test::write_checked(grammar.constraint(tokenizer), tokenizer, random, 20);
      if (!text.empty()) CHECK(grammar.matches(text));
    }
  }
}

TEST_CASE("a constraint is a value") {
  const rwkv::Tokenizer tokenizer = test::pieces();
  rwkv::Constraint constraint = Grammar::from_regex("(ab)*c").constraint(tokenizer);
  const auto token = [&](const char* text) { return tokenizer.encode(text)[0]; };
  const rwkv::Constraint before = constraint;
  constraint.accept(token("ab"));
  constraint.accept(token("c"));
  CHECK(constraint.complete());
  rwkv::TokenMask mask;
  constraint.allowed(mask);
  CHECK(mask.none());
  constraint = before;
  CHECK_FALSE(constraint.complete());
  constraint.allowed(mask);
  CHECK(mask[token("abc")]);
  CHECK_FALSE(mask[token("the")]);
  check_error(ErrorCategory::argument, "does not fit", [&] { constraint.accept(token("the")); });
  check_error(ErrorCategory::argument, "has no bytes", [&] { constraint.accept(0); });
  rwkv::TokenMask again;
  constraint.allowed(again);
  CHECK(again == mask);
  CHECK_FALSE(rwkv::Constraint());
}

TEST_CASE("what must follow") {
  const rwkv::Tokenizer tokenizer = test::pieces();
  rwkv::Constraint constraint = Grammar::from_regex("the (red|rest)").constraint(tokenizer);
  CHECK(constraint.forced() == "the re");
  const auto tokens = constraint.forced_tokens();
  CHECK(tokenizer.decode(tokens) == "the ");  // "red" goes beyond "re"
  for (const rwkv::Token token : tokens) constraint.accept(token);
  rwkv::TokenMask mask;
  constraint.allowed(mask);
  CHECK(mask.count() == 2);
  CHECK(mask[tokenizer.encode("red")[0]]);
  CHECK(mask[tokenizer.encode("r")[0]]);
}

TEST_CASE("what is not regular or not known is refused") {
  const auto refused = [](ErrorCategory category, const char* pattern, const char* part) {
    CAPTURE(pattern);
    check_error(category, part, [&] { (void)Grammar::from_regex(pattern); });
  };
  for (const char* pattern : {"(?=a)", "(?!a)b", "(?<=a)b", "(?<!a)b", "\\bword", "\\p{L}",
                              "(a)\\1", "(?<a>b)\\k<a>", "(?i)a"})
    refused(ErrorCategory::unsupported, pattern, "regular expression: position ");
  for (const char* pattern : {"(a", "a)", "[a", "*a", "a**", "a{2,1}", "[z-a]", "\\", "\\q",
                              "\\u12", "\\u{110000}", "\\ud800", "\xff"})
    refused(ErrorCategory::argument, pattern, "regular expression: position ");
  refused(ErrorCategory::argument, "[]", "no text satisfies this expression");
  refused(ErrorCategory::argument, "((a{1000}){1000}){1000}", "too large");
  refused(ErrorCategory::argument, "(a|b)*a(a|b){30}", "DFA states");
  CHECK(Grammar::from_regex("(x+x+)+y").matches(std::string(1000, 'x') + "y"));
}
