// SPDX-License-Identifier: Apache-2.0
// What kernels work on, as far as it is not a matrix. Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// What released models add to variances. Other files may say otherwise.
inline constexpr float layer_norm_epsilon = 1e-5f;
/// Of ln_x, for every head size.
inline constexpr float group_norm_epsilon = 64e-5f;

/// What is applied to a matrix product's result.
enum class Activation : std::uint8_t {
  none,
  tanh,
  sigmoid,
  relu_squared,  ///< max(0, x)^2
};

/// The parameters of one head, a number per channel each.
struct HeadParameters {
  const float *w0, *a0;
  const float* v0;  ///< null in block 0, which has no value residual
  const float *k_k, *k_a, *r_k;
  const float *ln_x_weight, *ln_x_bias;
  float ln_x_epsilon;
  bool extended;  ///< eigenvalues: learning rates up to 2
};

/// One head of one row, a number per channel each.
struct HeadRow {
  float *k, *v;
  float* v_first;        ///< block 0's values; in block 0 they are written
  float *w, *a, *v_mix;  ///< in: products with w2, a2, v2; out: decay, learning rate
  float *minus_kk, *b;   ///< out: what the recurrence calls a and b
};

/// The vectors of the recurrence for consecutive tokens of one head: element j of token t is at
/// [t * stride + j].
struct WkvTokens {
  const float* r;  ///< receptance
  const float* w;  ///< decay, factors in (0, 1]
  const float* k;  ///< key
  const float* v;  ///< value
  const float* a;  ///< removal key
  const float* b;  ///< replacement key
  float* y;        ///< result; may be v
  std::size_t stride;
  std::size_t count;
};

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
