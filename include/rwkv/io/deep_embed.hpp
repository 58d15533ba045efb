// SPDX-License-Identifier: Apache-2.0
// DeepEmbed as released checkpoints have it: the table of a layer is there in two parts, a table of
// its own and what a matrix makes of the embedding table. Here they become one.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/shape.hpp>
#include <rwkv/weights.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Whether the tables have that second part, "blocks.<i>.ffn.s_emb_x.weight".
[[nodiscard]] inline bool has_deep_residual(const Checkpoint& c) noexcept {
  return c.find("blocks.0.ffn.s_emb_x.weight") != nullptr;
}

/// Adds it to the first: table [V, R R] += LN(emb; ln0) s_emb_x^T. Time O(V R R C). Throws Error
/// (format) for an s_emb_x of another shape.
RWKV_FUNCTION void add_deep_residual(const Checkpoint& c, const Dimensions& d,
                                     const NormWeights& ln0, std::size_t layer,
                                     std::span<float> table, ExecutorRef exec);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/deep_embed.ipp>
#endif
