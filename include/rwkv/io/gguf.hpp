// SPDX-License-Identifier: Apache-2.0
// GGUF files of architecture "rwkv7": tensors and vocabulary of llama.cpp's conversion, under the
// official names.
#pragma once

#include <rwkv/io/gguf_container.hpp>
#include <rwkv/io/gguf_names.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// True if `bytes` begin like a GGUF file.
[[nodiscard]] inline bool is_gguf(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

namespace detail {

/// The bytes of a token: the text is the inside of a Python bytes literal.
[[nodiscard]] inline std::string unescape_token(std::string_view text, const std::string& source) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    const char escape = ++i < text.size() ? text[i] : '\0';
    if (escape == 'x') {
      unsigned value = 0;
      const char* begin = text.data() + i + 1;
      const char* end = begin + (std::min<std::size_t>)(2, text.size() - i - 1);
      const auto result = std::from_chars(begin, end, value, 16);
      if (result.ptr != begin + 2)
        fail_with(ErrorCategory::format, source, ": the token ", printable(text),
                  " has a damaged escape");
      bytes += static_cast<char>(value);
      i += 2;
    } else if (escape == '\0') {
      fail_with(ErrorCategory::format, source, ": the token ", printable(text),
                " ends in the middle of an escape");
    } else {
      bytes += escape == 't' ? '\t' : escape == 'n' ? '\n' : escape == 'r' ? '\r' : escape;
    }
  }
  return bytes;
}

/// Token bytes by id; empty for control tokens and for the ids that only pad the vocabulary.
[[nodiscard]] inline std::vector<std::string> gguf_vocabulary(const Gguf& gguf,
                                                              const std::string& source) {
  const auto& texts = gguf.texts.find(gguf_tokens)->second;
  const auto types = gguf.integers.find(gguf_token_types);
  if (types != gguf.integers.end() && types->second.size() != texts.size())
    fail_with(ErrorCategory::format, source, ": ", types->second.size(), " token types for ",
              texts.size(), " tokens");
  std::vector<std::string> vocabulary(texts.size());
  for (std::size_t id = 0; id < texts.size(); ++id) {
    // Without types, as in RWKV's own vocabulary: 0 ends a text, everything else is one.
    const std::int64_t type = types != gguf.integers.end() ? types->second[id]
                              : id == 0                    ? gguf_control_token
                                                           : gguf_normal_token;
    if (type == gguf_control_token || type == gguf_unused_token ||
        texts[id] == "[PAD" + std::to_string(id) + "]")
      continue;
    vocabulary[id] = unescape_token(texts[id], source);
  }
  return vocabulary;
}

/// r_k is stored flat; its rows are the heads.
inline void split_heads(Checkpoint& checkpoint) {
  const auto entry = checkpoint.metadata.find("rwkv7.wkv.head_size");
  std::size_t head_size = 0;
  if (entry != checkpoint.metadata.end())
    std::from_chars(entry->second.data(), entry->second.data() + entry->second.size(), head_size);
  for (auto& [name, tensor] : checkpoint.tensors) {
    if (!name.ends_with(".att.r_k") || tensor.shape.size() != 1) continue;
    if (head_size == 0 || tensor.shape[0] % head_size != 0)
      refuse_tensor(ErrorCategory::format, checkpoint.source, name, " has ", tensor.shape[0],
                    " elements, which are no heads of rwkv7.wkv.head_size = ", head_size);
    tensor.shape = {tensor.shape[0] / head_size, head_size};
    tensor.stride = c_order(tensor.shape);
  }
}

inline void refuse_overlaps(const Gguf& gguf, const std::string& source) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> extents;
  for (const GgufTensor& tensor : gguf.tensors)
    if (const auto size = byte_count(tensor.shape, *gguf_dtype(tensor.type)); *size > 0)
      extents.emplace_back(tensor.offset, tensor.offset + *size);
  std::sort(extents.begin(), extents.end());
  for (std::size_t i = 1; i < extents.size(); ++i)
    if (extents[i].first < extents[i - 1].second)
      fail_with(ErrorCategory::format, source, ": the tensors overlap at data byte ",
                extents[i].first);
}

}  // namespace detail

/// Reads a GGUF model of architecture rwkv7 (or what `convert` calls rwkv7-extended) whose content
/// is `bytes`, which must outlive the result. Tensors (F32, F16, BF16, Q4_0 ... Q8_0, Q2_K ...
/// Q6_K, IQ4_NL) are views under official names; scalar metadata is kept as text; the vocabulary is
/// decoded if it is RWKV's. Block 0's placeholder v0, v1, v2 are left out. Throws `Error` (format)
/// for a damaged file, (unsupported) for other architectures, tensor types and tensors. Time and
/// memory O(metadata + tensors).
[[nodiscard]] inline Checkpoint read_gguf(std::span<const std::byte> bytes,
                                          const std::string& source) {
  constexpr std::array wanted{detail::gguf_tokens, detail::gguf_token_types};
  detail::Gguf gguf = detail::GgufReader(bytes, source).read(wanted);
  const auto architecture = gguf.metadata.find("general.architecture");
  if (architecture == gguf.metadata.end() ||
      (architecture->second != "rwkv7" && architecture->second != detail::gguf_extended))
    fail_with(
        ErrorCategory::unsupported, source, ": architecture ",
        architecture == gguf.metadata.end() ? "(none)" : detail::printable(architecture->second),
        " is not supported, only \"rwkv7\"");

  Checkpoint checkpoint;
  checkpoint.source = source;
  checkpoint.format = "gguf";
  for (const detail::GgufTensor& stored : gguf.tensors) {
    const auto dtype = detail::gguf_dtype(stored.type);
    if (!dtype)
      detail::refuse_tensor(ErrorCategory::unsupported, source, stored.name, " has type ",
                            detail::gguf_type_name(stored.type), ", which is not supported");
    detail::require_whole_blocks(stored.shape, *dtype, source, stored.name);
    const auto size = detail::byte_count(stored.shape, *dtype);
    if (!size || stored.offset > gguf.data.size() || *size > gguf.data.size() - stored.offset)
      detail::refuse_tensor(ErrorCategory::format, source, stored.name, " of shape ",
                            to_string(stored.shape), " lies at ", stored.offset, " of ",
                            gguf.data.size(), " data bytes");
    const auto official = detail::official_from_gguf(stored.name);
    if (!official)
      detail::refuse_tensor(ErrorCategory::unsupported, source, stored.name,
                            " is not part of an RWKV-7 model");
    if (official->name.starts_with("blocks.0.att.v") && official->name.size() == 15) continue;
    detail::add_official(checkpoint, *official,
                         Tensor{*dtype, stored.shape, c_order(stored.shape),
                                gguf.data.subspan(static_cast<std::size_t>(stored.offset), *size)});
  }
  detail::refuse_overlaps(gguf, source);
  checkpoint.metadata = std::move(gguf.metadata);
  detail::split_heads(checkpoint);
  const auto tokenizer = checkpoint.metadata.find("tokenizer.ggml.model");
  if (gguf.texts.contains(detail::gguf_tokens) && tokenizer != checkpoint.metadata.end() &&
      tokenizer->second == "rwkv")
    checkpoint.vocabulary = detail::gguf_vocabulary(gguf, source);
  return checkpoint;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
