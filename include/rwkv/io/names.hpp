// SPDX-License-Identifier: Apache-2.0
// The naming schemes that .pth and safetensors files come in, and their way to the official names:
//   official          blocks.0.att.w1 [C, D], blocks.0.att.x_r [1, 1, C]
//   fla/Hugging Face  model.layers.0.attn.w_lora.lora.0.weight [D, C], ...attn.x_x [6, C]
//   web-rwkv          official names, low-rank matrices transposed: blocks.0.att.w1 [D, C]
//   wrapped           any of them behind "model.", "module." and the like
//   RWKV-X            official names behind "rwkv.", and moba.0.att.key.weight
#pragma once

#include <rwkv/io/official_names.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// The official name of a tensor of a fla checkpoint without its "model."; nothing if it has none.
/// fla gives the per-head norm an epsilon of 1e-5 N, which equals the official 64e-5 for the
/// official head size N = 64; no official model has another, so the epsilon is not kept.
[[nodiscard]] inline std::optional<OfficialName> official_from_fla(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> global{
      {{"embeddings.weight", "emb.weight"},
       {"norm.weight", "ln_out.weight"},
       {"norm.bias", "ln_out.bias"},
       {"lm_head.weight", "head.weight"}}};
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 17> in_block{
      {{"pre_norm.weight", "ln0.weight"},
       {"pre_norm.bias", "ln0.bias"},
       {"attn_norm.weight", "ln1.weight"},
       {"attn_norm.bias", "ln1.bias"},
       {"ffn_norm.weight", "ln2.weight"},
       {"ffn_norm.bias", "ln2.bias"},
       {"attn.r_proj.weight", "att.receptance.weight"},
       {"attn.k_proj.weight", "att.key.weight"},
       {"attn.v_proj.weight", "att.value.weight"},
       {"attn.o_proj.weight", "att.output.weight"},
       {"attn.g_norm.weight", "att.ln_x.weight"},
       {"attn.g_norm.bias", "att.ln_x.bias"},
       {"attn.k_k", "att.k_k"},
       {"attn.k_a", "att.k_a"},
       {"attn.r_k", "att.r_k"},
       {"ffn.key.weight", "ffn.key.weight"},
       {"ffn.value.weight", "ffn.value.weight"}}};
  for (const auto& [fla, official] : global)
    if (name == fla) return OfficialName{std::string(official)};
  const auto block = split_block(name, "layers.");
  if (!block) return std::nullopt;
  const std::string prefix = "blocks." + std::string(block->first) + '.';
  const std::string_view rest = block->second;
  for (const auto& [fla, official] : in_block)
    if (rest == fla) return OfficialName{prefix + std::string(official)};
  if (rest == "attn.x_x") return OfficialName{.name = prefix + "att.", .fused = true};
  if (rest.starts_with("attn.x_") || rest == "ffn.x_k") {
    std::string official(rest);
    if (official.starts_with("attn")) official.erase(3, 1);
    if (is_vector(official)) return OfficialName{prefix + official};
  }
  static constexpr std::string_view lora = "_lora.lora.";
  if (rest.starts_with("attn.") && rest.size() > 6 && rest.substr(6).starts_with(lora)) {
    const std::string letter = prefix + "att." + rest[5];
    const auto part = rest.substr(6 + lora.size());
    if (part == "0.weight") return OfficialName{letter + '1', true};
    if (part == "2.weight") return OfficialName{letter + '2', true};
    if (part == "2.bias") return OfficialName{letter + '0'};
  }
  return std::nullopt;
}

inline void rename_fla(Checkpoint& checkpoint) {
  auto tensors = std::exchange(checkpoint.tensors, {});
  constexpr std::string_view prefix = "model.";
  for (const auto& [name, tensor] : tensors) {
    const auto bare = std::string_view(name).substr(name.starts_with(prefix) ? prefix.size() : 0);
    const auto official = official_from_fla(bare);
    if (!official)
      refuse_tensor(ErrorCategory::unsupported, checkpoint.source, name,
                    " is not part of an RWKV-7 model");
    add_official(checkpoint, *official, tensor);
  }
}

/// True if `prefix` is put together from what training programs put before every name.
[[nodiscard]] constexpr bool is_wrapper(std::string_view prefix) noexcept {
  for (bool again = true; again && !prefix.empty();) {
    again = false;
    for (const std::string_view part : {"_forward_module.", "module.", "_orig_mod.", "model."})
      if (prefix.starts_with(part)) {
        prefix.remove_prefix(part.size());
        again = true;
      }
  }
  return prefix.empty();
}

/// RWKV-X puts "rwkv." before the names of its RWKV-7 part; the rest is called "moba.<j>....".
inline constexpr std::string_view hybrid_prefix = "rwkv.";

/// Removes "rwkv." from a hybrid model's names.
inline void strip_hybrid_prefix(Checkpoint& checkpoint) {
  if (checkpoint.find("rwkv.emb.weight") == nullptr) return;
  for (auto& [name, tensor] : std::exchange(checkpoint.tensors, {})) {
    const bool prefixed = name.starts_with(hybrid_prefix);
    const std::string bare = name.substr(prefixed ? hybrid_prefix.size() : 0);
    if (!checkpoint.tensors.emplace(bare, std::move(tensor)).second)
      refuse_tensor(ErrorCategory::format, checkpoint.source, bare, " occurs twice");
  }
}

/// Removes a wrapper that all names share.
inline void strip_wrapper(Checkpoint& checkpoint) {
  constexpr std::string_view landmark = "blocks.0.ln1.weight";
  std::string wrapper;
  for (const auto& [name, tensor] : checkpoint.tensors)
    if (name.ends_with(landmark)) wrapper = name.substr(0, name.size() - landmark.size());
  const auto wrapped = [&](const auto& entry) { return entry.first.starts_with(wrapper); };
  if (wrapper.ends_with(hybrid_prefix)) wrapper.resize(wrapper.size() - hybrid_prefix.size());
  if (wrapper.empty() || !is_wrapper(wrapper) ||
      !std::all_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), wrapped))
    return;
  for (auto& [name, tensor] : std::exchange(checkpoint.tensors, {}))
    checkpoint.tensors.emplace(name.substr(wrapper.size()), std::move(tensor));
}

/// True if the low-rank matrices are stored transposed, which only their shapes tell: w1 is [C, D]
/// in official files and [D, C] in those of web-rwkv. With D = C throughout it cannot be told, and
/// the file counts as official.
[[nodiscard]] inline bool low_rank_transposed(const Checkpoint& checkpoint) {
  const Tensor* embedding = checkpoint.find("emb.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) return false;
  const std::size_t embed = embedding->shape[1];
  const std::string* official = nullptr;
  const std::string* transposed = nullptr;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const auto block = split_block(name, "blocks.");
    if (!block || !is_low_rank(block->second) || tensor.shape.size() != 2) continue;
    const bool first = name.back() == '1';
    const std::size_t outer = tensor.shape[first ? 0 : 1];
    const std::size_t inner = tensor.shape[first ? 1 : 0];
    if (outer == embed && inner != embed) official = &name;
    if (inner == embed && outer != embed) transposed = &name;
  }
  if (official != nullptr && transposed != nullptr)
    fail_with(ErrorCategory::format, checkpoint.source, ": tensor ", printable(*transposed),
              " is transposed, but ", printable(*official), " is not");
  return transposed != nullptr;
}

/// Official shapes, and web-rwkv's transpositions undone.
inline void normalise_official(Checkpoint& checkpoint) {
  const bool web = low_rank_transposed(checkpoint);
  auto tensors = std::exchange(checkpoint.tensors, {});
  for (auto& [name, tensor] : tensors) {
    constexpr std::string_view lora_a = ".lora.0";
    constexpr std::string_view lora_b = ".lora.1";
    const auto block = split_block(name, "blocks.");
    OfficialName official{name};
    if (block && name.ends_with(lora_a)) {  // web-rwkv's way to write lora_A
      official = {name.substr(0, name.size() - lora_a.size()) + ".lora_A", true};
    } else if (block && name.ends_with(lora_b)) {
      official.name = name.substr(0, name.size() - lora_b.size()) + ".lora_B";
    } else if (web && block && is_low_rank(block->second)) {
      official.transposed = true;
    } else if (web && block && block->second == "att.time_state") {
      tensor = tensor.transposed();
    }
    add_official(checkpoint, official, tensor);
  }
}

}  // namespace detail

/// `checkpoint` under official names: fla, web-rwkv, RWKV-X and wrapped names are recognised and
/// mapped, vectors become [1, 1, C], and nothing is copied. The sparse blocks of RWKV-X keep their
/// `moba.<j>.` names, as do names that belong to no scheme (states, optimiser data). A file with
/// `blocks.<i>.att.time_state` alone is taken as official ([H, value, key]). Throws `Error`
/// (format) when names collide or orientations contradict each other, (unsupported) for a tensor in
/// a fla file that RWKV-7 does not have.
[[nodiscard]] inline Checkpoint to_official_names(Checkpoint checkpoint) {
  if (checkpoint.find("model.layers.0.attn.r_proj.weight") != nullptr ||
      checkpoint.find("layers.0.attn.r_proj.weight") != nullptr) {
    detail::rename_fla(checkpoint);
    return checkpoint;
  }
  detail::strip_wrapper(checkpoint);
  detail::strip_hybrid_prefix(checkpoint);
  detail::normalise_official(checkpoint);
  return checkpoint;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
