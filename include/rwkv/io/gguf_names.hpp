// SPDX-License-Identifier: Apache-2.0
// What llama.cpp calls the tensors of an RWKV-7 model, and its words for tokens.
#pragma once

#include <rwkv/io/official_names.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

inline constexpr std::string_view gguf_tokens = "tokenizer.ggml.tokens";
inline constexpr std::string_view gguf_token_types = "tokenizer.ggml.token_type";
inline constexpr std::int32_t gguf_normal_token = 1;
inline constexpr std::int32_t gguf_control_token = 3;
inline constexpr std::int32_t gguf_unused_token = 5;

/// The architecture of files whose eigenvalues are extended, whose norms are not the ones that other
/// programs take for granted, or which have DeepEmbed: these, which would compute something else,
/// refuse them.
inline constexpr std::string_view gguf_extended = "rwkv7-extended";

/// The official name of an rwkv7 GGUF tensor, or nothing.
[[nodiscard]] inline std::optional<OfficialName> official_from_gguf(std::string_view name) {
  for (const TensorSpec& spec : global_tensors)
    if (name == spec.gguf) return OfficialName{std::string(spec.name)};
  const auto block = split_block(name, "blk.");
  if (!block) return std::nullopt;
  const std::string prefix = "blocks." + std::string(block->first) + '.';
  if (block->second == gguf_fused_shift)
    return OfficialName{.name = prefix + "att.", .fused = true};
  std::optional<OfficialName> official;
  const auto look = [&](const TensorSpec& spec) {
    if (block->second == spec.gguf)
      official = {prefix + std::string(spec.name), spec.role == TensorRole::low_rank};
  };
  for (const TensorSpec& spec : block_tensors) look(spec);
  for (const TensorSpec& spec : deep_embed_tensors) look(spec);
  return official;
}

/// The GGUF name of a tensor of an RWKV-7 model; att.x_r ... att.x_g all have that of the tensor
/// they are parts of. Low-rank maps are stored transposed.
[[nodiscard]] inline std::string gguf_from_official(std::string_view name) {
  for (const TensorSpec& spec : global_tensors)
    if (name == spec.name) return std::string(spec.gguf);
  const auto block = split_block(name, "blocks.");
  RWKV_ASSERT(block.has_value());
  const TensorSpec* const spec = find_block_tensor(block->second);
  RWKV_ASSERT(spec != nullptr);
  return "blk." + std::string(block->first) + '.' + std::string(spec->gguf);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
