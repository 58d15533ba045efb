// SPDX-License-Identifier: Apache-2.0
// The definitions of tokenizer.hpp.
#pragma once

#include <rwkv/io/vocabulary.hpp>
#include <rwkv/io/vocabulary_file.hpp>
#include <rwkv/tokenizer.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/io/tokenizer_json.hpp>
#include <rwkv/io/vocabulary_json.hpp>
#include <rwkv/io/vocabulary_text.hpp>
#endif

#include <algorithm>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

RWKV_FUNCTION std::vector<ByteTrie::Entry> sorted_entries(const io::Vocabulary& vocabulary,
                                                          const std::string& source) {
  if (vocabulary.size() > io::detail::max_vocabulary)
    fail_with(ErrorCategory::unsupported, source, ": has ", vocabulary.size(), " tokens, only ",
              io::detail::max_vocabulary, " are supported");
  std::vector<ByteTrie::Entry> entries;
  entries.reserve(vocabulary.size());
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary[id].size() > Tokenizer::max_token_bytes)
      fail_with(ErrorCategory::unsupported, source, ": token ", id, " has ", vocabulary[id].size(),
                " bytes, only ", Tokenizer::max_token_bytes, " are supported");
    if (!vocabulary[id].empty()) entries.push_back({vocabulary[id], static_cast<Token>(id)});
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  for (std::size_t i = 1; i < entries.size(); ++i)
    if (entries[i].bytes == entries[i - 1].bytes)
      fail_with(ErrorCategory::format, source, ": tokens ",
                (std::min)(entries[i - 1].token, entries[i].token), " and ",
                (std::max)(entries[i - 1].token, entries[i].token), " are both ",
                io::detail::printable(entries[i].bytes));
  return entries;
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI {

RWKV_FUNCTION Tokenizer::Tables::Tables(const io::Vocabulary& vocabulary, const std::string& name)
    : source(name), trie(detail::sorted_entries(vocabulary, name)) {
  begins.reserve(vocabulary.size() + 1);
  begins.push_back(0);
  for (const std::string& bytes : vocabulary) {
    text += bytes;
    begins.push_back(static_cast<std::uint32_t>(text.size()));
  }
}

RWKV_FUNCTION Tokenizer::Tokenizer(const io::Vocabulary& vocabulary, const std::string& source)
    : tables_(std::make_shared<const Tables>(vocabulary, source)) {}

RWKV_FUNCTION std::size_t Tokenizer::ids_in_use() const {
  const std::vector<std::uint32_t>& begins = tables().begins;
  std::size_t ids = vocab_size();
  while (ids > 0 && begins[ids] == begins[ids - 1]) --ids;
  return ids;
}

RWKV_FUNCTION Tokenizer Tokenizer::bytes() {
  io::Vocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary.emplace_back(1, static_cast<char>(byte));
  return Tokenizer(vocabulary, "bytes");
}

RWKV_FUNCTION void Tokenizer::encode(std::string_view text, std::vector<Token>& out) const {
  const ByteTrie& trie = tables().trie;
  for (std::size_t at = 0; at < text.size();) {
    const ByteTrie::Match match = trie.longest_prefix(text.substr(at));
    if (match.length == 0)
      fail_with(ErrorCategory::argument, tables_->source, ": no token begins with byte ",
                unsigned{static_cast<unsigned char>(text[at])}, ", which is at offset ", at);
    out.push_back(match.token);
    at += match.length;
  }
}

RWKV_FUNCTION std::vector<Token> Tokenizer::encode(std::string_view text) const {
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 3 + 1);
  encode(text, tokens);
  return tokens;
}

RWKV_FUNCTION std::string_view Tokenizer::token_bytes(Token token) const {
  if (token >= vocab_size())
    fail_with(ErrorCategory::argument, "token ", token, " is past the vocabulary of ",
              vocab_size());
  const std::uint32_t begin = tables_->begins[token];
  return std::string_view(tables_->text).substr(begin, tables_->begins[token + 1] - begin);
}

RWKV_FUNCTION std::string Tokenizer::decode(std::span<const Token> tokens) const {
  std::string text;
  for (const Token token : tokens) text += token_bytes(token);
  return text;
}

RWKV_FUNCTION void Tokenizer::require_fit(std::size_t rows) const {
  if (const std::string problem = io::vocabulary_misfit(ids_in_use(), rows); !problem.empty())
    fail_with(ErrorCategory::argument, tables_->source, ": ", problem);
}

RWKV_FUNCTION Tokenizer Tokenizer::from_checkpoint(const io::Checkpoint& checkpoint) {
  const auto vocabulary = io::vocabulary_of(checkpoint);
  if (!vocabulary)
    fail_with(ErrorCategory::argument, checkpoint.source, ": this file carries no vocabulary",
              checkpoint.folder.empty() ? ""
                                        : ", and beside it is neither rwkv_vocab*.txt nor "
                                          "tokenizer.json");
  return Tokenizer(vocabulary->tokens, vocabulary->source);
}

RWKV_FUNCTION std::optional<Token> first_difference(const Tokenizer& a, const Tokenizer& b) {
  const std::size_t both = (std::min)(a.vocab_size(), b.vocab_size());
  for (std::size_t id = 0; id < both; ++id) {
    const auto token = static_cast<Token>(id);
    if (a.token_bytes(token) != b.token_bytes(token)) return token;
  }
  return {};
}

#if !defined(RWKV_NO_IO)
#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION Tokenizer Tokenizer::from_vocab_file(const std::filesystem::path& path) {
  return Tokenizer(io::read_vocabulary(path), path.string());
}
#endif

RWKV_FUNCTION Tokenizer Tokenizer::from_vocab(std::string_view text, const std::string& source) {
  return Tokenizer(io::read_vocabulary(text, source), source);
}

RWKV_FUNCTION Tokenizer Tokenizer::from_vocab(std::span<const std::byte> content,
                                              const std::string& source) {
  return from_vocab({reinterpret_cast<const char*>(content.data()), content.size()}, source);
}

RWKV_FUNCTION Tokenizer Tokenizer::from_tokenizer_json(std::string_view text,
                                                       const std::string& source) {
  return Tokenizer(io::read_tokenizer_json(text, source), source);
}

RWKV_FUNCTION Tokenizer Tokenizer::from_vocab_text(std::string_view text,
                                                   const std::string& source) {
  return Tokenizer(io::read_vocabulary_text(text, source), source);
}

RWKV_FUNCTION Tokenizer Tokenizer::from_web_rwkv_json(std::string_view text,
                                                      const std::string& source) {
  return Tokenizer(io::read_vocabulary_json(text, source), source);
}
#endif

}  // namespace rwkv::inline RWKV_ABI
