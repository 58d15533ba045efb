// SPDX-License-Identifier: Apache-2.0
// The parameters as views, named as in the checkpoint. Views own nothing. Freestanding.
//
// C = embed, H heads of size N, F = ffn, V = vocab, D* = low ranks. Vectors are float. `Matrix` is
// a packed matrix of a type known at compile time (kernels::PanelMatrix<T>) or at run time
// (AnyMatrix).
#pragma once

#include <rwkv/kernels/operands.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The RWKV-7 state transition is diag(w) - kappa_hat^T (a . kappa_hat).
enum class Eigenvalues : std::uint8_t {
  /// a = sigmoid(...): the released models
  standard,
  /// a = 2 sigmoid(...), and the replacement key is kappa_hat a w: eigenvalues in (-1, 1)
  extended,
};

struct NormWeights {
  const float* weight = nullptr;  // [C]; null: there is no such norm, which only ln0 can be
  const float* bias = nullptr;    // [C]
  float epsilon = kernels::layer_norm_epsilon;
};

template <class Matrix>
struct TimeMixWeights {
  const float *x_r, *x_w, *x_k, *x_v, *x_a, *x_g;  // [C] token-shift mixing
  const float *w0, *a0, *v0;                       // [C] v0 is null in block 0
  Matrix w1, a1, v1, g1;                           // C inputs -> Dw, Da, Dv, Dg outputs
  Matrix w2, a2, v2, g2;                           // Dw, Da, Dv, Dg inputs -> C outputs
  const float *k_k, *k_a, *r_k;                    // [C]
  Matrix receptance, key, value, output;           // C inputs -> C outputs
  NormWeights ln_x;                                // per head, indexed by channel
};

template <class Matrix>
struct ChannelMixWeights {
  const float* x_k;  // [C]
  Matrix key;        // C inputs -> F outputs
  Matrix value;      // F inputs -> C outputs
};

template <class Matrix>
struct BlockWeights {
  NormWeights ln1;
  TimeMixWeights<Matrix> att;
  NormWeights ln2;
  ChannelMixWeights<Matrix> ffn;
};

/// RWKV-X: attention without biases and without positions, heads of 64 channels.
template <class Matrix>
struct SparseAttentionWeights {
  Matrix receptance, key, value, output;  // C inputs -> C outputs; receptance makes the queries
};

/// RWKV-X: what stands in place of a BlockWeights.
template <class Matrix>
struct SparseBlockWeights {
  NormWeights ln1;
  SparseAttentionWeights<Matrix> att;
  NormWeights ln2;
  ChannelMixWeights<Matrix> ffn;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
