// SPDX-License-Identifier: Apache-2.0
// A vocabulary as Hugging Face's repositories have it.
#pragma once

#include <rwkv/io/checkpoint.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace test {

/// Bytes in GPT-2's alphabet.
inline std::string gpt2_text(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    const unsigned byte = static_cast<unsigned char>(c);
    unsigned others = 0;  // of the bytes below that are not written as themselves
    const auto itself = [](unsigned b) {
      return (b > 32 && b < 127) || (b > 160 && b < 173) || b > 173;
    };
    for (unsigned b = 0; b < byte; ++b) others += !itself(b);
    const unsigned character = itself(byte) ? byte : 256 + others;
    if (character < 128) {
      out += static_cast<char>(character);
    } else {
      out += static_cast<char>(0xc0 | character >> 6);
      out += static_cast<char>(0x80 | (character & 0x3f));
    }
  }
  return out;
}

/// With reserved tokens up to `rows`.
inline nlohmann::json tokenizer_document(const rwkv::io::Vocabulary& tokens, std::size_t rows = 0) {
  const std::string end = "<|rwkv_tokenizer_end_of_text|>";
  nlohmann::json vocab{{end, 0}};
  for (std::size_t id = 1; id < tokens.size(); ++id)
    if (!tokens[id].empty()) vocab[gpt2_text(tokens[id])] = id;
  for (std::size_t id = tokens.size(); id < rows; ++id)
    vocab["\xee\x80\x80rwkv_reserved_" + std::to_string(id)] = id;
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"added_tokens", {{{"id", 0}, {"content", end}, {"special", true}, {"normalized", false}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}},
          {{"type", "Split"}, {"pattern", {{"Regex", "the|a"}}}, {"invert", false}}}}}},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}}},
      {"model", {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", end}}}};
}

inline std::string tokenizer_json(const rwkv::io::Vocabulary& tokens, std::size_t rows = 0) {
  return tokenizer_document(tokens, rows).dump();
}

}  // namespace test
