// SPDX-License-Identifier: Apache-2.0
// DeepEmbed as released checkpoints have it: the table of a layer is there in two parts, a table of
// its own and what a matrix makes of the embedding table. Here they become one.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/weight_changes.hpp>
#include <rwkv/shape.hpp>
#include <rwkv/weights.hpp>

#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Whether the tables have that second part, "blocks.<i>.ffn.s_emb_x.weight".
[[nodiscard]] inline bool has_deep_residual(const Checkpoint& c) noexcept {
  return c.find("blocks.0.ffn.s_emb_x.weight") != nullptr;
}

/// Of the name of a second part, that of the first, "blocks.<i>.ffn.s_emb.weight"; empty for other
/// names, and if tables have no second part.
[[nodiscard]] inline std::string deep_table_of(const Checkpoint& c, std::string_view name) {
  constexpr std::string_view residual = ".ffn.s_emb_x.weight";
  if (!name.ends_with(residual) || !has_deep_residual(c)) return {};
  return std::string(name.substr(0, name.size() - residual.size())) + ".ffn.s_emb.weight";
}

/// The second part of a layer's table, [R R, C]. Throws Error (format) for another shape,
/// (unsupported) for elements that are no floats.
[[nodiscard]] RWKV_FUNCTION const Tensor& deep_residual_of(const Checkpoint& c, const Dimensions& d,
                                                           std::size_t layer);

/// Throws Error (unsupported) if adapters change what the tables of such a model are made of.
RWKV_FUNCTION void refuse_changed_residual(const Checkpoint& c, const Dimensions& d,
                                           const WeightChanges* changes);

/// Adds the second part to the first: table [V, R R] += LN(emb; ln0) s_emb_x^T. Time O(V R R C),
/// memory R R C. `between` is called now and then and may throw. Throws Error as
/// `deep_residual_of` does.
RWKV_FUNCTION void add_deep_residual(const Checkpoint& c, const Dimensions& d,
                                     const NormWeights& ln0, std::size_t layer,
                                     std::span<float> table, ExecutorRef exec,
                                     const std::function<void()>& between = {});

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/deep_embed.ipp>
#endif
