// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"

#include <chrono>

using rwkv::ErrorCategory;
using rwkv::Grammar;
using test::check_error;

TEST_CASE("a grammar describes whole texts") {
  const auto arithmetic = Grammar::from_gbnf(R"G(
# sums of products
root   ::= expr "\n"?
expr   ::= term ([-+] term)*     # left to right
term   ::= factor
         | factor "*" term
factor ::= number | "(" expr ")"
number ::= [1-9] [0-9]{0,3} | "0"
)G");
  for (const char* text : {"0", "1+2", "(1+2)*3-4", "((((7))))", "1234\n"}) {
    CAPTURE(text);
    CHECK(arithmetic.matches(text));
  }
  for (const char* text : {"", "00", "1+", "(1", "1)", "12345", "1\n\n", " 1"}) {
    CAPTURE(text);
    CHECK_FALSE(arithmetic.matches(text));
  }
}

TEST_CASE("characters are those of UTF-8") {
  const auto g = Grammar::from_gbnf(R"G(root ::= [^a-z"\]] [ä-ü] . "\u20ac" "\U0001F600" "\x41")G");
  CHECK(g.matches("Zö!€😀A"));
  CHECK(g.matches("üü€€😀A"));
  CHECK_FALSE(g.matches("zö!€😀A"));
  CHECK_FALSE(g.matches("]ö!€😀A"));
  CHECK_FALSE(g.matches("Zx!€😀A"));
  CHECK_FALSE(g.matches("Z\xc3!€😀A"));
}

TEST_CASE("a byte order mark, both line ends, and line ends within literals and sets") {
  for (const char* text :
       {"\xef\xbb\xbfroot ::= a\na ::= \"x\"", "\xef\xbb\xbf# c\r\nroot ::= a\r\na ::= \"x\"\r\n"})
    CHECK(Grammar::from_gbnf(text).matches("x"));
  const auto g = Grammar::from_gbnf("root ::= \"a\nb\" [c\n]+");
  CHECK(g.matches("a\nbc\n"));
  CHECK_FALSE(g.matches("ab"));
}

TEST_CASE("repetitions") {
  const auto exactly =
      Grammar::from_gbnf(R"G(root ::= ("ab" | "c"){2} "d"{1,} "e"{0,2} "f"? "g"{0})G");
  for (const char* text : {"abcd", "ccddddee", "ababdef"}) CHECK(exactly.matches(text));
  for (const char* text : {"abd", "cccd", "cc", "ccdeee", "ccdg"})
    CHECK_FALSE(exactly.matches(text));

  SUBCASE("of what is recursive, in any number") {
    const auto g = Grammar::from_gbnf(R"G(root ::= list{2,100000}
list ::= "(" list* ")")G");
    CHECK(g.matches("()(()())"));
    CHECK_FALSE(g.matches("(()())"));
    std::string many;
    for (int i = 0; i < 100000; ++i) many += "()";
    CHECK(g.matches(many));
    CHECK_FALSE(g.matches(many + "()"));
  }
  SUBCASE("of what may be empty") {
    const auto g = Grammar::from_gbnf(R"G(root ::= (list?){3,}
list ::= "(" (list*)* ")")G");
    CHECK(g.matches(""));
    CHECK(g.matches("()"));
    CHECK(g.matches("((()()))()()()"));
    CHECK_FALSE(g.matches("("));
  }
}

TEST_CASE("ambiguous grammars take no longer than they must") {
  // Twice as many readings with every letter.
  const auto g = Grammar::from_gbnf(R"G(root ::= s
s ::= "a" (x | y)
x ::= s "b"? | ""
y ::= s "b"? | "")G");
  CHECK(g.matches(std::string(60, 'a')));
  CHECK(g.matches(std::string(60, 'a') + std::string(59, 'b')));
  CHECK_FALSE(g.matches(std::string(60, 'a') + std::string(60, 'b')));
}

TEST_CASE("nesting has no limit") {
  const auto g = Grammar::from_gbnf(R"G(root ::= "(" root? ")")G");
  const std::size_t deep = 200'000;
  const std::string text = std::string(deep, '(') + std::string(deep, ')');
  CHECK(g.matches(text));
  CHECK_FALSE(g.matches(text + ")"));
}

TEST_CASE("masks are what accept takes") {
  const rwkv::Tokenizer tokenizer = test::pieces();
  std::mt19937 random(1);
  for (const char* text : {
           R"G(root ::= expr
expr ::= term ("+" term)*
term ::= [0-9]+ | "(" expr ")" | term2
term2 ::= "ab"{1,3} "c"?)G",
           R"G(root ::= "the" (" the" root)? | [a-zä-ü€]{2,5} "\"}")G",
           R"G(root ::= item+
item ::= "[" item* "]" | [^\[\]"]+ | "\"" [^"]* "\"")G",
       }) {
    CAPTURE(text);
    const Grammar grammar = Grammar::from_gbnf(text);
    const rwkv::Constraint constraint = grammar.constraint(tokenizer);
    for (int i = 0; i < 8; ++i) {
      const std::string written = test::write_checked(constraint, tokenizer, random, 30);
      if (!written.empty()) CHECK(grammar.matches(written));
    }
  }
}

TEST_CASE("mistakes are named, with their line") {
  const auto refused = [](const char* text, const char* part) {
    check_error(ErrorCategory::argument, part, [&] { (void)Grammar::from_gbnf(text, "g.gbnf"); });
  };
  refused("", "g.gbnf: there is no rule \"root\"");
  refused("start ::= \"a\"", "there is no rule \"root\"");
  refused("root ::= other", "rule other is not defined");
  refused("root ::= \"a\"\nroot ::= \"b\"", "line 2: rule root is defined twice");
  refused("root = \"a\"", "line 1: rule root: \"::=\" is missing");
  refused("root ::= \"a\n", "line 1: this literal is never closed");
  refused("\nroot ::= [a", "line 2: a set is never closed");
  refused("\nroot ::= \"a\n\nb", "line 2: this literal is never closed");
  for (const char* token : {"<think>", "<[1000]>", "!<think>"})
    check_error(ErrorCategory::unsupported, "g.gbnf: line 1: tokens", [&] {
      (void)Grammar::from_gbnf("root ::= \"a\" " + std::string(token), "g.gbnf");
    });
  refused("root ::= (\"a\"", "a group is never closed");
  refused("root ::= \"a\")", "')' is not expected here");
  refused("root ::= \"\\q\"", "unknown escape");
  refused("root ::= [z-a]", "a range goes from one character up to another");
  refused("root ::= \"a\"{3,2}", "at least 3 but at most 2 times");
  refused("root ::= \"a\"{99999999}", "more than 1000000 repetitions");
  refused("root ::= \"\\uD800\"", "no character has the number 55296");
  refused("root ::= \"\xff\"", "not UTF-8");
  refused("root ::= \"a\" root", "no text satisfies this grammar");
  SUBCASE("left recursion, also behind what may be empty") {
    refused("root ::= root \"a\" | \"a\"", "rule root is left-recursive");
    refused("root ::= a\na ::= b? c\nb ::= \"x\"\nc ::= d | \"y\"\nd ::= \" \"* a",
            "left-recursive");
  }
}

TEST_CASE("hostile grammars are answered at once") {
  const auto start = std::chrono::steady_clock::now();
  const auto answered = [](const std::string& text) {
    try {
      (void)Grammar::from_gbnf(text);
    } catch (const rwkv::Error&) {
    }
  };
  answered("root ::= ((((\"a\"{1000000}){1000000}){1000000}){1000000})");
  answered("root ::= " + std::string(100'000, '('));
  answered("root ::= \"a\"" + std::string(100'000, '*'));
  answered("root ::= [" + std::string(1'000'000, 'a') + "]");
  answered("root ::= \"" + std::string(1'000'000, 'a') + "\"");
  answered("root ::= ([ab]* \"a\" [ab]{30})");
  std::string chain = "root ::= a0\n";
  for (int i = 0; i < 50'000; ++i) {
    chain += 'a';
    chain +=
        std::to_string(i) + " ::= a" + std::to_string(i + 1) + " a" + std::to_string(i + 1) + "\n";
  }
  answered(chain + "a50000 ::= \"x\"?");
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
}
