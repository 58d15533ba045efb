// SPDX-License-Identifier: Apache-2.0
// The parameters as views, named as in the checkpoint. Views own nothing. Freestanding.
//
// C = embed, H heads of size N, F = ffn, V = vocab, D* = low ranks. Vectors are float. `Matrix` is
// a packed matrix of a type known at compile time (kernels::PanelMatrix<T>) or at run time
// (AnyMatrix).
#pragma once

#include <rwkv/kernels/operands.hpp>
#include <rwkv/tensors.hpp>

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
using TimeMixWeights = TimeMixTensors<const float*, Matrix, NormWeights>;
template <class Matrix>
using ChannelMixWeights = ChannelMixTensors<const float*, Matrix>;
template <class Matrix>
using BlockWeights = BlockTensors<const float*, Matrix, NormWeights>;
template <class Matrix>
using SparseAttentionWeights = SparseAttentionTensors<Matrix>;
template <class Matrix>
using SparseBlockWeights = SparseBlockTensors<const float*, Matrix, NormWeights>;

/// Gives the norms of a block what their weights do not say.
template <class Matrix>
constexpr void set_epsilons(BlockWeights<Matrix>& b, float layer_norm, float group_norm) noexcept {
  b.ln1.epsilon = b.ln2.epsilon = layer_norm;
  b.att.ln_x.epsilon = group_norm;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
