// SPDX-License-Identifier: Apache-2.0
// Lanes (simd/scalar.hpp) in AVX2 and AVX-512 registers, for kernels that are chosen at run time:
// xsimd has these registers only where the whole translation unit may use them. What only training
// needs (sqrt) is left out. Freestanding.
#pragma once

#include <rwkv/simd/scalar.hpp>
#include <rwkv/simd/x86_bytes.hpp>
#include <rwkv/simd/x86_pairs.hpp>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

#if RWKV_TARGET_AVX2
RWKV_BEGIN_AVX2

/// With integers of type B.
template <class B>
struct Avx2Lanes {
  static constexpr std::size_t width = 8;
  using Bytes = B;
  __m256 v;

  RWKV_INLINE static Avx2Lanes from(__m256 r) noexcept { return {r}; }
  RWKV_INLINE static Avx2Lanes broadcast(float f) noexcept { return {_mm256_set1_ps(f)}; }
  RWKV_INLINE static Avx2Lanes load(const float* p) noexcept { return {_mm256_loadu_ps(p)}; }
  RWKV_INLINE static Avx2Lanes load(const half* p) noexcept {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  RWKV_INLINE static Avx2Lanes load(const bfloat16* p) noexcept {
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16))};
  }
  RWKV_INLINE void store(float* p) const noexcept { _mm256_storeu_ps(p, v); }
  /// For the compiler, changes the register.
  RWKV_INLINE void hold() noexcept { asm("" : "+x"(v)); }

  RWKV_INLINE friend Avx2Lanes operator+(Avx2Lanes a, Avx2Lanes b) noexcept {
    return {_mm256_add_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx2Lanes operator-(Avx2Lanes a, Avx2Lanes b) noexcept {
    return {_mm256_sub_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx2Lanes operator*(Avx2Lanes a, Avx2Lanes b) noexcept {
    return {_mm256_mul_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx2Lanes operator/(Avx2Lanes a, Avx2Lanes b) noexcept {
    return {_mm256_div_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx2Lanes fma(Avx2Lanes a, Avx2Lanes b, Avx2Lanes c) noexcept {
    return {_mm256_fmadd_ps(a.v, b.v, c.v)};
  }
  RWKV_INLINE friend Avx2Lanes lesser(Avx2Lanes a, Avx2Lanes b) noexcept {
    return {_mm256_min_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx2Lanes greater(Avx2Lanes a, Avx2Lanes b) noexcept {
    return {_mm256_max_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx2Lanes select_less(Avx2Lanes a, Avx2Lanes b, Avx2Lanes x,
                                           Avx2Lanes y) noexcept {
    return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
  }
  RWKV_INLINE friend Avx2Lanes add_exponent_bias(Avx2Lanes shifted) noexcept {
    return {_mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(shifted.v), _mm256_set1_epi32(127)))};
  }
  RWKV_INLINE friend Avx2Lanes exp2_of_biased(Avx2Lanes biased) noexcept {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(biased.v), 23))};
  }
};

RWKV_END_TARGET

using Avx2 = Avx2Lanes<Avx2Bytes>;
using AvxVnni = Avx2Lanes<AvxVnniBytes>;
#endif

#if RWKV_TARGET_AVX512
RWKV_BEGIN_AVX512

/// With integers of type B and pairs of type P, if there are any.
template <class B, class P = void>
struct Avx512Lanes {
  static constexpr std::size_t width = 16;
  using Bytes = B;
  using Pairs = P;
  __m512 v;

  RWKV_INLINE static Avx512Lanes from(__m512 r) noexcept { return {r}; }
  RWKV_INLINE static Avx512Lanes broadcast(float f) noexcept { return {_mm512_set1_ps(f)}; }
  RWKV_INLINE static Avx512Lanes load(const float* p) noexcept { return {_mm512_loadu_ps(p)}; }
  RWKV_INLINE static Avx512Lanes load(const half* p) noexcept {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  RWKV_INLINE static Avx512Lanes load(const bfloat16* p) noexcept {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16))};
  }
  RWKV_INLINE void store(float* p) const noexcept { _mm512_storeu_ps(p, v); }

  RWKV_INLINE friend Avx512Lanes operator+(Avx512Lanes a, Avx512Lanes b) noexcept {
    return {_mm512_add_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx512Lanes operator-(Avx512Lanes a, Avx512Lanes b) noexcept {
    return {_mm512_sub_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx512Lanes operator*(Avx512Lanes a, Avx512Lanes b) noexcept {
    return {_mm512_mul_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx512Lanes operator/(Avx512Lanes a, Avx512Lanes b) noexcept {
    return {_mm512_div_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx512Lanes fma(Avx512Lanes a, Avx512Lanes b, Avx512Lanes c) noexcept {
    return {_mm512_fmadd_ps(a.v, b.v, c.v)};
  }
  RWKV_INLINE friend Avx512Lanes lesser(Avx512Lanes a, Avx512Lanes b) noexcept {
    return {_mm512_min_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx512Lanes greater(Avx512Lanes a, Avx512Lanes b) noexcept {
    return {_mm512_max_ps(a.v, b.v)};
  }
  RWKV_INLINE friend Avx512Lanes select_less(Avx512Lanes a, Avx512Lanes b, Avx512Lanes x,
                                             Avx512Lanes y) noexcept {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
  }
  RWKV_INLINE friend Avx512Lanes add_exponent_bias(Avx512Lanes shifted) noexcept {
    return {_mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(shifted.v), _mm512_set1_epi32(127)))};
  }
  RWKV_INLINE friend Avx512Lanes exp2_of_biased(Avx512Lanes biased) noexcept {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(biased.v), 23))};
  }
};

RWKV_END_TARGET

using Avx512 = Avx512Lanes<Avx512Bytes>;
using Avx512Vnni = Avx512Lanes<VnniBytes>;
using Avx512Bf16 = Avx512Lanes<VnniBytes, Avx512Pairs>;
#endif

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
