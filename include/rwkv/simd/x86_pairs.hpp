// SPDX-License-Identifier: Apache-2.0
// Pairs of bfloat16 (simd/pairs.hpp) in AVX-512 registers. Freestanding.
#pragma once

#include <rwkv/simd/pairs.hpp>
#include <rwkv/simd/x86_bytes.hpp>

#if RWKV_TARGET_AVX512
namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

RWKV_BEGIN_BF16

struct Avx512Pairs {
  static constexpr std::size_t width = 16;
  using Register = __m512i;

  RWKV_INLINE static Register load(const bfloat16* p, const bfloat16* next) noexcept {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(next));
    const __m512i by_column = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, by_column);
  }
  RWKV_INLINE static Register broadcast(const bfloat16* p) noexcept {
    std::int32_t two;
    std::memcpy(&two, p, sizeof two);
    return _mm512_set1_epi32(two);
  }
  template <class L>
  RWKV_INLINE static L dot(L sum, Register w, Register x) noexcept {
    return L::from(_mm512_dpbf16_ps(sum.v, (__m512bh)w, (__m512bh)x));
  }
};

RWKV_END_TARGET

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
#endif
