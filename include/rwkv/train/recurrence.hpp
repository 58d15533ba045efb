// SPDX-License-Identifier: Apache-2.0
// The recurrence of kernels/wkv.hpp over a whole sequence of one head, forward and backward:
//
//   sa_t = S_{t-1} a_t ;  S_t = S_{t-1} diag(w_t) + sa_t b_t^T + v_t k_t^T ;  y_t = S_t r_t
//
// With G_t = dLoss/dS_t and D_t = dLoss/d(sa_t), going back in time:
//
//   G_t = G_{t+1} diag(w_{t+1}) + D_{t+1} a_{t+1}^T + dy_t r_t^T
//   D_t = G_t b_t      dv_t = G_t k_t                                            (sums over keys)
//   dr_t = S_t^T dy_t  dk_t = G_t^T v_t  db_t = G_t^T sa_t  da_t = S_{t-1}^T D_t
//   dw_t = sum over values of G_t * S_{t-1}                                      (sums over values)
#pragma once

#include <rwkv/core/buffer.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// Tokens between two stored states.
inline constexpr std::size_t checkpoint_interval = 16;

/// Number of stored states of a sequence.
constexpr std::size_t checkpoints(std::size_t tokens) noexcept {
  return (tokens + checkpoint_interval - 1) / checkpoint_interval;
}

/// One head over one sequence: element j of token t is at [t * stride + j].
struct Recurrence {
  const float *r, *w, *k, *v, *a, *b;  ///< inputs
  float* y;                            ///< forward: written
  float* sa;                           ///< forward: written; backward: read
  float* states;       ///< [checkpoints][N value][N key] before tokens 0, 16, 32, ...
  std::size_t stride;  ///< in floats
  std::size_t tokens;
  std::size_t head_size;  ///< N
};

/// Where the gradients of `Recurrence` go; same strides. Those of r, k and v are added to what is
/// there (the bonus term also depends on them), the others overwrite it.
struct RecurrenceGradient {
  const float* dy;
  float *dr, *dw, *dk, *dv, *da, *db;
  float* dsa;     ///< D, needed by both passes
  float* dstate;  ///< [N key][N value] gradient of the initial state
};

/// Runs the sequence forward from `state` [N key][N value], which becomes the final state.
/// Cost: 10 N^2 operations per token.
RWKV_FUNCTION void recur_forward(const Recurrence& q, float* state) noexcept;

/// Floats of scratch memory that `recur_backward` needs.
constexpr std::size_t recurrence_scratch(std::size_t head_size) noexcept {
  return (checkpoint_interval + 2) * head_size * 32;
}

/// All gradients of a sequence that `recur_forward` has run over (its `sa` and `states` are read).
/// Cost: 32 N^2 operations per token.
RWKV_FUNCTION void recur_backward(const Recurrence& q, const RecurrenceGradient& d,
                                  float* scratch) noexcept;

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/recurrence.ipp>
#endif
