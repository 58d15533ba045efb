// SPDX-License-Identifier: Apache-2.0
// Bytes (simd/bytes.hpp) in AVX2 and AVX-512 registers. Freestanding.
#pragma once

#include <rwkv/simd/bytes.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_TARGET_AVX2
// GCC 12 finds its own _mm512_undefined_ps uninitialized once the AVX-512 intrinsics are inlined.
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

#if RWKV_TARGET_AVX2
RWKV_BEGIN_AVX2

/// Sums of a few products fit 16 bits: they are added up in the halves of the lanes, then widened.
struct Avx2Bytes {
  static constexpr std::size_t width = 8;
  using Register = __m256i;
  using Sum = __m256i;
  using Wide = __m256i;
  template <unsigned Bits>
  static constexpr unsigned lazy = Bits <= 4   ? 8
                                   : Bits == 5 ? 4
                                   : Bits == 6 ? 2
                                               : 1;

  RWKV_INLINE static Register load(const void* p) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  RWKV_INLINE static Register broadcast(const std::int8_t* p) noexcept {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
  }
  RWKV_INLINE static Register low(Register r) noexcept {
    return _mm256_and_si256(r, _mm256_set1_epi8(15));
  }
  RWKV_INLINE static Register high(Register r) noexcept {
    return _mm256_and_si256(_mm256_srli_epi16(r, 4), _mm256_set1_epi8(15));
  }
  template <unsigned Shift, unsigned Bits>
  RWKV_INLINE static Register with_bits(Register r, Register plane) noexcept {
    constexpr auto mask = static_cast<char>(((1 << Bits) - 1) << 4);
    Register moved = plane;
    if constexpr (Shift > 4) moved = _mm256_srli_epi16(plane, Shift - 4);
    if constexpr (Shift < 4) moved = _mm256_slli_epi16(plane, 4 - Shift);
    return _mm256_or_si256(r, _mm256_and_si256(moved, _mm256_set1_epi8(mask)));
  }
  template <unsigned Bits>
  RWKV_INLINE static Register drop(Register r) noexcept {
    return _mm256_srli_epi16(r, Bits);
  }

  RWKV_INLINE static void transpose(Register (&r)[4]) noexcept {
    const Register a = _mm256_unpacklo_epi8(r[0], r[1]), b = _mm256_unpacklo_epi8(r[2], r[3]);
    const Register c = _mm256_unpackhi_epi8(r[0], r[1]), d = _mm256_unpackhi_epi8(r[2], r[3]);
    r[0] = _mm256_unpacklo_epi16(a, b);
    r[1] = _mm256_unpackhi_epi16(a, b);
    r[2] = _mm256_unpacklo_epi16(c, d);
    r[3] = _mm256_unpackhi_epi16(c, d);
  }

  RWKV_INLINE static Sum zero() noexcept { return _mm256_setzero_si256(); }
  /// Keeps a sum where it is: GCC would first compute all products, then add them.
  RWKV_INLINE static void hold(Sum& sum) noexcept { asm("" : "+x"(sum)); }
  RWKV_INLINE static Sum dot(Sum sum, Register codes, Register x) noexcept {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x));
  }
  RWKV_INLINE static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    return dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }
  RWKV_INLINE static Wide widen(Sum sum) noexcept {
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
  }
  RWKV_INLINE static Wide add_wide(Wide a, Wide b) noexcept { return _mm256_add_epi32(a, b); }

  template <class L>
  RWKV_INLINE static L to_float(Wide sum) noexcept {
    return L::from(_mm256_cvtepi32_ps(sum));
  }
  template <class L, unsigned Byte>
  RWKV_INLINE static L byte_to_float(Register r) noexcept {
    if constexpr (Byte < 3) r = _mm256_slli_epi32(r, 24 - 8 * static_cast<int>(Byte));
    return L::from(_mm256_cvtepi32_ps(_mm256_srai_epi32(r, 24)));
  }
  template <class L>
  RWKV_INLINE static L load_floats(const std::int8_t* p) noexcept {
    return L::from(_mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
  }
};

RWKV_END_TARGET
RWKV_BEGIN_AVX_VNNI

/// One instruction for four products and their sum, as VnniBytes has it for registers twice as
/// wide. Where all processors are said to have AVX-512, that has the same instruction.
struct AvxVnniBytes : Avx2Bytes {
  template <unsigned Bits>
  static constexpr unsigned lazy = 8;

  RWKV_INLINE static Sum dot(Sum sum, Register codes, Register x) noexcept {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(sum, codes, x);
#else
    return _mm256_dpbusd_avx_epi32(sum, codes, x);
#endif
  }
  RWKV_INLINE static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    return dot(sum, _mm256_xor_si256(w, _mm256_set1_epi8(static_cast<char>(-128))), x);
  }
  RWKV_INLINE static Sum begin_signed(const std::int32_t* offset) noexcept {
    return _mm256_set1_epi32(*offset);
  }
  RWKV_INLINE static Wide widen(Sum sum) noexcept { return sum; }
};

RWKV_END_TARGET
#endif

#if RWKV_TARGET_AVX512
RWKV_BEGIN_AVX512

/// As Avx2Bytes, twice as wide.
struct Avx512Bytes {
  static constexpr std::size_t width = 16;
  using Register = __m512i;
  using Sum = __m512i;
  using Wide = __m512i;
  template <unsigned Bits>
  static constexpr unsigned lazy = Bits <= 4   ? 8
                                   : Bits == 5 ? 4
                                   : Bits == 6 ? 2
                                               : 1;

  RWKV_INLINE static Register load(const void* p) noexcept { return _mm512_loadu_si512(p); }
  RWKV_INLINE static Register broadcast(const std::int8_t* p) noexcept {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  RWKV_INLINE static Register low(Register r) noexcept {
    return _mm512_and_si512(r, _mm512_set1_epi8(15));
  }
  RWKV_INLINE static Register high(Register r) noexcept {
    return _mm512_and_si512(_mm512_srli_epi16(r, 4), _mm512_set1_epi8(15));
  }
  template <unsigned Shift, unsigned Bits>
  RWKV_INLINE static Register with_bits(Register r, Register plane) noexcept {
    constexpr auto mask = static_cast<char>(((1 << Bits) - 1) << 4);
    Register moved = plane;
    if constexpr (Shift > 4) moved = _mm512_srli_epi16(plane, Shift - 4);
    if constexpr (Shift < 4) moved = _mm512_slli_epi16(plane, 4 - Shift);
    return _mm512_or_si512(r, _mm512_and_si512(moved, _mm512_set1_epi8(mask)));
  }
  template <unsigned Bits>
  RWKV_INLINE static Register drop(Register r) noexcept {
    return _mm512_srli_epi16(r, Bits);
  }

  RWKV_INLINE static void transpose(Register (&r)[4]) noexcept {
    const Register a = _mm512_unpacklo_epi8(r[0], r[1]), b = _mm512_unpacklo_epi8(r[2], r[3]);
    const Register c = _mm512_unpackhi_epi8(r[0], r[1]), d = _mm512_unpackhi_epi8(r[2], r[3]);
    r[0] = _mm512_unpacklo_epi16(a, b);
    r[1] = _mm512_unpackhi_epi16(a, b);
    r[2] = _mm512_unpacklo_epi16(c, d);
    r[3] = _mm512_unpackhi_epi16(c, d);
  }

  RWKV_INLINE static Sum zero() noexcept { return _mm512_setzero_si512(); }
  RWKV_INLINE static void hold(Sum& sum) noexcept { asm("" : "+v"(sum)); }
  RWKV_INLINE static Sum dot(Sum sum, Register codes, Register x) noexcept {
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, x));
  }
  RWKV_INLINE static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    const __mmask64 negative = _mm512_movepi8_mask(w);
    return dot(sum, _mm512_abs_epi8(w),
               _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x));
  }
  RWKV_INLINE static Wide widen(Sum sum) noexcept {
    return _mm512_madd_epi16(sum, _mm512_set1_epi16(1));
  }
  RWKV_INLINE static Wide add_wide(Wide a, Wide b) noexcept { return _mm512_add_epi32(a, b); }

  template <class L>
  RWKV_INLINE static L to_float(Wide sum) noexcept {
    return L::from(_mm512_cvtepi32_ps(sum));
  }
  template <class L, unsigned Byte>
  RWKV_INLINE static L byte_to_float(Register r) noexcept {
    if constexpr (Byte < 3) r = _mm512_slli_epi32(r, 24 - 8 * static_cast<int>(Byte));
    return L::from(_mm512_cvtepi32_ps(_mm512_srai_epi32(r, 24)));
  }
  template <class L>
  RWKV_INLINE static L load_floats(const std::int8_t* p) noexcept {
    return L::from(_mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
  }
};

RWKV_END_TARGET
RWKV_BEGIN_VNNI

/// One instruction for four products and their sum; its left operand is unsigned.
struct VnniBytes : Avx512Bytes {
  template <unsigned Bits>
  static constexpr unsigned lazy = 8;

  RWKV_INLINE static Sum dot(Sum sum, Register codes, Register x) noexcept {
    return _mm512_dpbusd_epi32(sum, codes, x);
  }
  /// Multiplies w + 128, which is unsigned: the sum has to begin with minus 128 times the sum of x.
  RWKV_INLINE static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    return dot(sum, _mm512_xor_si512(w, _mm512_set1_epi8(static_cast<char>(-128))), x);
  }
  RWKV_INLINE static Sum begin_signed(const std::int32_t* offset) noexcept {
    return _mm512_set1_epi32(*offset);
  }
  RWKV_INLINE static Wide widen(Sum sum) noexcept { return sum; }
};

RWKV_END_TARGET
#endif

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
