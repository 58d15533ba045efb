// SPDX-License-Identifier: Apache-2.0
// What the grammar targets do: a text is compiled or refused with rwkv::Error; what was compiled
// writes a little, and keeps its promises: every token of a mask is accepted, what is forced is the
// only way, and it never gets stuck before the text is complete.
#pragma once

#include <rwkv/grammar.hpp>

#include <cstdint>
#include <stdexcept>

namespace fuzz {

inline void require(bool promise, const char* what) {
  if (!promise) throw std::logic_error(what);
}

inline const rwkv::TokenTrie& few_tokens() {
  static const rwkv::TokenTrie trie = [] {
    rwkv::io::Vocabulary v(1);
    for (int byte = 0; byte < 256; ++byte) v.emplace_back(1, static_cast<char>(byte));
    for (const char* token : {"{\"", "\":", "\",\"", "[[", "]]", "null", "true", "12", "0.", "e+",
                              "\\u00", "ab", "abc", "\xc3\xa4", "\xe2\x82", "\n  ", "\"}", "a\":1"})
      v.emplace_back(token);
    return rwkv::TokenTrie(rwkv::Tokenizer(v));
  }();
  return trie;
}

template <class Make>
int compile_and_write(const std::uint8_t* data, std::size_t size, const Make& make) {
  // The last bytes choose the tokens.
  const std::size_t choices = size < 16 ? 0 : 8;
  const std::string_view text(reinterpret_cast<const char*>(data), size - choices);
  std::optional<rwkv::Grammar> grammar;
  try {
    grammar = make(text);
  } catch (const rwkv::Error& error) {
    require(!std::string_view(error.what()).empty(), "no sentence");
    return 0;
  }
  try {
    rwkv::Constraint constraint = grammar->constraint(few_tokens());
    rwkv::TokenMask mask;
    std::string written;
    for (std::size_t i = 0; i < choices; ++i) {
      constraint.allowed(mask);
      if (mask.none()) {
        require(constraint.complete(), "stuck");
        break;
      }
      const std::string forced = constraint.forced();
      std::size_t pick = data[size - 1 - i] % mask.count();
      rwkv::Token token = 0;
      while (!mask[token] || pick-- > 0) ++token;
      const rwkv::Constraint before = constraint;
      constraint.accept(token);
      const std::string_view bytes = few_tokens().tokenizer().token_bytes(token);
      require(forced.empty() || forced.starts_with(bytes) || bytes.starts_with(forced),
              "not what is forced");
      written += bytes;
      require(grammar->matches(written) == constraint.complete(), "complete in one way only");
    }
  } catch (const rwkv::Error& error) {
    require(std::string_view(error.what()).find("too ambiguous") != std::string_view::npos,
            error.what());
  }
  return 0;
}

}  // namespace fuzz
