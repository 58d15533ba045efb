// SPDX-License-Identifier: Apache-2.0
// The vocabulary file of web-rwkv: a JSON object from ids to tokens. A token is a string, or an
// array of byte values where the bytes are no UTF-8:
//   {"33": " ", "129": [128], ...}
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/json_events.hpp>
#include <rwkv/io/vocabulary.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

class VocabularyEvents final : public JsonEvents {
 public:
  Vocabulary vocabulary;

  bool start_object() override {
    if (in_object_) return refuse("an object");
    in_object_ = true;
    return true;
  }
  bool end_object() override { return true; }

  bool key(std::string& name) override {
    const auto id = internal::parse<decltype(id_)>(name);
    if (!id) return stop("has the key " + printable(name) + ", which is no token id");
    id_ = *id;
    return true;
  }

  bool string(std::string& text) override {
    if (!in_object_ || in_array_) return refuse("a string");
    return add(std::move(text));
  }

  bool start_array() override {
    if (!in_object_ || in_array_) return refuse("an array");
    in_array_ = true;
    bytes_.clear();
    return true;
  }
  bool number_unsigned(std::uint64_t number) override {
    if (!in_array_ || number > 255) return refuse("the number " + std::to_string(number));
    bytes_ += static_cast<char>(number);
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    return add(std::move(bytes_));
  }

 private:
  bool add(std::string&& bytes) {
    std::string problem = add_entry(vocabulary, id_, std::move(bytes));
    return problem.empty() || stop("is damaged: " + problem);
  }

  bool in_object_ = false;
  bool in_array_ = false;
  std::uint64_t id_ = 0;
  std::string bytes_;
};

}  // namespace detail

/// Reads the text of a vocabulary file; `source` names it in messages. Throws `Error` (format) if
/// it is not JSON of this form or repeats an id.
[[nodiscard]] inline Vocabulary read_vocabulary_json(std::string_view text,
                                                     const std::string& source) {
  detail::VocabularyEvents events;
  detail::parse_json(text, events, source, "vocabulary");
  if (events.vocabulary.empty()) fail_with(ErrorCategory::format, source, ": holds no tokens");
  return std::move(events.vocabulary);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
