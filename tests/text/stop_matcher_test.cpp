// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"
#include <rwkv/text/stop_matcher.hpp>

namespace {

struct Found {
  std::size_t begin = std::string::npos;
  std::size_t end = std::string::npos;
};

// Letter by letter: the first place where some stop string ends.
Found first_complete(const std::string& text, const std::vector<std::string>& strings) {
  for (std::size_t end = 0; end <= text.size(); ++end) {
    Found found;
    for (const std::string& s : strings)
      if (s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0)
        found = {std::min(found.begin, end - s.size()), end};
    if (found.end != std::string::npos) return found;
  }
  return {};
}

bool is_beginning(std::string_view end, const std::vector<std::string>& strings) {
  for (const std::string& s : strings)
    if (end.size() < s.size() && s.starts_with(end)) return true;
  return false;
}

}  // namespace

TEST_CASE("a stop string over several pieces is not let out") {
  rwkv::StopMatcher matcher({"\n\nUser:"});
  CHECK(matcher.push("Hi.\n") == "Hi.");
  CHECK(matcher.push("\n") == "");
  CHECK(matcher.pending() == "\n\n");
  CHECK(matcher.push("\n") == "\n");  // three line ends: the last two may still begin it
  CHECK(matcher.push("Us") == "");
  CHECK(matcher.push("e") == "");
  CHECK_FALSE(matcher.matched());
  CHECK(matcher.push("r: x") == "");
  CHECK(matcher.matched());
  CHECK(matcher.pending() == "\n\nUser: x");
}

TEST_CASE("what was held back comes out when it turns out to be harmless, and at the end") {
  rwkv::StopMatcher matcher({"abcd", "bx"});
  CHECK(matcher.push("abc") == "");
  CHECK(matcher.push("e") == "abce");
  CHECK(matcher.push("ab") == "");
  CHECK(matcher.push("b") == "ab");
  CHECK(matcher.flush() == "b");
  CHECK(matcher.pending() == "");
}

TEST_CASE("of overlapping stop strings the first to be complete counts, then the longest") {
  rwkv::StopMatcher matcher({"ab", "xaby", "xab"});
  CHECK(matcher.push("1xaby") == "1");
  CHECK(matcher.pending() == "xaby");
}

TEST_CASE("the match does not depend on how the text was cut") {
  test::Random random(2);
  int matches = 0;
  for (int round = 0; round < 5000; ++round) {
    const auto letters = [&](std::size_t n) {
      std::string s;
      for (std::size_t i = 0; i < n; ++i) s += static_cast<char>('a' + random.below(3));
      return s;
    };
    std::vector<std::string> strings;
    for (std::size_t n = random.below(4); n > 0; --n)
      strings.push_back(letters(1 + random.below(5)));
    const std::string text = letters(random.below(40));
    const Found expected = first_complete(text, strings);

    rwkv::StopMatcher matcher(strings);
    std::string out;
    std::size_t at = 0;
    while (at < text.size() && !matcher.matched()) {
      const std::size_t n = std::min(random.below(6), text.size() - at);
      out += matcher.push(std::string_view(text).substr(at, n));
      at += n;
      REQUIRE(out + std::string(matcher.pending()) == text.substr(0, at));
      if (!matcher.matched() && !matcher.pending().empty())
        REQUIRE(is_beginning(matcher.pending(), strings));  // nothing waits without a reason
    }
    REQUIRE(matcher.matched() == (expected.end != std::string::npos));
    if (matcher.matched()) {
      ++matches;
      REQUIRE(out == text.substr(0, expected.begin));
    } else {
      out += matcher.flush();
      REQUIRE(out == text);
    }
  }
  CHECK(matches > 1000);
}

TEST_CASE("an empty stop string is refused") {
  test::check_error(rwkv::ErrorCategory::argument, "stop string is empty", [] {
    rwkv::StopMatcher({"a", ""});
  });
}
