// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back. The first token of a text is the longest vocabulary entry that it begins
// with, and so on: RWKV's tokenizer, which works on bytes and needs no normalisation.
//
//   const auto tokenizer = rwkv::Tokenizer::from_vocab_file("rwkv_vocab_v20230424.txt");
//   std::vector<rwkv::Token> tokens = tokenizer.encode("Hello world");
//   std::string text = tokenizer.decode(tokens);
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/vocabulary.hpp>
#include <rwkv/text/byte_trie.hpp>
#include <rwkv/text/utf8.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/vocabulary_json.hpp>
#include <rwkv/io/vocabulary_text.hpp>
#endif

#include <algorithm>

namespace rwkv::inline RWKV_ABI {

/// A vocabulary that encodes and decodes. Immutable: copies share it, any number of threads may use
/// it at once.
class Tokenizer {
 public:
  /// `vocabulary[id]` are the bytes of token `id`; ids with no bytes are never encoded and decode
  /// to nothing. `source` names the vocabulary in messages. Throws `Error` (format) if two ids have
  /// the same bytes, (unsupported) if a token is longer than `max_token_bytes` or there are more
  /// than 2^18 ids. O(n log n) for n tokens: some 20 ms for 65536.
  explicit Tokenizer(const io::Vocabulary& vocabulary, const std::string& source = "vocabulary")
      : tables_(std::make_shared<const Tables>(vocabulary, source)) {}

#if !defined(RWKV_NO_IO)
  /// Reads the official text file or web-rwkv's JSON, recognised by content. Throws `Error`.
  [[nodiscard]] static Tokenizer from_vocab_file(const std::filesystem::path& path) {
    const io::MappedFile file(path);
    const std::span<const std::byte> bytes = file.bytes();
    return from_vocab({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
  }

  /// The content of such a file. Throws `Error` naming `source`.
  [[nodiscard]] static Tokenizer from_vocab(std::string_view text,
                                            const std::string& source = "vocabulary") {
    const std::size_t first = (std::min)(text.find_first_not_of(" \t\r\n"), text.size());
    return text.substr(first).starts_with('{') ? from_web_rwkv_json(text, source)
                                               : from_vocab_text(text, source);
  }

  /// The text of an official vocabulary file: lines "id literal length". Throws `Error` naming
  /// `source` and the line.
  [[nodiscard]] static Tokenizer from_vocab_text(std::string_view text,
                                                 const std::string& source = "vocabulary") {
    return Tokenizer(io::read_vocabulary_text(text, source), source);
  }

  /// The text of web-rwkv's vocabulary file. Throws `Error` naming `source`.
  [[nodiscard]] static Tokenizer from_web_rwkv_json(std::string_view text,
                                                    const std::string& source = "vocabulary") {
    return Tokenizer(io::read_vocabulary_json(text, source), source);
  }
#endif

  /// The vocabulary that a model file carries (GGUF). Throws `Error` (argument) if it has none.
  [[nodiscard]] static Tokenizer from_checkpoint(const io::Checkpoint& checkpoint) {
    if (!checkpoint.vocabulary)
      fail_with(ErrorCategory::argument, checkpoint.source, ": this file carries no vocabulary");
    return Tokenizer(*checkpoint.vocabulary, checkpoint.source);
  }

  /// One token per byte: 256 ids, id = byte.
  [[nodiscard]] static Tokenizer bytes() {
    io::Vocabulary vocabulary;
    for (int byte = 0; byte < 256; ++byte) vocabulary.emplace_back(1, static_cast<char>(byte));
    return Tokenizer(vocabulary, "bytes");
  }

  static constexpr std::size_t max_token_bytes = 1024;

  /// Number of ids: the highest one plus 1.
  [[nodiscard]] std::size_t vocab_size() const noexcept { return tables_->begins.size() - 1; }

  /// Appends the tokens of `text`, which need not be UTF-8. Throws `Error` (argument) at a byte
  /// that no token begins with; `out` then ends with the tokens before it. O(text * longest token),
  /// in practice linear.
  void encode(std::string_view text, std::vector<Token>& out) const {
    const ByteTrie& trie = tables_->trie;
    for (std::size_t at = 0; at < text.size();) {
      const ByteTrie::Match match = trie.longest_prefix(text.substr(at));
      if (match.length == 0)
        fail_with(ErrorCategory::argument, tables_->source, ": no token begins with byte ",
                  unsigned{static_cast<unsigned char>(text[at])}, ", which is at offset ", at);
      out.push_back(match.token);
      at += match.length;
    }
  }
  [[nodiscard]] std::vector<Token> encode(std::string_view text) const {
    std::vector<Token> tokens;
    tokens.reserve(text.size() / 3 + 1);
    encode(text, tokens);
    return tokens;
  }

  /// The bytes of a token; valid as long as a copy of this tokenizer lives. Throws `Error`
  /// (argument) for an id past the vocabulary.
  [[nodiscard]] std::string_view token_bytes(Token token) const {
    if (token >= vocab_size())
      fail_with(ErrorCategory::argument, "token ", token, " is past the vocabulary of ",
                vocab_size());
    const std::uint32_t begin = tables_->begins[token];
    return std::string_view(tables_->text).substr(begin, tables_->begins[token + 1] - begin);
  }

  /// The bytes of all tokens, one after the other. Throws as `token_bytes`.
  [[nodiscard]] std::string decode(std::span<const Token> tokens) const {
    std::string text;
    for (const Token token : tokens) text += token_bytes(token);
    return text;
  }

 private:
  struct Tables {
    Tables(const io::Vocabulary& vocabulary, const std::string& name)
        : source(name), trie(sorted(vocabulary, name)) {
      begins.reserve(vocabulary.size() + 1);
      begins.push_back(0);
      for (const std::string& bytes : vocabulary) {
        text += bytes;
        begins.push_back(static_cast<std::uint32_t>(text.size()));
      }
    }

    static std::vector<ByteTrie::Entry> sorted(const io::Vocabulary& vocabulary,
                                               const std::string& source) {
      if (vocabulary.size() > io::detail::max_vocabulary)
        fail_with(ErrorCategory::unsupported, source, ": has ", vocabulary.size(), " tokens, only ",
                  io::detail::max_vocabulary, " are supported");
      std::vector<ByteTrie::Entry> entries;
      entries.reserve(vocabulary.size());
      for (std::size_t id = 0; id < vocabulary.size(); ++id) {
        if (vocabulary[id].size() > max_token_bytes)
          fail_with(ErrorCategory::unsupported, source, ": token ", id, " has ",
                    vocabulary[id].size(), " bytes, only ", max_token_bytes, " are supported");
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

    std::string source;
    ByteTrie trie;
    std::string text;                   // the bytes of all tokens by id
    std::vector<std::uint32_t> begins;  // token id: text from begins[id] to begins[id + 1]
  };

  std::shared_ptr<const Tables> tables_;
};

/// Decodes tokens as they come, without ever emitting half a UTF-8 character. Bytes that are no
/// UTF-8 pass unchanged, as soon as it is certain that they are none: all pieces together are what
/// `Tokenizer::decode` gives. A value type.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  /// The text that is complete with this token; valid until the next call. Throws as
  /// `Tokenizer::token_bytes`, with nothing changed.
  std::string_view push(Token token) { return stream_.push(tokenizer_.token_bytes(token)); }

  /// At the end: the bytes that still waited for the rest of a character.
  std::string_view flush() { return stream_.flush(); }

 private:
  Tokenizer tokenizer_;
  Utf8Stream stream_;
};

}  // namespace rwkv::inline RWKV_ABI
