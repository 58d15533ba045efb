// SPDX-License-Identifier: Apache-2.0
// Bytes (simd/bytes.hpp) in NEON registers of 64-bit ARM: without dot products, with them, and with
// products of matrices. Freestanding.
#pragma once

#include <rwkv/simd/bytes.hpp>
#include <rwkv/simd/target.hpp>

#if defined(__aarch64__)
#include <arm_neon.h>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

struct NeonBytes {
  static constexpr std::size_t width = 4;
  using Register = uint8x16_t;
  using Sum = int32x4_t;
  using Wide = int32x4_t;
  template <unsigned Bits>
  static constexpr unsigned lazy = 8;

  RWKV_INLINE static Register load(const void* p) noexcept {
    return vld1q_u8(static_cast<const std::uint8_t*>(p));
  }
  RWKV_INLINE static Register broadcast(const std::int8_t* p) noexcept {
    std::uint32_t four;
    std::memcpy(&four, p, sizeof four);
    return vreinterpretq_u8_u32(vdupq_n_u32(four));
  }
  RWKV_INLINE static Register low(Register r) noexcept { return vandq_u8(r, vdupq_n_u8(15)); }
  RWKV_INLINE static Register high(Register r) noexcept { return vshrq_n_u8(r, 4); }
  template <unsigned Shift, unsigned Bits>
  RWKV_INLINE static Register with_bits(Register r, Register plane) noexcept {
    constexpr auto mask = static_cast<std::uint8_t>(((1u << Bits) - 1) << 4);
    Register moved = plane;
    if constexpr (Shift > 4) moved = vshrq_n_u8(plane, Shift - 4);
    if constexpr (Shift < 4) moved = vshlq_n_u8(plane, 4 - Shift);
    return vorrq_u8(r, vandq_u8(moved, vdupq_n_u8(mask)));
  }
  template <unsigned Bits>
  RWKV_INLINE static Register drop(Register r) noexcept {
    return vshrq_n_u8(r, Bits);
  }

  RWKV_INLINE static void transpose(Register (&r)[4]) noexcept {
    const uint16x8_t a = vreinterpretq_u16_u8(vzip1q_u8(r[0], r[1]));
    const uint16x8_t b = vreinterpretq_u16_u8(vzip1q_u8(r[2], r[3]));
    const uint16x8_t c = vreinterpretq_u16_u8(vzip2q_u8(r[0], r[1]));
    const uint16x8_t d = vreinterpretq_u16_u8(vzip2q_u8(r[2], r[3]));
    r[0] = vreinterpretq_u8_u16(vzip1q_u16(a, b));
    r[1] = vreinterpretq_u8_u16(vzip2q_u16(a, b));
    r[2] = vreinterpretq_u8_u16(vzip1q_u16(c, d));
    r[3] = vreinterpretq_u8_u16(vzip2q_u16(c, d));
  }

  RWKV_INLINE static Sum zero() noexcept { return vdupq_n_s32(0); }
  /// Codes below 64 are signed bytes too.
  RWKV_INLINE static Sum dot(Sum sum, Register codes, Register x) noexcept {
    return dot_signed(sum, codes, x);
  }
  RWKV_INLINE static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    const int8x16_t a = vreinterpretq_s8_u8(w);
    const int8x16_t b = vreinterpretq_s8_u8(x);
    // Two products fit 16 bits, because none of the bytes is -128.
    const int16x8_t first = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    const int16x8_t second = vmull_s8(vget_high_s8(a), vget_high_s8(b));
    return vpadalq_s16(sum, vpaddq_s16(first, second));
  }
  RWKV_INLINE static Wide widen(Sum sum) noexcept { return sum; }
  RWKV_INLINE static Wide add_wide(Wide a, Wide b) noexcept { return vaddq_s32(a, b); }

  template <class L>
  RWKV_INLINE static L to_float(Wide sum) noexcept {
    return L::from(vcvtq_f32_s32(sum));
  }
  template <class L, unsigned Byte>
  RWKV_INLINE static L byte_to_float(Register r) noexcept {
    const uint32x4_t left = vshlq_n_u32(vreinterpretq_u32_u8(r), 24 - 8 * Byte);
    return L::from(vcvtq_f32_s32(vshrq_n_s32(vreinterpretq_s32_u32(left), 24)));
  }
  template <class L>
  RWKV_INLINE static L load_floats(const std::int8_t* p) noexcept {
    std::uint32_t four;
    std::memcpy(&four, p, sizeof four);
    const int16x8_t words = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return L::from(vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))));
  }
};

#if RWKV_TARGET_DOTPROD || defined(__ARM_FEATURE_DOTPROD)
#if RWKV_TARGET_DOTPROD
RWKV_BEGIN_DOTPROD
#endif

struct NeonDotBytes : NeonBytes {
  RWKV_INLINE static Sum dot(Sum sum, Register codes, Register x) noexcept {
    return dot_signed(sum, codes, x);
  }
  RWKV_INLINE static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    return vdotq_s32(sum, vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(x));
  }
};

#if RWKV_TARGET_DOTPROD
RWKV_END_TARGET
#endif
#endif

#if RWKV_TARGET_I8MM || defined(__ARM_FEATURE_MATMUL_INT8)
#if RWKV_TARGET_I8MM
RWKV_BEGIN_I8MM
#endif

/// With products of matrices: eight inputs of two outputs with those of two rows.
struct NeonMatrixBytes : NeonDotBytes {
  using NeonDotBytes::dot;
  /// Four outputs in two registers: codes of eight inputs each, or sums of two rows each.
  struct Codes {
    int8x16_t outputs[2];
  };
  struct Pair {
    int32x4_t outputs[2];
  };

  /// Of four inputs, and the next four.
  RWKV_INLINE static Codes pair(Register a, Register b) noexcept {
    const uint32x4_t first = vreinterpretq_u32_u8(a), second = vreinterpretq_u32_u8(b);
    return {{vreinterpretq_s8_u32(vzip1q_u32(first, second)),
             vreinterpretq_s8_u32(vzip2q_u32(first, second))}};
  }
  /// Eight inputs of two rows.
  RWKV_INLINE static int8x16_t load_pair(const std::int8_t* a, const std::int8_t* b) noexcept {
    return vcombine_s8(vld1_s8(a), vld1_s8(b));
  }
  RWKV_INLINE static void dot(Pair& sum, const Codes& codes, int8x16_t x) noexcept {
    sum.outputs[0] = vmmlaq_s32(sum.outputs[0], codes.outputs[0], x);
    sum.outputs[1] = vmmlaq_s32(sum.outputs[1], codes.outputs[1], x);
  }
  /// The sums of the first row, and of the second.
  RWKV_INLINE static void split(const Pair& sum, Wide& first, Wide& second) noexcept {
    first = vuzp1q_s32(sum.outputs[0], sum.outputs[1]);
    second = vuzp2q_s32(sum.outputs[0], sum.outputs[1]);
  }
};

#if RWKV_TARGET_I8MM
RWKV_END_TARGET
#endif
#endif

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
#endif
