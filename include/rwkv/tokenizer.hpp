// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back. The first token of a text is the longest vocabulary entry that it begins
// with, and so on: RWKV's tokenizer, which works on bytes and needs no normalisation.
//
//   const auto tokenizer = rwkv::Tokenizer::from_vocab_file("rwkv_vocab_v20230424.txt");
//   std::vector<rwkv::Token> tokens = tokenizer.encode("Hello world");
//   std::string text = tokenizer.decode(tokens);
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/text/byte_trie.hpp>
#include <rwkv/text/utf8.hpp>

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
#include <filesystem>
#endif
#include <optional>

namespace rwkv::inline RWKV_ABI {

/// A vocabulary that encodes and decodes. Immutable: copies share it, any number of threads may use
/// it at once. All functions throw `Error` (argument) for one that was moved away.
class Tokenizer {
 public:
  /// `vocabulary[id]` are the bytes of token `id`; ids with no bytes are never encoded and decode
  /// to nothing. `source` names the vocabulary in messages. Throws `Error` (format) if two ids have
  /// the same bytes, (unsupported) if a token is longer than `max_token_bytes` or there are more
  /// than 2^18 ids. O(n log n) for n tokens: some 20 ms for 65536.
  explicit Tokenizer(const io::Vocabulary& vocabulary, const std::string& source = "vocabulary");

#if !defined(RWKV_NO_IO)
#if !defined(RWKV_NO_FILES)
  /// Reads the official text file, a Hugging Face tokenizer.json (of type WordLevel) or web-rwkv's
  /// JSON, recognised by content. Throws `Error`.
  [[nodiscard]] static Tokenizer from_vocab_file(const std::filesystem::path& path);
#endif

  /// The content of such a file. Throws `Error` naming `source`.
  [[nodiscard]] static Tokenizer from_vocab(std::string_view text,
                                            const std::string& source = "vocabulary");
  [[nodiscard]] static Tokenizer from_vocab(std::span<const std::byte> content,
                                            const std::string& source = "vocabulary");

  /// The text of an official vocabulary file: lines "id literal length". Throws `Error` naming
  /// `source` and the line.
  [[nodiscard]] static Tokenizer from_vocab_text(std::string_view text,
                                                 const std::string& source = "vocabulary");

  /// The text of web-rwkv's vocabulary file. Throws `Error` naming `source`.
  [[nodiscard]] static Tokenizer from_web_rwkv_json(std::string_view text,
                                                    const std::string& source = "vocabulary");

  /// The text of a Hugging Face tokenizer.json of type WordLevel. Throws `Error` naming `source`,
  /// and the algorithm if it is another one (BPE).
  [[nodiscard]] static Tokenizer from_tokenizer_json(std::string_view text,
                                                     const std::string& source = "vocabulary");
#endif

  /// The vocabulary of a model: carried by its file (GGUF and others), or in its folder
  /// (`rwkv_vocab*.txt`, `.json`, `tokenizer.json`); bytes for a model of 256 tokens with neither.
  /// Throws `Error` (argument) if there is none, or if it belongs to another model (see
  /// `require_fit`).
  [[nodiscard]] static Tokenizer from_checkpoint(const io::Checkpoint& checkpoint);

  /// One token per byte: 256 ids, id = byte.
  [[nodiscard]] static Tokenizer bytes();

  static constexpr std::size_t max_token_bytes = 1024;

  /// Number of ids: the highest one plus 1.
  [[nodiscard]] std::size_t vocab_size() const { return tables().begins.size() - 1; }

  /// Number of ids up to the last one that has bytes: `vocab_size` without what pads it.
  [[nodiscard]] std::size_t ids_in_use() const;

  /// Throws `Error` (argument) unless this can be the vocabulary of a model with `rows` tokens: it
  /// has not more ids, and not so few that they were padded to another size (by up to 63, or up to
  /// a multiple of 4096 that is less than twice as many).
  void require_fit(std::size_t rows) const;

  /// Appends the tokens of `text`, which need not be UTF-8. Throws `Error` (argument) at a byte
  /// that no token begins with; `out` then ends with the tokens before it. O(text * longest token),
  /// in practice linear.
  void encode(std::string_view text, std::vector<Token>& out) const;
  [[nodiscard]] std::vector<Token> encode(std::string_view text) const;

  /// The bytes of a token; valid as long as a copy of this tokenizer lives. Throws `Error`
  /// (argument) for an id past the vocabulary.
  [[nodiscard]] std::string_view token_bytes(Token token) const;

  /// The bytes of all tokens, one after the other. Throws as `token_bytes`.
  [[nodiscard]] std::string decode(std::span<const Token> tokens) const;

 private:
  struct Tables {
    Tables(const io::Vocabulary& vocabulary, const std::string& name);

    std::string source;
    ByteTrie trie;
    std::string text;                   // the bytes of all tokens by id
    std::vector<std::uint32_t> begins;  // token id: text from begins[id] to begins[id + 1]
  };

  [[nodiscard]] const Tables& tables() const {
    if (tables_ == nullptr) fail(ErrorCategory::argument, "this tokenizer was moved away");
    return *tables_;
  }

  std::shared_ptr<const Tables> tables_;
};

/// The first token that both have with different bytes, if there is one: models whose vocabularies
/// differ do not understand each other's tokens. O(total length).
[[nodiscard]] RWKV_FUNCTION std::optional<Token> first_difference(const Tokenizer& a,
                                                                  const Tokenizer& b);

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

#if RWKV_HEADER_ONLY
#include <rwkv/tokenizer.ipp>
#endif
