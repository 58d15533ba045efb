// SPDX-License-Identifier: Apache-2.0
// Channel mix with its backward pass:  x += Wv (max(0, Wk (u + d * x_k))^2 g), where g is 1, or, with
// DeepEmbed,  g = s0 + (u s1) S s2,  S [R, R] being the token's row of s_emb
#pragma once

#include <rwkv/train/parameters.hpp>
#include <rwkv/train/shifted_norm.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What the backward pass needs to know.
struct ChannelMixTape {
  ShiftedNormTape norm;
  float* h = nullptr;                      // [R, F] max(0, Wk ...)
  float *low = nullptr, *mixed = nullptr;  // [R, deep_rank] u s1, and its product with S

  ChannelMixTape() = default;
  ChannelMixTape(Arena& arena, std::size_t rows, const DynamicShape& s)
      : norm(arena, rows, s.embed()),
        h(arena.take(rows * s.ffn())),
        low(arena.take(rows * s.deep_rank())),
        mixed(arena.take(rows * s.deep_rank())) {}
};

/// Blocks of rows.
struct ChannelMixScratch {
  float *x = nullptr, *dx = nullptr;   // [row_block, C]
  float *h2 = nullptr, *dh = nullptr;  // [row_block, F]
  // With DeepEmbed:
  float *gate = nullptr, *dgate = nullptr;   // [row_block, F]
  float *dlow = nullptr, *dmixed = nullptr;  // [row_block, deep_rank]

  ChannelMixScratch() = default;
  ChannelMixScratch(Arena& arena, const DynamicShape& s)
      : x(arena.take(row_block * s.embed())),
        dx(arena.take(row_block * s.embed())),
        h2(arena.take(row_block * s.ffn())),
        dh(arena.take(row_block * s.ffn())) {
    if (s.deep_rank() == 0) return;
    gate = arena.take(row_block * s.ffn());
    dgate = arena.take(row_block * s.ffn());
    dlow = arena.take(row_block * s.deep_rank());
    dmixed = arena.take(row_block * s.deep_rank());
  }
};

namespace detail {

/// gate = s0 + mixed s2 for rows [begin, begin + count)
template <class Mix>
void restore_gate(const Mix& p, const ChannelMixTape& t, const ChannelMixScratch& s,
                  std::size_t begin, std::size_t count, std::size_t f, std::size_t rank) {
  multiply(t.mixed + begin * rank, p.s2, s.gate, count, rank, f);
  for (std::size_t row = 0; row < count; ++row) kernels::add<Lanes>(p.s0, s.gate + row * f, f);
}

/// The same, and what it is made of.
template <class Mix>
void deep_embed_forward(const Mix& p, std::span<const Token> tokens, const float* u,
                        const ChannelMixTape& t, const ChannelMixScratch& s, std::size_t begin,
                        std::size_t count, std::size_t c, std::size_t f, std::size_t rank) {
  multiply(u + begin * c, p.s1, t.low + begin * rank, count, c, rank);
  for (std::size_t row = begin; row < begin + count; ++row)
    multiply(t.low + row * rank, p.s_emb + tokens[row] * rank * rank, t.mixed + row * rank, 1, rank,
             rank);
  restore_gate(p, t, s, begin, count, f, rank);
}

/// Takes the gradient of the gate back to u, to which it is added (du), and to the parameters of
/// DeepEmbed (null: not wanted).
template <class Mix, class Gradient>
void deep_embed_backward(const Mix& p, std::span<const Token> tokens, const float* u,
                         const ChannelMixTape& t, const ChannelMixScratch& s, std::size_t begin,
                         std::size_t count, std::size_t c, std::size_t f, std::size_t rank,
                         float* du, const Gradient& g) {
  multiply_transposed(s.dgate, p.s2, s.dmixed, count, f, rank);
  for (std::size_t row = 0; row < count; ++row) {
    const std::size_t at = tokens[begin + row] * rank * rank;
    multiply_transposed(s.dmixed + row * rank, p.s_emb + at, s.dlow + row * rank, 1, rank, rank);
    if (g.s0 != nullptr)
      add_outer(t.low + (begin + row) * rank, s.dmixed + row * rank, g.s_emb + at, 1, rank, rank);
  }
  multiply_transposed(s.dlow, p.s1, du + begin * c, count, rank, c, Store::add);
  if (g.s0 == nullptr) return;
  add_rows(s.dgate, g.s0, count, f);
  add_outer(t.mixed + begin * rank, s.dgate, g.s2, count, rank, f);
  add_outer(u + begin * c, s.dlow, g.s1, count, c, rank);
}

}  // namespace detail

/// x [R, C] is updated in place; `tokens` has one per row. A block is one of RWKV-7 or a sparse one.
template <class Block>
void channel_mix_forward(const DynamicShape& shape, const Block& p, const Rows& rows,
                         std::span<const Token> tokens, std::size_t layer, float* x,
                         const ChannelMixTape& t, const ShiftedNormScratch& n,
                         const ChannelMixScratch& s) {
  const std::size_t c = shape.embed(), f = shape.ffn();
  const bool deep = p.ffn.s0 != nullptr;
  shifted_norm_forward(x, p.ln2.weight, p.ln2.bias, rows, layer, &State<>::ffn_x_prev, t.norm, n,
                       c);
  for_row_blocks(rows.count, [&](std::size_t begin, std::size_t count) {
    float *h = t.h + begin * f, *h2 = s.h2;
    mix(n, p.ffn.x_k, begin, count, c, s.x);
    round_inputs(rows.precision, s.x, count, c);
    multiply_transposed(s.x, p.ffn.key, h, count, c, f);
    kernels::map<Lanes>({0, count * f}, [=]<class V>(std::size_t i) {
      const V positive = greater(V::broadcast(0.0f), V::load(h + i));
      positive.store(h + i);
      (positive * positive).store(h2 + i);
    });
    if (deep) {
      detail::deep_embed_forward(p.ffn, tokens, n.u, t, s, begin, count, c, f, shape.deep_rank());
      multiply_by(s.gate, h2, count * f);
    }
    round_inputs(rows.precision, h2, count, f);
    multiply_transposed(h2, p.ffn.value, x + begin * c, count, f, c, Store::add);
  });
}

/// dx [R, C]: gradient after the mixer -> before it. Parameter gradients are added to g (null
/// members: not wanted).
template <class Block, class Gradient>
void channel_mix_backward(const DynamicShape& shape, const Block& p, const Rows& rows,
                          std::span<const Token> tokens, std::size_t layer, float* dx,
                          const ChannelMixTape& t, const ShiftedNormScratch& n,
                          const ChannelMixScratch& s, const Gradient& g) {
  const std::size_t c = shape.embed(), f = shape.ffn(), rank = shape.deep_rank();
  const bool deep = p.ffn.s0 != nullptr;
  shifted_norm_restore(p.ln2.weight, p.ln2.bias, rows, layer, &State<>::ffn_x_prev, t.norm, n, c);
  for_row_blocks(rows.count, [&](std::size_t begin, std::size_t count) {
    const float *h = t.h + begin * f, *dy = dx + begin * c;
    float *h2 = s.h2, *dh = s.dh;
    multiply(dy, p.ffn.value, dh, count, c, f);
    kernels::map<Lanes>({0, count * f}, [=]<class V>(std::size_t i) {
      const V x = V::load(h + i);
      (x * x).store(h2 + i);
    });
    if (deep) {
      detail::restore_gate(p.ffn, t, s, begin, count, f, rank);
      std::copy_n(h2, count * f, s.dgate);
      multiply_by(s.gate, h2, count * f);
    }
    round_inputs_backward(rows.precision, h2, dh, count, f);
    if (deep) {
      multiply_by(dh, s.dgate, count * f);
      multiply_by(s.gate, dh, count * f);
      detail::deep_embed_backward(p.ffn, tokens, n.u, t, s, begin, count, c, f, rank, n.sum, g.ffn);
    }
    kernels::map<Lanes>({0, count * f}, [=]<class V>(std::size_t i) {
      const V x = V::load(h + i);
      ((x + x) * V::load(dh + i)).store(dh + i);
    });
    multiply(dh, p.ffn.key, s.dx, count, f, c);
    if (g.ffn.key != nullptr || rows.precision != Precision::exact)
      mix(n, p.ffn.x_k, begin, count, c, s.x);
    round_inputs_backward(rows.precision, s.x, s.dx, count, c);
    mix_backward(n, p.ffn.x_k, begin, count, c, s.dx, g.ffn.x_k);
    if (g.ffn.key == nullptr) return;
    add_outer(dy, h2, g.ffn.value, count, c, f);
    add_outer(dh, s.x, g.ffn.key, count, f, c);
  });
  shifted_norm_backward(p.ln2.weight, g.ln2.weight, g.ln2.bias, rows, layer, &State<>::ffn_x_prev,
                        t.norm, n, c, dx);
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
