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

/// The architecture of files whose eigenvalues are extended, or whose norms are not the ones that
/// other programs take for granted: these, which would compute something else, refuse them.
inline constexpr std::string_view gguf_extended = "rwkv7-extended";

using GgufNames = std::pair<std::string_view, std::string_view>;  // GGUF, official

inline constexpr std::array<GgufNames, 6> gguf_global_names{
    {{"token_embd.weight", "emb.weight"},
     {"token_embd_norm.weight", "blocks.0.ln0.weight"},
     {"token_embd_norm.bias", "blocks.0.ln0.bias"},
     {"output_norm.weight", "ln_out.weight"},
     {"output_norm.bias", "ln_out.bias"},
     {"output.weight", "head.weight"}}};

inline constexpr std::array<GgufNames, 14> gguf_block_names{
    {{"attn_norm.weight", "ln1.weight"},
     {"attn_norm.bias", "ln1.bias"},
     {"attn_norm_2.weight", "ln2.weight"},
     {"attn_norm_2.bias", "ln2.bias"},
     {"time_mix_ln.weight", "att.ln_x.weight"},
     {"time_mix_ln.bias", "att.ln_x.bias"},
     {"time_mix_receptance.weight", "att.receptance.weight"},
     {"time_mix_key.weight", "att.key.weight"},
     {"time_mix_value.weight", "att.value.weight"},
     {"time_mix_output.weight", "att.output.weight"},
     {"time_mix_r_k.weight", "att.r_k"},
     {"channel_mix_lerp_k.weight", "ffn.x_k"},
     {"channel_mix_key.weight", "ffn.key.weight"},
     {"channel_mix_value.weight", "ffn.value.weight"}}};

inline constexpr std::string_view gguf_fused_shift = "time_mix_lerp_fused.weight";

/// The official name of an rwkv7 GGUF tensor, or nothing.
[[nodiscard]] inline std::optional<OfficialName> official_from_gguf(std::string_view name) {
  for (const auto& [gguf, official] : gguf_global_names)
    if (name == gguf) return OfficialName{std::string(official)};
  const auto block = split_block(name, "blk.");
  if (!block) return std::nullopt;
  const std::string prefix = "blocks." + std::string(block->first) + '.';
  for (const auto& [gguf, official] : gguf_block_names)
    if (block->second == gguf) return OfficialName{prefix + std::string(official)};
  if (block->second == gguf_fused_shift)
    return OfficialName{.name = prefix + "att.", .fused = true};
  // time_mix_w0.weight ... time_mix_g2.weight, time_mix_k_k.weight, time_mix_k_a.weight
  constexpr std::string_view before = "time_mix_";
  constexpr std::string_view after = ".weight";
  std::string_view rest = block->second;
  if (!rest.starts_with(before) || !rest.ends_with(after)) return std::nullopt;
  rest = rest.substr(before.size(), rest.size() - before.size() - after.size());
  const std::string official = "att." + std::string(rest);
  if (is_low_rank(official)) return OfficialName{prefix + official, true};
  if (is_vector(official)) return OfficialName{prefix + official};
  return std::nullopt;
}

/// The GGUF name of a tensor of an RWKV-7 model; att.x_r ... att.x_g all have that of the tensor
/// they are parts of. Low-rank maps are stored transposed.
[[nodiscard]] inline std::string gguf_from_official(std::string_view name) {
  for (const auto& [gguf, official] : gguf_global_names)
    if (name == official) return std::string(gguf);
  const auto block = split_block(name, "blocks.");
  RWKV_ASSERT(block.has_value());
  const std::string prefix = "blk." + std::string(block->first) + '.';
  for (const auto& [gguf, official] : gguf_block_names)
    if (block->second == official) return prefix + std::string(gguf);
  const std::string_view rest = block->second.substr(std::string_view("att.").size());
  if (rest.starts_with("x_")) return prefix + std::string(gguf_fused_shift);
  return prefix + "time_mix_" + std::string(rest) + ".weight";
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
