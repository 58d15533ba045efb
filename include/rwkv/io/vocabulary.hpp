// SPDX-License-Identifier: Apache-2.0
// What every vocabulary file becomes: token bytes by id.
#pragma once

#include <rwkv/core/conventions.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/untrusted.hpp>

#include <array>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// No RWKV vocabulary has more ids; it bounds what a line like "4000000000 'a' 1" can allocate.
inline constexpr std::uint64_t max_vocabulary = std::uint64_t{1} << 18;

/// Adds an entry; returns what is wrong with it, or nothing.
[[nodiscard]] inline std::string add_entry(Vocabulary& vocabulary, std::uint64_t id,
                                           std::string&& bytes) {
  if (id >= max_vocabulary)
    return "id " + std::to_string(id) + " is not below " + std::to_string(max_vocabulary);
  // What ends texts is called something, but never made from text.
  constexpr std::array<std::string_view, 5> ends{"<|endoftext|>", "<|rwkv_tokenizer_end_of_text|>",
                                                 "<|end_of_text|>", "<s>", "</s>"};
  if (id == 0 && bytes.empty()) return {};
  for (const std::string_view end : ends)
    if (id == 0 && bytes == end) return {};
  if (bytes.empty()) return "id " + std::to_string(id) + " is an empty string";
  if (id >= vocabulary.size()) vocabulary.resize(static_cast<std::size_t>(id) + 1);
  std::string& entry = vocabulary[static_cast<std::size_t>(id)];
  if (!entry.empty()) return "id " + std::to_string(id) + " occurs twice";
  entry = std::move(bytes);
  return {};
}

}  // namespace detail

/// Ids up to the last one that has bytes.
[[nodiscard]] inline std::size_t ids_in_use(const Vocabulary& vocabulary) noexcept {
  std::size_t ids = vocabulary.size();
  while (ids > 0 && vocabulary[ids - 1].empty()) --ids;
  return ids;
}

/// What is wrong with a vocabulary of `ids` ids for a model with `rows` rows of logits, or nothing
/// (internal::vocabulary_fits).
[[nodiscard]] inline std::string vocabulary_misfit(std::size_t ids, std::size_t rows) {
  if (rwkv::internal::vocabulary_fits(ids, rows)) return {};
  return "this vocabulary has ids up to " + std::to_string(ids - (ids > 0)) + ", and the model " +
         std::to_string(rows) + " tokens: they do not belong together";
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
