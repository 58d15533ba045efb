// SPDX-License-Identifier: Apache-2.0
// The one list of a model's tensors: what each is called, what it is used for, what shape it has,
// and which member of a block holds it. All that reads, writes, converts, trains or exports models
// loops over it. Freestanding.
//
// A tensor more is a member of a struct and a line of a function below; what computes with it comes
// on top.
#pragma once

#include <rwkv/shape.hpp>

#include <array>
#include <string_view>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// What a tensor is used for, which decides the types it can be stored in.
enum class TensorRole : std::uint8_t {
  table,     ///< emb, ffn.s_emb: one row per token is read
  head,      ///< the last product, with one row per token
  matrix,    ///< r, k, v, output, and both of the channel mix: most of the model
  low_rank,  ///< w1 ... g2, stored [inputs, outputs]
  vector,    ///< everything else
};

/// What a dimension of a tensor counts.
enum class Axis : std::uint8_t {
  one,
  embed,
  heads,
  head_size,
  ffn,
  vocab,
  decay_rank,
  icl_rank,
  value_rank,
  gate_rank,
  deep_rank,
  deep_matrix,  ///< deep_rank squared
};

[[nodiscard]] constexpr std::size_t extent_of(Axis axis, const Dimensions& d) noexcept {
  switch (axis) {
    case Axis::one:
      return 1;
    case Axis::embed:
      return d.embed;
    case Axis::heads:
      return d.embed / d.head_size;
    case Axis::head_size:
      return d.head_size;
    case Axis::ffn:
      return d.ffn;
    case Axis::vocab:
      return d.vocab;
    case Axis::decay_rank:
      return d.decay_rank;
    case Axis::icl_rank:
      return d.icl_rank;
    case Axis::value_rank:
      return d.value_rank;
    case Axis::gate_rank:
      return d.gate_rank;
    case Axis::deep_rank:
      return d.deep_rank;
    case Axis::deep_matrix:
      break;
  }
  return d.deep_rank * d.deep_rank;
}

/// One tensor of a model.
struct TensorSpec {
  std::string_view name;  ///< official; of a block's tensor within the block
  TensorRole role{};
  std::size_t rank = 0;
  Axis axes[3]{};         ///< of the official shape, the first `rank`
  std::string_view gguf;  ///< llama.cpp's name; several tensors may be parts of one

  [[nodiscard]] constexpr std::size_t size(const Dimensions& d) const noexcept {
    std::size_t n = 1;
    for (std::size_t i = 0; i < rank; ++i) n *= extent_of(axes[i], d);
    return n;
  }
  /// Of a matrix: low-rank maps are stored [inputs, outputs], all others [outputs, inputs].
  [[nodiscard]] constexpr std::size_t outputs(const Dimensions& d) const noexcept {
    return extent_of(axes[role == TensorRole::low_rank ? 1 : 0], d);
  }
  [[nodiscard]] constexpr std::size_t inputs(const Dimensions& d) const noexcept {
    return extent_of(axes[role == TensorRole::low_rank ? 0 : 1], d);
  }
};

/// The tensors of a block. `Vector` and `Matrix` are what stands for a tensor (views, pointers,
/// offsets), `Norm` has a `weight` and a `bias` of type `Vector`. C = embed, F = ffn, D* = low ranks.
template <class Vector>
struct NormTensors {
  Vector weight, bias;  // [C]
};

template <class Vector, class Matrix, class Norm>
struct TimeMixTensors {
  Vector x_r, x_w, x_k, x_v, x_a, x_g;    // [C] token-shift mixing
  Vector w0, a0, v0;                      // [C] v0 is null in block 0
  Matrix w1, a1, v1, g1;                  // C inputs -> Dw, Da, Dv, Dg outputs
  Matrix w2, a2, v2, g2;                  // Dw, Da, Dv, Dg inputs -> C outputs
  Vector k_k, k_a, r_k;                   // [C]
  Matrix receptance, key, value, output;  // C inputs -> C outputs
  Norm ln_x;                              // per head, indexed by channel
};

template <class Vector, class Matrix>
struct ChannelMixTensors {
  Vector x_k;    // [C]
  Matrix key;    // C inputs -> F outputs
  Matrix value;  // F inputs -> C outputs
  // DeepEmbed (RWKV-7a), which most models lack: s0 is null then.
  Matrix s_emb;  // [V, R R] a table: in C order, not packed
  Matrix s1;     // C inputs -> R outputs
  Matrix s2;     // R inputs -> F outputs
  Vector s0;     // [F]
};

template <class Vector, class Matrix, class Norm>
struct BlockTensors {
  Norm ln1;
  TimeMixTensors<Vector, Matrix, Norm> att;
  Norm ln2;
  ChannelMixTensors<Vector, Matrix> ffn;
};

/// RWKV-X: attention without biases and without positions, heads of 64 channels.
template <class Matrix>
struct SparseAttentionTensors {
  Matrix receptance, key, value, output;  // C inputs -> C outputs; receptance makes the queries
};

/// RWKV-X: what stands in place of a block. Its channel mix has an F of its own.
template <class Vector, class Matrix, class Norm>
struct SparseBlockTensors {
  Norm ln1;
  SparseAttentionTensors<Matrix> att;
  Norm ln2;
  ChannelMixTensors<Vector, Matrix> ffn;
};

/// The tensors outside the blocks (ln0 is stored as `blocks.0.ln0`).
template <class Matrix, class Norm>
struct GlobalTensors {
  Matrix emb;  // [V, C]
  Norm ln0;
  Norm ln_out;
  Matrix head;  // [V, C]
};

namespace detail {

/// A name whose length is known. (A string_view of a literal may be measured when the program runs,
/// by strlen, which a firmware may not have.)
struct Literal {
  std::string_view text;
  constexpr Literal() noexcept = default;
  template <std::size_t N>
  constexpr Literal(const char (&literal)[N]) noexcept : text(literal, N - 1) {}
  constexpr Literal(std::string_view view) noexcept : text(view) {}
};

constexpr TensorSpec norm_spec(Literal name, Literal gguf) noexcept {
  return {name.text, TensorRole::vector, 1, {Axis::embed}, gguf.text};
}
constexpr TensorSpec row_spec(Literal name, Literal gguf) noexcept {
  return {name.text, TensorRole::vector, 3, {Axis::one, Axis::one, Axis::embed}, gguf.text};
}
constexpr TensorSpec low_rank_spec(Literal name, Axis inputs, Axis outputs, Literal gguf) noexcept {
  return {name.text, TensorRole::low_rank, 2, {inputs, outputs}, gguf.text};
}
constexpr TensorSpec matrix_spec(Literal name, Axis outputs, Axis inputs, Literal gguf) noexcept {
  return {name.text, TensorRole::matrix, 2, {outputs, inputs}, gguf.text};
}

}  // namespace detail

/// GGUF keeps x_r ... x_g in one tensor.
inline constexpr std::string_view gguf_fused_shift = "time_mix_lerp_fused.weight";

// Each of these calls f(spec, members...) for every tensor, with the members of all the blocks that
// are given (none, one, or several of different types), in the order in which a forward pass meets
// them.

/// The value residual, which block 0 lacks.
template <class F, class... Blocks>
constexpr void for_each_value_residual_tensor(F&& f, Blocks&... b) {
  using detail::low_rank_spec;
  f(detail::row_spec("att.v0", "time_mix_v0.weight"), b.att.v0...);
  f(low_rank_spec("att.v1", Axis::embed, Axis::value_rank, "time_mix_v1.weight"), b.att.v1...);
  f(low_rank_spec("att.v2", Axis::value_rank, Axis::embed, "time_mix_v2.weight"), b.att.v2...);
}

/// DeepEmbed, in the channel mix of every block of a model that has it.
template <class F, class... Blocks>
constexpr void for_each_deep_embed_tensor(F&& f, Blocks&... b) {
  using detail::low_rank_spec;
  f(TensorSpec{"ffn.s_emb.weight",
               TensorRole::table,
               2,
               {Axis::vocab, Axis::deep_matrix},
               "channel_mix_s_emb.weight"},
    b.ffn.s_emb...);
  f(low_rank_spec("ffn.s1", Axis::embed, Axis::deep_rank, "channel_mix_s1.weight"), b.ffn.s1...);
  f(low_rank_spec("ffn.s2", Axis::deep_rank, Axis::ffn, "channel_mix_s2.weight"), b.ffn.s2...);
  f(TensorSpec{"ffn.s0", TensorRole::vector, 1, {Axis::ffn}, "channel_mix_s0.weight"}, b.ffn.s0...);
}

/// The second half of every block.
template <class F, class... Blocks>
constexpr void for_each_channel_mix_tensor(F&& f, Blocks&... b) {
  using detail::matrix_spec;
  f(detail::norm_spec("ln2.weight", "attn_norm_2.weight"), b.ln2.weight...);
  f(detail::norm_spec("ln2.bias", "attn_norm_2.bias"), b.ln2.bias...);
  f(detail::row_spec("ffn.x_k", "channel_mix_lerp_k.weight"), b.ffn.x_k...);
  f(matrix_spec("ffn.key.weight", Axis::ffn, Axis::embed, "channel_mix_key.weight"), b.ffn.key...);
  f(matrix_spec("ffn.value.weight", Axis::embed, Axis::ffn, "channel_mix_value.weight"),
    b.ffn.value...);
}

/// A block of RWKV-7 without DeepEmbed, named behind "blocks.<i>.".
template <bool ValueResidual = true, class F, class... Blocks>
constexpr void for_each_block_tensor(F&& f, Blocks&... b) {
  using detail::low_rank_spec, detail::matrix_spec, detail::norm_spec, detail::row_spec;
  constexpr Axis C = Axis::embed;
  f(norm_spec("ln1.weight", "attn_norm.weight"), b.ln1.weight...);
  f(norm_spec("ln1.bias", "attn_norm.bias"), b.ln1.bias...);
  f(row_spec("att.x_r", gguf_fused_shift), b.att.x_r...);
  f(row_spec("att.x_w", gguf_fused_shift), b.att.x_w...);
  f(row_spec("att.x_k", gguf_fused_shift), b.att.x_k...);
  f(row_spec("att.x_v", gguf_fused_shift), b.att.x_v...);
  f(row_spec("att.x_a", gguf_fused_shift), b.att.x_a...);
  f(row_spec("att.x_g", gguf_fused_shift), b.att.x_g...);
  f(row_spec("att.w0", "time_mix_w0.weight"), b.att.w0...);
  f(low_rank_spec("att.w1", C, Axis::decay_rank, "time_mix_w1.weight"), b.att.w1...);
  f(low_rank_spec("att.w2", Axis::decay_rank, C, "time_mix_w2.weight"), b.att.w2...);
  f(row_spec("att.a0", "time_mix_a0.weight"), b.att.a0...);
  f(low_rank_spec("att.a1", C, Axis::icl_rank, "time_mix_a1.weight"), b.att.a1...);
  f(low_rank_spec("att.a2", Axis::icl_rank, C, "time_mix_a2.weight"), b.att.a2...);
  if constexpr (ValueResidual) for_each_value_residual_tensor(f, b...);
  f(low_rank_spec("att.g1", C, Axis::gate_rank, "time_mix_g1.weight"), b.att.g1...);
  f(low_rank_spec("att.g2", Axis::gate_rank, C, "time_mix_g2.weight"), b.att.g2...);
  f(row_spec("att.k_k", "time_mix_k_k.weight"), b.att.k_k...);
  f(row_spec("att.k_a", "time_mix_k_a.weight"), b.att.k_a...);
  f(
      TensorSpec{
          "att.r_k", TensorRole::vector, 2, {Axis::heads, Axis::head_size}, "time_mix_r_k.weight"},
      b.att.r_k...);
  f(matrix_spec("att.receptance.weight", C, C, "time_mix_receptance.weight"), b.att.receptance...);
  f(matrix_spec("att.key.weight", C, C, "time_mix_key.weight"), b.att.key...);
  f(matrix_spec("att.value.weight", C, C, "time_mix_value.weight"), b.att.value...);
  f(norm_spec("att.ln_x.weight", "time_mix_ln.weight"), b.att.ln_x.weight...);
  f(norm_spec("att.ln_x.bias", "time_mix_ln.bias"), b.att.ln_x.bias...);
  f(matrix_spec("att.output.weight", C, C, "time_mix_output.weight"), b.att.output...);
  for_each_channel_mix_tensor(f, b...);
}

/// A sparse block of RWKV-X, named behind "moba.<j>.". GGUF has none.
template <class F, class... Blocks>
constexpr void for_each_sparse_block_tensor(F&& f, Blocks&... b) {
  using detail::matrix_spec;
  constexpr Axis C = Axis::embed;
  f(detail::norm_spec("ln1.weight", {}), b.ln1.weight...);
  f(detail::norm_spec("ln1.bias", {}), b.ln1.bias...);
  f(matrix_spec("att.receptance.weight", C, C, {}), b.att.receptance...);
  f(matrix_spec("att.key.weight", C, C, {}), b.att.key...);
  f(matrix_spec("att.value.weight", C, C, {}), b.att.value...);
  f(matrix_spec("att.output.weight", C, C, {}), b.att.output...);
  for_each_channel_mix_tensor(f, b...);
}

/// What stands outside the blocks: the first three before them, the others behind.
template <class F, class... Globals>
constexpr void for_each_global_tensor(F&& f, Globals&... g) {
  f(TensorSpec{"emb.weight", TensorRole::table, 2, {Axis::vocab, Axis::embed}, "token_embd.weight"},
    g.emb...);
  f(detail::norm_spec("blocks.0.ln0.weight", "token_embd_norm.weight"), g.ln0.weight...);
  f(detail::norm_spec("blocks.0.ln0.bias", "token_embd_norm.bias"), g.ln0.bias...);
  f(detail::norm_spec("ln_out.weight", "output_norm.weight"), g.ln_out.weight...);
  f(detail::norm_spec("ln_out.bias", "output_norm.bias"), g.ln_out.bias...);
  f(TensorSpec{"head.weight", TensorRole::head, 2, {Axis::vocab, Axis::embed}, "output.weight"},
    g.head...);
}

namespace detail {

/// What `each` is called for, as an array.
template <std::size_t N, class Each>
constexpr std::array<TensorSpec, N> listed(Each each) {
  std::array<TensorSpec, N> list{};
  std::size_t n = 0;
  each([&](const TensorSpec& spec) { list[n++] = spec; });
  return list;
}
template <class Each>
constexpr std::size_t counted(Each each) {
  std::size_t n = 0;
  each([&](const TensorSpec&) { ++n; });
  return n;
}
inline constexpr auto each_block = [](auto f) { for_each_block_tensor(f); };
inline constexpr auto each_deep_embed = [](auto f) { for_each_deep_embed_tensor(f); };
inline constexpr auto each_global = [](auto f) { for_each_global_tensor(f); };

}  // namespace detail

/// The tensors of a block, those that it has besides with DeepEmbed, and those outside the blocks.
inline constexpr auto block_tensors =
    detail::listed<detail::counted(detail::each_block)>(detail::each_block);
inline constexpr auto deep_embed_tensors =
    detail::listed<detail::counted(detail::each_deep_embed)>(detail::each_deep_embed);
inline constexpr auto global_tensors =
    detail::listed<detail::counted(detail::each_global)>(detail::each_global);

[[nodiscard]] constexpr bool is_value_residual(std::string_view name) noexcept {
  bool found = false;
  for_each_value_residual_tensor([&](const TensorSpec& spec) { found |= spec.name == name; });
  return found;
}

/// The tensor called `name` within a block ("att.w1"), or null.
[[nodiscard]] constexpr const TensorSpec* find_block_tensor(std::string_view name) noexcept {
  for (const TensorSpec& spec : block_tensors)
    if (spec.name == name) return &spec;
  for (const TensorSpec& spec : deep_embed_tensors)
    if (spec.name == name) return &spec;
  return nullptr;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
