// SPDX-License-Identifier: Apache-2.0
// Channel mix with its backward pass:  x += Wv max(0, Wk (u + d * x_k))^2
#pragma once

#include <rwkv/train/parameters.hpp>
#include <rwkv/train/shifted_norm.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What the backward pass needs to know.
struct ChannelMixTape {
  ShiftedNormTape norm;
  float* h = nullptr;  // [R, F] max(0, Wk ...)

  ChannelMixTape() = default;
  ChannelMixTape(Arena& arena, std::size_t rows, const DynamicShape& s)
      : norm(arena, rows, s.embed()), h(arena.take(rows * s.ffn())) {}
};

/// Blocks of rows.
struct ChannelMixScratch {
  float *x = nullptr, *dx = nullptr;   // [row_block, C]
  float *h2 = nullptr, *dh = nullptr;  // [row_block, F]

  ChannelMixScratch() = default;
  ChannelMixScratch(Arena& arena, const DynamicShape& s)
      : x(arena.take(row_block * s.embed())),
        dx(arena.take(row_block * s.embed())),
        h2(arena.take(row_block * s.ffn())),
        dh(arena.take(row_block * s.ffn())) {}
};

/// x [R, C] is updated in place. A block is one of RWKV-7 or a sparse one.
template <class Block>
void channel_mix_forward(const DynamicShape& shape, const Block& p, const Rows& rows,
                         std::size_t layer, float* x, const ChannelMixTape& t,
                         const ShiftedNormScratch& n, const ChannelMixScratch& s) {
  const std::size_t c = shape.embed(), f = shape.ffn();
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
    round_inputs(rows.precision, h2, count, f);
    multiply_transposed(h2, p.ffn.value, x + begin * c, count, f, c, Store::add);
  });
}

/// dx [R, C]: gradient after the mixer -> before it. Parameter gradients are added to g (null
/// members: not wanted).
template <class Block, class Gradient>
void channel_mix_backward(const DynamicShape& shape, const Block& p, const Rows& rows,
                          std::size_t layer, float* dx, const ChannelMixTape& t,
                          const ShiftedNormScratch& n, const ChannelMixScratch& s,
                          const Gradient& g) {
  const std::size_t c = shape.embed(), f = shape.ffn();
  shifted_norm_restore(p.ln2.weight, p.ln2.bias, rows, layer, &State<>::ffn_x_prev, t.norm, n, c);
  for_row_blocks(rows.count, [&](std::size_t begin, std::size_t count) {
    const float *h = t.h + begin * f, *dy = dx + begin * c;
    float *h2 = s.h2, *dh = s.dh;
    multiply(dy, p.ffn.value, dh, count, c, f);
    kernels::map<Lanes>({0, count * f}, [=]<class V>(std::size_t i) {
      const V x = V::load(h + i);
      (x * x).store(h2 + i);
    });
    round_inputs_backward(rows.precision, h2, dh, count, f);
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
