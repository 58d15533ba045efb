// SPDX-License-Identifier: Apache-2.0
// Writes a vocabulary for rwkv::StaticTokenizer.
#pragma once

#include <rwkv/static_tokenizer.hpp>
#include <rwkv/tokenizer.hpp>

#include <algorithm>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The vocabulary as bytes: see StaticVocabularyHeader. O(n log n) for n tokens.
[[nodiscard]] inline std::vector<std::byte> static_vocabulary(const Tokenizer& tokenizer) {
  std::vector<std::string_view> vocabulary;
  std::vector<std::uint32_t> order;
  std::string text;
  std::vector<std::uint32_t> begins{0};
  for (Token id = 0; id < tokenizer.vocab_size(); ++id) {
    vocabulary.push_back(tokenizer.token_bytes(id));
    if (!vocabulary[id].empty()) order.push_back(id);
    text += vocabulary[id];
    begins.push_back(static_cast<std::uint32_t>(text.size()));
  }
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return vocabulary[a] < vocabulary[b]; });

  StaticVocabularyHeader h{};
  std::copy(std::begin(h.right_magic), std::end(h.right_magic), h.magic);
  h.version = h.right_version;
  h.ids = static_cast<std::uint32_t>(vocabulary.size());
  h.tokens = static_cast<std::uint32_t>(order.size());
  h.text_bytes = static_cast<std::uint32_t>(text.size());
  const internal::VocabularyLayout layout(h);
  h.bytes = layout.end;

  std::vector<std::byte> out(sizeof h);
  const auto put = [&out](std::uint32_t number, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(number >> 8 * i));
  };
  std::size_t rank = 0;
  for (unsigned byte = 0; byte <= 256; ++byte) {
    while (rank < order.size() && static_cast<unsigned char>(vocabulary[order[rank]][0]) < byte)
      ++rank;
    put(static_cast<std::uint32_t>(rank), 4);
  }
  for (const std::uint32_t id : order) put(id, layout.order_width);
  for (std::size_t id = 0; id < begins.size(); id += 32) put(begins[id], 4);
  for (std::size_t id = 0; id < begins.size(); ++id) put(begins[id] - begins[id / 32 * 32], 2);
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
  h.checksum = internal::blob_checksum(std::span(out).subspan(sizeof h),
                                       internal::blob_checksum(std::as_bytes(std::span(&h, 1))));
  std::copy_n(reinterpret_cast<const std::byte*>(&h), sizeof h, out.begin());
  return out;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
