// SPDX-License-Identifier: Apache-2.0
// GGUF files of architecture "rwkv7": tensors and vocabulary of llama.cpp's conversion, under the
// official names.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/gguf_container.hpp>
#include <rwkv/io/gguf_names.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// True if `bytes` begin like a GGUF file.
[[nodiscard]] inline bool is_gguf(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

/// One file of a model that is in several.
struct ModelPart {
  std::span<const std::byte> bytes;
  std::string source;
};

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
  const std::size_t head_size = entry == checkpoint.metadata.end()
                                    ? 0
                                    : internal::parse<std::size_t>(entry->second).value_or(0);
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
  std::make_heap(extents.begin(), extents.end());  // there are few: less code than std::sort
  std::sort_heap(extents.begin(), extents.end());
  for (std::size_t i = 1; i < extents.size(); ++i)
    if (extents[i].first < extents[i - 1].second)
      fail_with(ErrorCategory::format, source, ": the tensors overlap at data byte ",
                extents[i].first);
}

/// A number that llama.cpp's gguf-split writes into every part of a model.
[[nodiscard]] inline std::size_t split_number(const Gguf& gguf, std::string_view key,
                                              std::size_t otherwise, const std::string& source) {
  const auto entry = gguf.metadata.find(key);
  if (entry == gguf.metadata.end()) return otherwise;
  const std::string& text = entry->second;
  const auto number = internal::parse<std::size_t>(text);
  if (!number)
    fail_with(ErrorCategory::format, source, ": ", std::string(key), " is ", printable(text));
  return *number;
}

/// True for a part of a model that is in several files.
[[nodiscard]] inline bool is_split_gguf(std::span<const std::byte> bytes,
                                        const std::string& source) {
  return split_number(GgufReader(bytes, source).read({}), "split.count", 1, source) > 1;
}

struct GgufPart {
  const ModelPart* file;
  Gguf gguf;
};

/// The directories of all parts, in the order of their numbers.
[[nodiscard]] inline std::vector<GgufPart> open_gguf(std::span<const ModelPart> files) {
  constexpr std::array wanted{gguf_tokens, gguf_token_types};
  std::vector<GgufPart> parts(files.size());
  std::vector<bool> seen(files.size(), false);
  std::size_t tensors = 0;
  for (const ModelPart& file : files) {
    Gguf gguf = GgufReader(file.bytes, file.source).read(wanted);
    const std::size_t count = split_number(gguf, "split.count", 1, file.source);
    const std::size_t number = split_number(gguf, "split.no", 0, file.source);
    if (count != files.size() && !(count == 0 && files.size() == 1))
      fail_with(ErrorCategory::format, file.source, ": this is part ", number + 1, " of ", count,
                " of a model, and ",
                files.size() == 1 ? "the others are not here"
                                  : std::to_string(files.size()) + " parts are here");
    if (number >= files.size() || seen[number])
      fail_with(ErrorCategory::format, file.source, ": split.no is ", number,
                number < files.size() ? ", as in another part" : ", which is past the last part");
    seen[number] = true;
    tensors += gguf.tensors.size();
    parts[number] = {&file, std::move(gguf)};
  }
  if (const std::size_t promised =
          split_number(parts[0].gguf, "split.tensors.count", tensors, parts[0].file->source);
      promised != tensors)
    fail_with(ErrorCategory::format, parts[0].file->source, ": all parts together have ", tensors,
              " tensors, not split.tensors.count = ", promised);
  return parts;
}

inline void add_gguf_tensors(Checkpoint& checkpoint, const Gguf& gguf, const std::string& source) {
  for (const GgufTensor& stored : gguf.tensors) {
    const auto dtype = gguf_dtype(stored.type);
    if (!dtype)
      refuse_tensor(ErrorCategory::unsupported, source, stored.name, " has type ",
                    gguf_type_name(stored.type), ", which is not supported");
    require_whole_blocks(stored.shape, *dtype, source, stored.name);
    const auto size = byte_count(stored.shape, *dtype);
    if (!size || stored.offset > gguf.data.size() || *size > gguf.data.size() - stored.offset)
      refuse_tensor(ErrorCategory::format, source, stored.name, " of shape ",
                    to_string(stored.shape), " lies at ", stored.offset, " of ", gguf.data.size(),
                    " data bytes");
    const auto official = official_from_gguf(stored.name);
    if (!official)
      refuse_tensor(ErrorCategory::unsupported, source, stored.name,
                    " is not part of an RWKV-7 model");
    if (official->name.starts_with("blocks.0.att.v") && official->name.size() == 15) continue;
    add_official(checkpoint, *official,
                 Tensor{*dtype, stored.shape, c_order(stored.shape),
                        gguf.data.subspan(static_cast<std::size_t>(stored.offset), *size)});
  }
  refuse_overlaps(gguf, source);
}

}  // namespace detail

/// Reads a GGUF model of architecture rwkv7 (or what `convert` calls rwkv7-extended) in one file or
/// in the parts that llama.cpp's gguf-split makes of one, in any order; their bytes must outlive
/// the result. Tensors (F32, F16, BF16, Q4_0 ... Q8_0, Q2_K ... Q6_K, IQ4_NL) are views under
/// official names; scalar metadata is kept as text; the vocabulary is decoded if it is RWKV's.
/// Block 0's placeholder v0, v1, v2 are left out. Throws `Error` (format) for a damaged file or a
/// part that is missing, (unsupported) for other architectures, tensor types and tensors. Time and
/// memory O(metadata + tensors).
[[nodiscard]] inline Checkpoint read_gguf(std::span<const ModelPart> parts) {
  RWKV_ASSERT(!parts.empty());
  std::vector<detail::GgufPart> opened = detail::open_gguf(parts);
  const std::string& source = opened[0].file->source;
  detail::Gguf& first = opened[0].gguf;
  const auto architecture = first.metadata.find("general.architecture");
  if (architecture == first.metadata.end() ||
      (architecture->second != "rwkv7" && architecture->second != detail::gguf_extended))
    fail_with(
        ErrorCategory::unsupported, source, ": architecture ",
        architecture == first.metadata.end() ? "(none)" : detail::printable(architecture->second),
        " is not supported, only \"rwkv7\"");

  Checkpoint checkpoint;
  checkpoint.source = source;
  checkpoint.format = "gguf";
  checkpoint.in_place = false;
  for (const detail::GgufPart& part : opened)
    detail::add_gguf_tensors(checkpoint, part.gguf, part.file->source);
  checkpoint.metadata = std::move(first.metadata);
  std::erase_if(checkpoint.metadata,
                [](const auto& entry) { return entry.first.starts_with("split."); });
  detail::split_heads(checkpoint);
  const auto tokenizer = checkpoint.metadata.find("tokenizer.ggml.model");
  if (first.texts.contains(detail::gguf_tokens) && tokenizer != checkpoint.metadata.end() &&
      tokenizer->second == "rwkv")
    checkpoint.vocabulary = detail::gguf_vocabulary(first, source);
  return checkpoint;
}

/// The same for a model in one file whose content is `bytes`; `source` names it in messages.
[[nodiscard]] inline Checkpoint read_gguf(std::span<const std::byte> bytes,
                                          const std::string& source) {
  const ModelPart whole{bytes, source};
  return read_gguf(std::span(&whole, 1));
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
