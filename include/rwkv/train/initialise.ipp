// SPDX-License-Identifier: Apache-2.0
// The definitions of train/initialise.hpp.
#pragma once

#include <rwkv/train/initialise.hpp>
#include <rwkv/train/random.hpp>

#include <algorithm>
#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

namespace detail {

/// Fills `to` [rows, cols] with `gain` times a random matrix whose rows (or columns, whichever are
/// fewer) are orthonormal, uniformly distributed over all such matrices.
inline void orthogonal(Random& random, std::span<float> to, std::size_t rows, std::size_t cols,
                       double gain) {
  const bool by_rows = rows <= cols;
  const std::size_t vectors = by_rows ? rows : cols, length = by_rows ? cols : rows;
  std::vector<double> q(vectors * length);
  for (double& x : q) x = random.normal();
  const auto dot = [length](const double* a, const double* b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < length; ++i) sum += a[i] * b[i];
    return sum;
  };
  for (std::size_t v = 0; v < vectors; ++v) {
    double* x = q.data() + v * length;
    for (int pass = 0; pass < 2; ++pass)  // Gram-Schmidt; the second pass restores the lost digits
      for (std::size_t u = 0; u < v; ++u) {
        const double* y = q.data() + u * length;
        const double along = dot(x, y);
        for (std::size_t i = 0; i < length; ++i) x[i] -= along * y[i];
      }
    const double scale = 1.0 / std::sqrt(dot(x, x));
    for (std::size_t i = 0; i < length; ++i) x[i] *= scale;
  }
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c)
      to[r * cols + c] =
          static_cast<float>(gain * (by_rows ? q[r * length + c] : q[c * length + r]));
}

}  // namespace detail

RWKV_FUNCTION Parameters initialise(std::shared_ptr<const Layout> layout, std::uint64_t seed) {
  Parameters p(std::move(layout));
  const Dimensions d = p.shape().dimensions();
  Random random(seed);
  const auto fill = [](float* to, std::size_t n, auto f) {
    if (to == nullptr) return;
    for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<float>(f(static_cast<double>(i)));
  };
  const auto constant = [&](float* to, double value) {
    fill(to, d.embed, [value](double) { return value; });
  };
  const auto orthogonal = [&](float* to, std::size_t rows, std::size_t cols, double gain) {
    if (to != nullptr) detail::orthogonal(random, {to, rows * cols}, rows, cols, gain);
  };
  // The second half of a low-rank map; the first half starts at zero.
  const auto low_rank = [&](float* to, std::size_t rank) {
    const double ratio = static_cast<double>(rank) / static_cast<double>(d.embed);
    orthogonal(to, rank, d.embed, 0.1 * (std::max)(1.0, std::sqrt(ratio)));
  };

  const GlobalTensors<float*> g = p.globals();
  fill(g.emb, d.vocab * d.embed, [&](double) { return 1e-4 * (2.0 * random.uniform() - 1.0); });
  const double head_ratio = static_cast<double>(d.vocab) / static_cast<double>(d.embed);
  orthogonal(g.head, d.vocab, d.embed, 0.5 * (std::max)(1.0, std::sqrt(head_ratio)));
  constant(g.ln0.weight, 1.0);
  constant(g.ln_out.weight, 1.0);

  const auto channels = static_cast<double>(d.embed);
  const double last_channel = (std::max)(1.0, channels - 1.0);
  const double half_head = (static_cast<double>(d.head_size) - 1.0) / 2.0;
  const auto linear = [&](double i) { return i / last_channel - 0.5; };
  const auto zigzag = [&](double i) {
    if (half_head == 0.0) return 0.0;
    const double z = (std::fmod(i, static_cast<double>(d.head_size)) - half_head) / half_head;
    return z * std::abs(z);
  };

  for (std::size_t l = 0; l < d.layers; ++l) {
    const BlockTensors<float*> b = p.block(l);
    const auto layer = static_cast<double>(l), layers = static_cast<double>(d.layers);
    const double up = layer / (std::max)(1.0, layers - 1.0);  // 0 ... 1
    const double down = 1.0 - layer / layers;                 // 1 ... 1 / layers

    constant(b.ln1.weight, 1.0);
    constant(b.ln2.weight, 1.0);
    constant(b.att.ln_x.weight, std::pow((1.0 + layer) / layers, 0.7));

    const auto shift = [&](float* to, double power) {
      fill(to, d.embed, [&](double i) { return 1.0 - std::pow(i / channels, power); });
    };
    shift(b.att.x_r, 0.2 * down);
    shift(b.att.x_w, 0.9 * down);
    shift(b.att.x_k, 0.7 * down);
    shift(b.att.x_v, 0.7 * down);
    shift(b.att.x_a, 0.9 * down);
    shift(b.att.x_g, 0.2 * down);
    shift(b.ffn.x_k, std::pow(down, 4.0));

    fill(b.att.w0, d.embed, [&](double i) {
      const double ramp = -6.0 + 6.0 * std::pow(i / last_channel, 1.0 + std::pow(up, 0.3));
      return ramp + 0.5 + 2.5 * zigzag(i);
    });
    fill(b.att.a0, d.embed, [&](double i) { return -0.19 + 0.3 * zigzag(i) + 0.4 * linear(i); });
    fill(b.att.v0, d.embed, [&](double i) { return 0.73 - 0.4 * linear(i); });
    fill(b.att.k_k, d.embed, [&](double i) { return 0.71 - 0.1 * linear(i); });
    constant(b.att.k_a, 1.02);
    constant(b.att.r_k, -0.04);
    low_rank(b.att.w2, d.decay_rank);
    low_rank(b.att.a2, d.icl_rank);
    low_rank(b.att.v2, d.value_rank);
    low_rank(b.att.g2, d.gate_rank);

    orthogonal(b.att.receptance, d.embed, d.embed, 1.0);
    orthogonal(b.att.key, d.embed, d.embed, 0.1);
    orthogonal(b.att.value, d.embed, d.embed, 1.0);
    orthogonal(b.ffn.key, d.ffn, d.embed, 1.0);
    if (d.deep_rank > 0) {
      // As of the other low-rank maps, the first half starts at zero, so that the gate begins at 1;
      // between them, all tokens begin with the identity.
      const std::size_t n = d.deep_rank;
      for (std::size_t i = 0; i < d.vocab * n; ++i) b.ffn.s_emb[i * n + i % n] = 1.0f;
      orthogonal(b.ffn.s2, n, d.ffn, 0.1);
      fill(b.ffn.s0, d.ffn, [](double) { return 1.0; });
    }
    // output and ffn_value start at zero: every block begins as the identity.
  }
  for (std::size_t j = 0; j < p.layout().sparse().blocks; ++j) {
    const SparseTensors<float*> b = p.sparse_block(j);
    constant(b.ln1.weight, 1.0);
    constant(b.ln2.weight, 1.0);
    orthogonal(b.att.receptance, d.embed, d.embed, 1.0);
    orthogonal(b.att.key, d.embed, d.embed, 1.0);
    orthogonal(b.att.value, d.embed, d.embed, 1.0);
    fill(b.ffn.x_k, d.embed, [&](double i) { return 1.0 - i / channels; });
    orthogonal(b.ffn.key, p.layout().sparse().ffn, d.embed, 1.0);
  }
  return p;
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
