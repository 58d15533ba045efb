// SPDX-License-Identifier: Apache-2.0
// The only include of xsimd, and the only place that knows its version history (8.1 ... 14): one
// vector register of floats with the interface of simd::Scalar. Include simd/native.hpp, which
// decides whether there is a vector unit at all (xsimd does not compile where there is none).
#pragma once

#include <rwkv/simd/scalar.hpp>

// GCC 12 finds its own _mm512_undefined_ps uninitialized once the AVX-512 intrinsics are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#pragma push_macro("min")  // of <windows.h>; xsimd calls functions of these names
#pragma push_macro("max")
#undef min
#undef max
#include <xsimd/xsimd.hpp>
#pragma pop_macro("min")
#pragma pop_macro("max")
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#if defined(__AVX2__)
#include <rwkv/simd/x86_bytes.hpp>
#include <rwkv/simd/x86_pairs.hpp>
#elif defined(__aarch64__)
#include <rwkv/simd/neon_bytes.hpp>
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

// The best architecture for float work. Named explicitly because default_arch may be avxvnni, for
// which xsimd before 14.3 has no fused multiply-add.
#if XSIMD_WITH_AVX512BW
using Architecture = xsimd::avx512bw;
#elif XSIMD_WITH_FMA3_AVX2
using Architecture = xsimd::fma3<xsimd::avx2>;
#else
using Architecture = xsimd::default_arch;
#endif

/// One vector register of floats.
struct Vector {
  using Batch = xsimd::batch<float, Architecture>;
  using IntBatch = xsimd::batch<std::int32_t, Architecture>;
  static constexpr std::size_t width = Batch::size;
  Batch v;

  /// Integers in registers of the same width.
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__)
  using Bytes = VnniBytes;
#elif XSIMD_WITH_AVX512BW
  using Bytes = Avx512Bytes;
#elif XSIMD_WITH_FMA3_AVX2 && defined(__AVXVNNI__)
  using Bytes = AvxVnniBytes;
#elif XSIMD_WITH_FMA3_AVX2
  using Bytes = Avx2Bytes;
#elif defined(__ARM_FEATURE_MATMUL_INT8) && defined(__aarch64__)
  using Bytes = NeonMatrixBytes;
#elif defined(__ARM_FEATURE_DOTPROD) && defined(__aarch64__)
  using Bytes = NeonDotBytes;
#elif defined(__aarch64__)
  using Bytes = NeonBytes;
#else
  using Bytes = PlainBytes<width>;
#endif
#if XSIMD_WITH_AVX512BW && defined(__AVX512BF16__)
  using Pairs = Avx512Pairs;
#endif

  static Vector broadcast(float f) noexcept { return {Batch(f)}; }
  template <class Register>
  static Vector from(Register r) noexcept {
    return {Batch(r)};
  }
  static Vector load(const float* p) noexcept { return {Batch::load_unaligned(p)}; }

  /// Exact widening, in registers.
  static Vector load(const half* p) noexcept {
#if XSIMD_WITH_AVX512F
    return {Batch(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))))};
#elif XSIMD_WITH_AVX && defined(__F16C__)
    return {Batch(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
#elif defined(__aarch64__)
    return {Batch(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits))))};
#else
    // Shift the fraction into place and let a multiplication rebias the exponent (it also
    // normalises subnormals); infinities and NaNs get their exponent set.
    const IntBatch bits = load_u16(&p->bits);
    const IntBatch magnitude = (bits & IntBatch(0x7fff)) << 13;
    const IntBatch sign = (bits & IntBatch(0x8000)) << 16;
    const IntBatch finite = as_int(as_float(magnitude) * Batch(0x1p112f));
    const IntBatch result =
        xsimd::select(magnitude < IntBatch(0x0f800000), finite, magnitude | IntBatch(0x7f800000));
    return {as_float(result | sign)};
#endif
  }

  /// Exact widening, in registers.
  static Vector load(const bfloat16* p) noexcept {
#if XSIMD_WITH_AVX512F
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {Batch(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16)))};
#elif XSIMD_WITH_AVX2
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {Batch(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16)))};
#elif defined(__aarch64__)
    return {Batch(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16)))};
#else
    return {as_float(load_u16(&p->bits) << 16)};
#endif
  }

  void store(float* p) const noexcept { v.store_unaligned(p); }

#if XSIMD_WITH_AVX && !XSIMD_WITH_AVX512F && (defined(__GNUC__) || defined(__clang__))
  /// For the compiler, changes the register.
  void hold() noexcept {
    Batch::register_type r = v;
    asm("" : "+x"(r));
    v = Batch(r);
  }
#endif

  friend Vector operator+(Vector a, Vector b) noexcept { return {a.v + b.v}; }
  friend Vector operator-(Vector a, Vector b) noexcept {
#if defined(__clang__) && defined(__SSE2__)
    // Changes nothing but where sums may be reordered: (a - b) * c would become a * c - b * c in
    // exp.
    return {Batch(__arithmetic_fence(static_cast<typename Batch::register_type>(a.v - b.v)))};
#else
    return {a.v - b.v};
#endif
  }
  friend Vector operator*(Vector a, Vector b) noexcept { return {a.v * b.v}; }
  friend Vector operator/(Vector a, Vector b) noexcept {
#if defined(__aarch64__)  // xsimd 8.1 approximates here
    return {Batch(vdivq_f32(a.v, b.v))};
#else
    return {a.v / b.v};
#endif
  }

  friend Vector fma(Vector a, Vector b, Vector c) noexcept {
#if XSIMD_WITH_AVX512F  // xsimd 8.1 ... 10 multiply and add here
    return {Batch(_mm512_fmadd_ps(a.v, b.v, c.v))};
#elif defined(__aarch64__)
    return {Batch(vfmaq_f32(c.v, a.v, b.v))};
#else
    return {xsimd::fma(a.v, b.v, c.v)};
#endif
  }
  friend Vector lesser(Vector a, Vector b) noexcept { return {(xsimd::min)(a.v, b.v)}; }
  friend Vector greater(Vector a, Vector b) noexcept { return {(xsimd::max)(a.v, b.v)}; }
  friend Vector sqrt(Vector a) noexcept {
#if defined(__aarch64__)  // xsimd 8.1 approximates here
    return {Batch(vsqrtq_f32(a.v))};
#else
    return {xsimd::sqrt(a.v)};
#endif
  }
  friend Vector select_less(Vector a, Vector b, Vector x, Vector y) noexcept {
    return {xsimd::select(a.v < b.v, x.v, y.v)};
  }
  friend Vector add_exponent_bias(Vector shifted) noexcept {
    return {Vector::as_float(Vector::as_int(shifted.v) + IntBatch(127))};
  }
  friend Vector exp2_of_biased(Vector biased) noexcept {
    return {Vector::as_float(Vector::as_int(biased.v) << 23)};
  }

 private:
  static Batch as_float(IntBatch i) noexcept {
#if XSIMD_WITH_NEON  // before 14.2 the bitwise_cast is an outlined call under GCC
    return Batch(vreinterpretq_f32_s32(i));
#elif XSIMD_VERSION_MAJOR >= 11
    return xsimd::bitwise_cast<float>(i);
#else
    return xsimd::bitwise_cast<Batch>(i);
#endif
  }
  static IntBatch as_int(Batch f) noexcept {
#if XSIMD_WITH_NEON
    return IntBatch(vreinterpretq_s32_f32(f));
#elif XSIMD_VERSION_MAJOR >= 11
    return xsimd::bitwise_cast<std::int32_t>(f);
#else
    return xsimd::bitwise_cast<IntBatch>(f);
#endif
  }
  /// Zero-extended 16-bit words, `width` of them.
  [[maybe_unused]] static IntBatch load_u16(const std::uint16_t* p) noexcept {
#if XSIMD_WITH_SSE2 && !XSIMD_WITH_AVX
    const __m128i words = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return IntBatch(_mm_unpacklo_epi16(words, _mm_setzero_si128()));
#else
    alignas(alignment) std::int32_t words[width];
    for (std::size_t i = 0; i < width; ++i) words[i] = p[i];
    return IntBatch::load_aligned(words);
#endif
  }
};

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
