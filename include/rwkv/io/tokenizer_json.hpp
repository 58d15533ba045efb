// SPDX-License-Identifier: Apache-2.0
// The tokenizer.json of Hugging Face's repositories, where it holds RWKV's vocabulary:
//   {"added_tokens": [{"id": 0, "content": "<|rwkv_tokenizer_end_of_text|>", "special": true}],
//    "decoder": {"type": "ByteLevel"},
//    "model": {"type": "WordLevel", "vocab": {"a": 98, "\u0120the": 4811, ...}}}
// A text stands for bytes, each written as one character of GPT-2's alphabet: printable bytes as
// themselves, the other 68 in order as U+0100, U+0101, ... Special tokens and those called U+E000
// "rwkv_reserved_<id>" are never made from text.
#pragma once

#include <rwkv/io/json_events.hpp>
#include <rwkv/io/vocabulary.hpp>

#include <array>
#include <set>
#include <utility>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// Byte by character of GPT-2's alphabet; -1 for characters that are not in it.
inline constexpr auto gpt2_alphabet = [] {
  std::array<std::int16_t, 256 + 68> bytes{};
  for (auto& byte : bytes) byte = -1;
  std::size_t others = 256;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    bytes[itself ? byte : others++] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}();

/// The bytes that `text`, which is UTF-8, stands for; nothing if a character is none of the
/// alphabet.
[[nodiscard]] inline std::optional<std::string> from_gpt2_alphabet(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::size_t character = static_cast<unsigned char>(text[i]);
    if (character >= 0x80) {
      if (character >= 0xe0 || ++i == text.size()) return std::nullopt;
      character = (character & 0x1fu) << 6 | (static_cast<unsigned char>(text[i]) & 0x3fu);
    }
    if (character >= gpt2_alphabet.size() || gpt2_alphabet[character] < 0) return std::nullopt;
    bytes += static_cast<char>(gpt2_alphabet[character]);
  }
  return bytes;
}

class TokenizerJsonEvents final : public JsonEvents {
 public:
  bool null() override { return true; }
  bool boolean(bool value) override {
    if (in("added_tokens", 3) && keys_[3] == "special") added_.back().special = value;
    if (at(1) == "pre_tokenizer" && key_ == "add_prefix_space" && value) prefix_space_ = true;
    return true;
  }
  bool number_integer(std::int64_t) override { return in_vocabulary() ? refuse_id() : true; }
  bool number_float(double) override { return in_vocabulary() ? refuse_id() : true; }
  bool number_unsigned(std::uint64_t number) override {
    if (in_vocabulary()) entries_.emplace_back(number, std::move(key_));
    if (in("added_tokens", 3) && keys_[3] == "id") added_.back().id = number;
    return true;
  }
  bool string(std::string& text) override {
    if (in_vocabulary()) return refuse_id();
    if (in("model", 2) && keys_[2] == "type") type_ = std::move(text);
    if (at(1) == "normalizer" && key_ == "type" && text != "Sequence")
      normaliser_ = std::move(text);
    if (at(1) == "pre_tokenizer" && key_ == "type" && text != "Sequence" && text != "ByteLevel" &&
        text != "Split")
      pre_tokenizer_ = std::move(text);
    if (at(1) == "decoder" && key_ == "type") (text == "ByteLevel" ? bytes_ : decoder_) = text;
    if (in("added_tokens", 3) && keys_[3] == "content") added_.back().content = std::move(text);
    return true;
  }

  bool start_object() override {
    ++depth_;
    if (in("model", 2)) model_ = true;
    if (in("added_tokens", 3)) added_.emplace_back();
    if (depth_ < keys_.size()) keys_[depth_].clear();
    return true;
  }
  bool end_object() override { return depth_-- > 0; }
  bool start_array() override {
    ++depth_;
    if (depth_ < keys_.size()) keys_[depth_].clear();
    return true;
  }
  bool end_array() override { return depth_-- > 0; }
  bool key(std::string& name) override {
    key_ = std::move(name);
    if (depth_ < keys_.size() && !in_vocabulary()) keys_[depth_] = key_;
    if (in("model", 2) && key_ == "merges") merges_ = true;
    return true;
  }

  [[nodiscard]] Vocabulary vocabulary(const std::string& source) {
    if (!model_) fail_with(ErrorCategory::format, source, ": this JSON file holds no vocabulary");
    if (merges_ && type_.empty()) type_ = "BPE";
    if (type_ != "WordLevel")
      fail_with(ErrorCategory::unsupported, source, ": this is a tokenizer of type ",
                type_.empty() ? "(none)" : printable(type_),
                ", another algorithm than RWKV's (WordLevel); a World model's vocabulary is the "
                "file rwkv_vocab_v20230424.txt: name that instead");
    if (!without_id_.empty())
      fail_with(ErrorCategory::format, source, ": the token ", without_id_, " has no id");
    if (!normaliser_.empty())
      fail_with(ErrorCategory::unsupported, source, ": this tokenizer changes texts first (",
                printable(normaliser_), "), which RWKV's does not");
    if (!pre_tokenizer_.empty())
      fail_with(ErrorCategory::unsupported, source, ": this tokenizer takes texts apart first (",
                printable(pre_tokenizer_), "), which RWKV's does not");
    if (prefix_space_)
      fail_with(ErrorCategory::unsupported, source,
                ": this tokenizer puts a space before texts, which RWKV's does not");
    if (!decoder_.empty() && bytes_.empty())
      fail_with(ErrorCategory::unsupported, source, ": this tokenizer's decoder is ",
                printable(decoder_), ", not ByteLevel");
    std::set<std::uint64_t> special;
    for (const Added& token : added_)
      if (token.special) special.insert(token.id);
    Vocabulary tokens;
    const auto add = [&](std::uint64_t id, std::string&& bytes) {
      if (const std::string problem = add_entry(tokens, id, std::move(bytes)); !problem.empty())
        fail_with(ErrorCategory::format, source, ": the vocabulary is damaged: ", problem);
    };
    for (auto& [id, text] : entries_) {
      if (special.contains(id) || text.starts_with(reserved) || text == end_of_text) continue;
      auto bytes = from_gpt2_alphabet(text);
      if (!bytes)
        fail_with(ErrorCategory::format, source, ": the token ", id, " ", printable(text),
                  " has characters that stand for no byte");
      add(id, std::move(*bytes));
    }
    for (Added& token : added_)
      if (!token.special && !token.content.starts_with(reserved) && token.content != end_of_text &&
          (token.id >= tokens.size() || tokens[static_cast<std::size_t>(token.id)].empty()))
        add(token.id, std::move(token.content));
    return tokens;
  }

 private:
  struct Added {
    std::uint64_t id = 0;
    std::string content;
    bool special = false;
  };

  static constexpr std::string_view reserved = "\xee\x80\x80";  // U+E000
  static constexpr std::string_view end_of_text = "<|rwkv_tokenizer_end_of_text|>";

  /// The key that leads to depth `depth` + 1.
  [[nodiscard]] std::string_view at(std::size_t depth) const {
    return depth_ >= depth ? std::string_view(keys_[depth]) : std::string_view();
  }
  [[nodiscard]] bool in(std::string_view section, std::size_t depth) const {
    return depth_ == depth && keys_[1] == section;
  }
  [[nodiscard]] bool in_vocabulary() const { return in("model", 3) && keys_[2] == "vocab"; }
  // Later, if the model is of the right type at all.
  bool refuse_id() {
    if (without_id_.empty()) without_id_ = printable(key_);
    return true;
  }

  std::size_t depth_ = 0;
  std::array<std::string, 4> keys_;  // the last key of each depth
  std::string key_;
  std::vector<std::pair<std::uint64_t, std::string>> entries_;
  std::vector<Added> added_;
  std::string type_, normaliser_, pre_tokenizer_, decoder_, bytes_, without_id_;
  bool model_ = false;
  bool merges_ = false;
  bool prefix_space_ = false;
};

}  // namespace detail

/// Reads the text of a tokenizer.json; `source` names it in messages. Throws `Error` (format) if it
/// is damaged, (unsupported) for another algorithm than RWKV's, by name.
[[nodiscard]] inline Vocabulary read_tokenizer_json(std::string_view text,
                                                    const std::string& source) {
  detail::TokenizerJsonEvents events;
  detail::parse_json(text, events, source, "the tokenizer");
  Vocabulary vocabulary = events.vocabulary(source);
  if (vocabulary.empty()) fail_with(ErrorCategory::format, source, ": holds no tokens");
  return vocabulary;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
