// SPDX-License-Identifier: Apache-2.0
// What the time mix does in each head: gates, keys, the recurrence, the group norm, bonus and gate,
// over all tokens that a sequence has in a pass. A block is one head of one sequence. Its state
// stays in registers, whether the sequence has one token or thousands: a thread has a quarter of
// the keys of one value.
#pragma once

#include <rwkv/cuda/products.cuh>

namespace rwkv::inline RWKV_ABI::cuda::device {

/// An outer half of a low-rank map.
struct Outer {
  const unsigned char* data;
  std::uint64_t panel_bytes;
  unsigned steps;
  unsigned inputs;
  unsigned from;  ///< where its inputs begin in a row of `low`
  Kind kind;
};

struct Heads {
  unsigned heads;
  std::uint64_t sequences;
  const std::uint32_t* first_rows;  ///< [sequences + 1] of the sequences
  Rows rows;
  std::uint64_t state;     ///< where a layer's part of a state begins: att_x_prev
  std::uint64_t wkv;       ///< and its matrices
  unsigned width;          ///< C
  const float *r, *k, *v;  ///< [rows][C] products
  float* v_first;          ///< [rows][C]
  const float* low;        ///< [rows][low_stride] inner halves
  std::uint64_t low_stride;
  const float* outer;          ///< [4][rows][C] outer halves w, a, v, g; null: to be computed
  std::uint64_t outer_stride;  ///< between the four
  Outer maps[4];               ///< w2, a2, v2, g2
  const float *w0, *a0, *v0, *k_k, *k_a, *r_k, *ln_weight, *ln_bias;
  float epsilon;
  bool extended;
  const float* x;           ///< [rows][C] the residual stream
  const float* statistics;  ///< [rows][2] of ln1
  const float *ln1_weight, *ln1_bias;
  float* y;  ///< [rows][C]
};

inline constexpr int head_groups = 4;  ///< of the keys of a head

/// Bytes of shared memory, with outer halves of `low` inputs in all to be computed, or 0.
template <int n>
constexpr unsigned head_shared_bytes(std::size_t low) {
  return static_cast<unsigned>((18 * n + 4 * n + low) * sizeof(float));
}

/// A sum over the N numbers f(0) ... f(N - 1), by every warp for itself: lane l takes l, l + 32 ...
template <int n, int count, class F>
RWKV_DEVICE void head_sums(float (&sums)[count], F f) {
  for (int s = 0; s < count; ++s) sums[s] = 0;
  for (int i = static_cast<int>(lane()); i < n; i += warp_size) f(i, sums);
  warp_sums(sums);
}

/// Outputs [8 warp, 8 warp + 8) of a head's part of an outer half, of a row's inputs in shared
/// memory.
RWKV_DEVICE void outer_half(const Outer& m, unsigned first_panel, const float* low, float* out) {
  float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  add_steps<1>(m.kind, m.data + (first_panel + warp()) * m.panel_bytes, 0, m.steps, 1, 0, low, 0,
               sums);
  float result[1];
  add_lanes<1>(sums, result);
  if (lane() % 4 == 0) out[warp() * 8 + output_of_lane()] = result[0];
}

template <int n>
RWKV_DEVICE void advance_head(const Heads& p, std::uint64_t block_index) {
  constexpr int keys = n / head_groups;
  float* const r_s = reinterpret_cast<float*>(shared());
  float* const w_s = r_s + n;
  float* const k_s = w_s + n;
  float* const a_s = k_s + n;
  float* const b_s = a_s + n;
  float* const v_s = b_s + n;
  float* const raw_s = v_s + n;
  float* const triple_s = raw_s + n;
  float* const y_s = triple_s + n;
  float* const sa_s = y_s + n;                      // [groups][n]
  float* const part_s = sa_s + head_groups * n;     // [groups][n]
  float* const outer_s = part_s + head_groups * n;  // [4][n]
  float* const low_s = outer_s + 4 * n;

  const auto head = static_cast<unsigned>(block_index % p.heads);
  const auto sequence = static_cast<unsigned>(block_index / p.heads);
  const unsigned i = thread() % n;
  const unsigned group = thread() / n;
  const unsigned c = head * n + i;
  let_next_start();

  // The state and the parameters are not what the kernels before this one compute: they can come
  // while those end.
  if (p.outer == nullptr)
    for (int which = 0; which < 4; ++which) {
      const Outer& m = p.maps[which];
      const std::uint64_t bytes = m.steps == 0 ? 0 : m.panel_bytes;
      for (std::uint64_t at = lane() * 128; at < bytes; at += warp_size * 128)
        prefetch(m.data + (head * (n / 8) + warp()) * m.panel_bytes + at);
    }
  const unsigned first = p.first_rows[sequence];
  const unsigned end = p.first_rows[sequence + 1];
  float* const state = p.rows.states[first];
  float* const wkv = state + p.wkv + std::uint64_t{head} * n * n + group * keys * n + i;

  float S[keys];
  RWKV_CUDA_UNROLL
  for (int j = 0; j < keys; ++j) S[j] = wkv[j * n];

  const bool mine = thread() < n;  // whose channel i is this thread's to prepare
  const float w0 = mine ? p.w0[c] : 0;
  const float a0 = mine ? p.a0[c] : 0;
  const float v0 = mine && p.v0 != nullptr ? p.v0[c] : 0;
  const float k_k = mine ? p.k_k[c] : 0;
  const float k_a = mine ? p.k_a[c] : 0;
  const float r_k = mine ? p.r_k[c] : 0;
  const float ln_weight = mine ? p.ln_weight[c] : 0;
  const float ln_bias = mine ? p.ln_bias[c] : 0;

  wait_for_previous();

  for (unsigned row = first; row < end; ++row) {
    const std::uint64_t at = std::uint64_t{row} * p.width + c;
    if (p.outer == nullptr) {
      for (unsigned l = thread(); l < p.low_stride; l += threads())
        low_s[l] = p.low[row * p.low_stride + l];
      barrier();
      RWKV_CUDA_NO_UNROLL
      for (int which = 0; which < 4; ++which)
        if (p.maps[which].steps != 0)
          outer_half(p.maps[which], head * (n / 8), low_s + p.maps[which].from,
                     outer_s + which * n);
      barrier();
    }
    float rate = 0, decay = 0, v = 0, k = 0, raw = 0, r = 0, gate = 0;
    if (mine) {
      const auto outer = [&](unsigned which) {
        return p.outer == nullptr ? outer_s[which * n + i] : p.outer[which * p.outer_stride + at];
      };
      r = p.r[at];
      k = p.k[at];
      v = p.v[at];
      rate = sigmoid(add(a0, outer(1)));
      if (p.extended) rate = add(rate, rate);
      decay = exp(mul(-0.60653066f, sigmoid(add(w0, outer(0)))));
      gate = outer(3);
      if (p.v0 == nullptr) {
        p.v_first[at] = v;
      } else {
        v = fma(add(p.v_first[at], -v), sigmoid(add(v0, outer(2))), v);
      }
      raw = mul(k, k_k);
      raw_s[i] = raw;
      r_s[i] = r;
      w_s[i] = decay;
      v_s[i] = v;
    }
    barrier();
    float squares[1];
    head_sums<n>(squares,
                 [&](int j, float(&sums)[1]) { sums[0] = fma(raw_s[j], raw_s[j], sums[0]); });
    if (mine) {
      const float length = square_root(squares[0]);
      const float kk = mul(raw, divide(1.0f, length > 1e-12f ? length : 1e-12f));
      a_s[i] = -kk;
      b_s[i] = p.extended ? mul(mul(kk, rate), decay) : mul(kk, rate);
      k = mul(k, fma(add(rate, -1.0f), k_a, 1.0f));
      k_s[i] = k;
      triple_s[i] = mul(mul(r, k), r_k);
    }
    barrier();
    float sa = 0;
    RWKV_CUDA_UNROLL
    for (int j = 0; j < keys; ++j) sa = fma(S[j], a_s[group * keys + static_cast<unsigned>(j)], sa);
    sa_s[group * n + i] = sa;
    barrier();
    sa = sa_s[i];
    RWKV_CUDA_UNROLL
    for (unsigned q = 1; q < head_groups; ++q) sa = add(sa, sa_s[q * n + i]);
    const float value = v_s[i];
    float y = 0;
    RWKV_CUDA_UNROLL
    for (int j = 0; j < keys; ++j) {
      const unsigned key = group * keys + static_cast<unsigned>(j);
      float s = mul(S[j], w_s[key]);
      s = fma(sa, b_s[key], s);
      s = fma(value, k_s[key], s);
      S[j] = s;
      y = fma(s, r_s[key], y);
    }
    part_s[group * n + i] = y;
    barrier();
    if (mine) {
      y = part_s[i];
      for (unsigned q = 1; q < head_groups; ++q) y = add(y, part_s[q * n + i]);
      y_s[i] = y;
    }
    barrier();
    float sums[2];
    head_sums<n>(sums, [&](int j, float(&s)[2]) {
      s[0] = add(s[0], y_s[j]);
      s[1] = add(s[1], triple_s[j]);
    });
    const float mean = divide(sums[0], static_cast<float>(n));
    float deviations[1];
    head_sums<n>(deviations, [&](int j, float(&s)[1]) {
      const float d = add(y_s[j], -mean);
      s[0] = fma(d, d, s[0]);
    });
    if (mine) {
      const float variance = divide(deviations[0], static_cast<float>(n));
      const float scale = divide(1.0f, square_root(add(variance, p.epsilon)));
      p.y[at] = mul(fma(sums[1], v, normalised(y, mean, scale, ln_weight, ln_bias)), gate);
    }
  }

  RWKV_CUDA_UNROLL
  for (int j = 0; j < keys; ++j) wkv[j * n] = S[j];
  if (mine) {
    const unsigned row = end - 1;
    state[p.state + c] = normalised(p.x[std::uint64_t{row} * p.width + c], p.statistics[2 * row],
                                    p.statistics[2 * row + 1], p.ln1_weight[c], p.ln1_bias[c]);
  }
}

}  // namespace rwkv::inline RWKV_ABI::cuda::device
