// SPDX-License-Identifier: Apache-2.0
// DeepEmbed as released checkpoints have it: the table of a layer is there in two parts, a table of
// its own and what a matrix makes of the embedding table. Here they become one.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/shape.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Side of the matrices of DeepEmbed; 0 for a checkpoint without it. Throws Error (format) if block
/// 0 has a part of it, or tables of another size.
[[nodiscard]] RWKV_FUNCTION std::size_t deep_rank_of(const Checkpoint& c);

/// "blocks.<i>.ffn.s_emb_x.weight", the matrix of the second part.
[[nodiscard]] RWKV_FUNCTION std::string deep_residual_name(std::size_t layer);

/// Whether the tables have that second part. Throws Error (format) if those of some layers do.
[[nodiscard]] RWKV_FUNCTION bool has_deep_residual(const Checkpoint& c, const Dimensions& d);

/// Adds it to the first: table [V, R R] += LN(emb; ln0) s_emb_x^T. Time O(V R R C). Throws Error
/// (format) for an s_emb_x of another shape.
RWKV_FUNCTION void add_deep_residual(const Checkpoint& c, const Dimensions& d, std::size_t layer,
                                     std::span<float> table, ExecutorRef exec);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/deep_embed.ipp>
#endif
