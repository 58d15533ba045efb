// SPDX-License-Identifier: Apache-2.0
// Chooses the recurrence of training as kernels/chosen.ipp chooses the kernels.
#pragma once

#include <rwkv/kernels/on_floats.hpp>
#include <rwkv/train/recurrence.hpp>
#include <rwkv/train/recurrence_kernels.hpp>

#if RWKV_DISPATCH && RWKV_TARGET_AVX2
#define RWKV_READ <rwkv/train/recurrence_kernels.hpp>
#define RWKV_READ_BF16 <rwkv/train/recurrence_kernels.hpp>
#include <rwkv/kernels/read_per_isa.hpp>
#endif

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

RWKV_FUNCTION void recur_forward(const Recurrence& q, float* state) noexcept {
  RWKV_ON_FLOATS(recur_forward, q, state);
}
RWKV_FUNCTION void recur_backward(const Recurrence& q, const RecurrenceGradient& d,
                                  float* scratch) noexcept {
  RWKV_ON_FLOATS(recur_backward, q, d, scratch);
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
