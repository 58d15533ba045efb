// SPDX-License-Identifier: Apache-2.0
// Helpers of the grammar tests.
#pragma once

#include "../text/support.hpp"
#include <rwkv/grammar.hpp>

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

namespace test {

/// All bytes, and pieces of JSON, words and characters that cross the borders of whatever a grammar
/// tells apart. Token 0 has no bytes.
inline rwkv::Tokenizer pieces() {
  rwkv::io::Vocabulary v(1);
  for (int byte = 0; byte < 256; ++byte) v.emplace_back(1, static_cast<char>(byte));
  for (const char* token : {"{\"",          "\"}",        "\":",
                            "\": ",         "\":\"",      "\",\"",
                            "\",",          "[[",         "]]",
                            "],",           "[{",         "}]",
                            "}}",           "null",       "true",
                            "fal",          "se",         "12",
                            "123",          "0.",         ".0",
                            "-1",           "1e",         "e+",
                            "\\u",          "\\u00",      "00e9",
                            "\\\"",         "\\n",        "name",
                            "\"name\"",     "\"na",       "me\"",
                            "me\":",        "age",        "\"age\":",
                            "id",           "items",      "ab",
                            "abc",          "aab",        "bb",
                            "the",          " the",       "\xc3\xa4",
                            "\xc3\xa4\xc3", "\xa4\xc3",   "\xe2\x82",
                            "\xe2\x82\xac", "\x82\xac\"", "\xf0\x9f\x98\x80",
                            "\xf0\x9f",     "  ",         "\n  ",
                            ", ",           "((",         "))",
                            ")+",           "+(",         "*2",
                            "1+",           "2024-",      "-01",
                            "b@",           ".com",       "red",
                            "green\"",      "\"blue\"",   "a\"}",
                            "x\",\"y\":",   "[]",         "{}",
                            "1,2",          "1]",         ",null]"})
    v.emplace_back(token);
  return rwkv::Tokenizer(v);
}

/// The tokens that `accept` takes, each tried on a copy: what a mask must be where nothing is
/// forced.
inline rwkv::TokenMask tried(const rwkv::Constraint& constraint, const rwkv::Tokenizer& tokenizer) {
  rwkv::TokenMask mask(tokenizer.vocab_size());
  for (rwkv::Token token = 0; token < tokenizer.vocab_size(); ++token) {
    rwkv::Constraint copy = constraint;
    try {
      copy.accept(token);
      mask.set(token);
    } catch (const rwkv::Error&) {
    }
  }
  return mask;
}

/// Writes a text by tokens drawn from the masks, up to `most` tokens, and checks every mask.
/// Returns the text; empty if it was not complete by then.
inline std::string write_checked(rwkv::Constraint constraint, const rwkv::Tokenizer& tokenizer,
                                 std::mt19937& random, std::size_t most) {
  std::string text;
  rwkv::TokenMask mask;
  for (std::size_t i = 0; i < most; ++i) {
    constraint.allowed(mask);
    CAPTURE(text);
    if (const std::size_t n = mask.count(); n == 0) {
      REQUIRE(constraint.complete());
      return text;
    }
    const rwkv::TokenMask all = tried(constraint, tokenizer);
    const auto forced = constraint.forced_tokens(1);
    if (forced.empty()) {
      REQUIRE(mask == all);
    } else {
      REQUIRE(mask.count() == 1);
      REQUIRE(mask.first() == forced[0]);
      REQUIRE(all[forced[0]]);
      REQUIRE(constraint.forced().starts_with(tokenizer.token_bytes(forced[0])));
    }
    if (constraint.complete() && random() % 3 == 0) return text;
    std::size_t pick = random() % mask.count();
    rwkv::Token token = 0;
    while (!mask[token] || pick-- > 0) ++token;
    constraint.accept(token);
    text += tokenizer.token_bytes(token);
  }
  return {};
}

}  // namespace test
