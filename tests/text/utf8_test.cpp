// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/text/utf8.hpp>

namespace {

// By definition: some bytes appended to the end make it well-formed.
std::size_t incomplete_by_trial(const std::string& text) {
  for (std::size_t k = std::min<std::size_t>(3, text.size()); k > 0; --k) {
    const std::string end = text.substr(text.size() - k);
    for (const char* middle : {"\x80", "\x90", "\xa0"})
      for (std::size_t more = 1; more <= 3; ++more) {
        std::string candidate = end + middle;
        candidate.append(more - 1, '\x80');
        const auto lead = static_cast<unsigned char>(end[0]);
        const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (lead >= 0xc0 && candidate.size() == length && rwkv::io::detail::is_utf8(candidate))
          return k;
      }
  }
  return 0;
}

}  // namespace

TEST_CASE("the incomplete end of a text: every pair and triple of bytes") {
  test::Thinned pairs(5);
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b) {
      std::string text{static_cast<char>(a), static_cast<char>(b)};
      REQUIRE(rwkv::incomplete_utf8_suffix(text) == incomplete_by_trial(text));
      if (a < 0x7f || pairs.leaves_out()) continue;
      for (const unsigned c : {0x00u, 0x41u, 0x7fu, 0x80u, 0x8fu, 0x90u, 0x9fu, 0xa0u, 0xbfu, 0xc1u,
                               0xc2u, 0xe0u, 0xedu, 0xf0u, 0xf4u, 0xf5u, 0xffu}) {
        const std::string longer = text + static_cast<char>(c);
        REQUIRE(rwkv::incomplete_utf8_suffix(longer) == incomplete_by_trial(longer));
      }
    }
  CHECK(rwkv::incomplete_utf8_suffix("") == 0);
  CHECK(rwkv::incomplete_utf8_suffix("\xf0\x9f\x8c\x8d") == 0);
  CHECK(rwkv::incomplete_utf8_suffix("x\xf0\x9f\x8c") == 3);
}

TEST_CASE("a stream never cuts a character, and loses no byte") {
  test::Random random(1);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = test::messy_text(random, 1 + random.below(30));
    const bool valid = rwkv::io::detail::is_utf8(text);
    rwkv::Utf8Stream stream;
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = std::min(1 + random.below(5), text.size() - at);
      const std::string piece(stream.push(std::string_view(text).substr(at, n)));
      at += n;
      out += piece;
      REQUIRE_FALSE(test::cuts_character(text, out.size()));
      REQUIRE(stream.pending().size() <= 3);
      REQUIRE(out + std::string(stream.pending()) == text.substr(0, at));
      if (valid) REQUIRE(rwkv::io::detail::is_utf8(piece));
    }
    out += stream.flush();
    REQUIRE(out == text);
    REQUIRE(stream.pending().empty());
  }
}

TEST_CASE("bytes that are no UTF-8 come out as soon as that is certain") {
  rwkv::Utf8Stream stream;
  CHECK(stream.push("\xe2") == "");
  CHECK(stream.push("\x82") == "");
  CHECK(stream.push("x") == "\xe2\x82x");
  CHECK(stream.push("\xed") == "");
  CHECK(stream.push("\xa0") == "\xed\xa0");  // a surrogate, whatever follows
  CHECK(stream.push("\x80") == "\x80");
  CHECK(stream.push("\xf0\x9f\x8c") == "");
  CHECK(stream.push("\x8d!") == "\xf0\x9f\x8c\x8d!");
  CHECK(stream.push("\xc3\xc3") == "\xc3");
  CHECK(stream.flush() == "\xc3");
  CHECK(stream.flush() == "");
}
