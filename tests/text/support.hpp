// SPDX-License-Identifier: Apache-2.0
// Helpers of the text tests.
#pragma once

#include "../support/numbers.hpp"
#include <rwkv/io/untrusted.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace test {

/// Runs `f`, which must throw rwkv::Error of this category with `part` in its sentence.
template <class F>
void check_error(rwkv::ErrorCategory category, std::string_view part, F&& f) {
  std::string sentence;
  try {
    f();
  } catch (const rwkv::Error& error) {
    CHECK(error.category() == category);
    sentence = error.what();
  }
  CAPTURE(sentence);
  CAPTURE(part);
  CHECK(sentence.find(part) != std::string::npos);
}

/// True if a well-formed character of `text` begins before `at` and ends after it.
inline bool cuts_character(std::string_view text, std::size_t at) {
  for (std::size_t before = 1; before <= 3 && before <= at; ++before)
    for (std::size_t length = before + 1; length <= 4; ++length) {
      const auto character = text.substr(at - before, length);
      const auto lead = static_cast<unsigned char>(character[0]);
      if (lead >= 0xc0 && character.size() == length && rwkv::io::detail::is_utf8(character) &&
          length == (lead < 0xe0   ? 2u
                     : lead < 0xf0 ? 3u
                                   : 4u))
        return true;
    }
  return false;
}

/// Text with characters of all lengths, digits, line ends, stray bytes and cut characters.
inline std::string messy_text(Random& random, std::size_t pieces) {
  constexpr std::string_view parts[] = {"a",
                                        "b",
                                        " the",
                                        "\n\n",
                                        "User:",
                                        "7",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "\xf0\x9f\x8c\x8d",
                                        "\xed\xa0\x80",
                                        "\xe0\x80",
                                        "\xf0\x9f",
                                        "\xff",
                                        "\x80",
                                        "\xc3",
                                        "\xf4\x90\x80\x80"};
  std::string text;
  for (std::size_t i = 0; i < pieces; ++i)
    if (random.below(8) == 0)
      text += static_cast<char>(random.below(256));
    else
      text += parts[random.below(std::size(parts))];
  return text;
}

}  // namespace test
