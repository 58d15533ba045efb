// SPDX-License-Identifier: Apache-2.0
// Lanes (simd/scalar.hpp) in NEON registers of 64-bit ARM, for kernels that are chosen at run time.
// What only activations need (division, exp) is left out. Freestanding.
#pragma once

#include <rwkv/simd/neon_bytes.hpp>
#include <rwkv/simd/scalar.hpp>

#if defined(__aarch64__)

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

/// With integers of type B.
template <class B>
struct NeonLanes {
  static constexpr std::size_t width = 4;
  using Bytes = B;
  float32x4_t v;

  RWKV_INLINE static NeonLanes from(float32x4_t r) noexcept { return {r}; }
  RWKV_INLINE static NeonLanes broadcast(float f) noexcept { return {vdupq_n_f32(f)}; }
  RWKV_INLINE static NeonLanes load(const float* p) noexcept { return {vld1q_f32(p)}; }
  RWKV_INLINE static NeonLanes load(const half* p) noexcept {
    return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits)))};
  }
  RWKV_INLINE static NeonLanes load(const bfloat16* p) noexcept {
    return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16))};
  }
  RWKV_INLINE void store(float* p) const noexcept { vst1q_f32(p, v); }

  RWKV_INLINE friend NeonLanes operator+(NeonLanes a, NeonLanes b) noexcept {
    return {vaddq_f32(a.v, b.v)};
  }
  RWKV_INLINE friend NeonLanes operator-(NeonLanes a, NeonLanes b) noexcept {
    return {vsubq_f32(a.v, b.v)};
  }
  RWKV_INLINE friend NeonLanes operator*(NeonLanes a, NeonLanes b) noexcept {
    return {vmulq_f32(a.v, b.v)};
  }
  RWKV_INLINE friend NeonLanes fma(NeonLanes a, NeonLanes b, NeonLanes c) noexcept {
    return {vfmaq_f32(c.v, a.v, b.v)};
  }
};

#if RWKV_TARGET_DOTPROD
using NeonDot = NeonLanes<NeonDotBytes>;
#endif
#if RWKV_TARGET_I8MM
using NeonMatrix = NeonLanes<NeonMatrixBytes>;
#endif

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
#endif
