// SPDX-License-Identifier: Apache-2.0
// The scalar twin of simd/xsimd.hpp: one float with the interface of a vector register. Kernels are
// written once, as templates on a lanes type; this one serves processors without SIMD and the ends
// of loops. Freestanding.
//
// A lanes type L offers: width, load (float, half, bfloat16), store, broadcast, + - * /, and as
// free functions fma, lesser, greater, sqrt, select_less, and the two integer steps that exp needs
// (kernels/math.hpp).
#pragma once

#include <rwkv/simd/bytes.hpp>
#include <rwkv/simd/soft_float.hpp>

#if defined(_MSC_VER) && !defined(__clang__)
#include <cmath>
#endif

// Whether the processor multiplies and adds with one rounding. (Clang does not say so by
// __FP_FAST_FMAF where GCC does: RISC-V, LoongArch and POWER with floats have the instruction.)
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__AVX512F__) ||   \
    defined(__FP_FAST_FMAF) || (defined(__riscv_flen) && __riscv_flen >= 32) || \
    (defined(__loongarch_frlen) && __loongarch_frlen >= 32) || defined(__VSX__) || RWKV_SOFT_FLOAT
#define RWKV_FUSES 1
#else
#define RWKV_FUSES 0
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

// A firmware may have no <cmath> and no libm, which compilers call for errno's sake: so 32-bit ARM
// and RISC-V are asked for the instructions, and what has none gets its root from integers.
#if defined(__GNUC__) && defined(__ARM_FP) && !defined(__aarch64__)
#define RWKV_FLOAT_INSTRUCTIONS_ARM 1
#else
#define RWKV_FLOAT_INSTRUCTIONS_ARM 0
#endif
#if defined(__GNUC__) && defined(__riscv_flen)
#define RWKV_FLOAT_INSTRUCTIONS_RISCV 1
#else
#define RWKV_FLOAT_INSTRUCTIONS_RISCV 0
#endif

/// The square root, correctly rounded, of integers.
constexpr float root_by_integers(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) == 0 || bits == 0x7f800000u || (bits & 0x7fffffffu) > 0x7f800000u)
    return x;
  if (bits >> 31 != 0) return std::bit_cast<float>(0x7fc00000u);
  auto exponent = static_cast<std::int32_t>(bits >> 23) - 127;
  std::uint32_t rest = bits & 0x7fffffu;
  if (exponent == -127) {  // subnormal
    for (; (rest & 0x800000u) == 0; rest <<= 1) --exponent;
    ++exponent;
  }
  rest |= 0x800000u;
  rest <<= exponent & 1 ? 2 : 1;
  std::uint32_t root = 0, twice = 0;  // digit by digit: 24 and one to round by
  for (std::uint32_t digit = 0x1000000u; digit != 0; digit >>= 1, rest <<= 1) {
    if (twice + digit > rest) continue;
    rest -= twice + digit;
    twice += 2 * digit;
    root += digit;
  }
  root += root & 1;
  return std::bit_cast<float>((root >> 1) + 0x3f000000u +
                              (static_cast<std::uint32_t>(exponent >> 1) << 23));
}

#if defined(_MSC_VER) && !defined(__clang__)
RWKV_INLINE float fused_multiply_add(float a, float b, float c) noexcept {
  return std::fma(a, b, c);
}
RWKV_INLINE float square_root(float x) noexcept { return std::sqrt(x); }
#elif RWKV_FLOAT_INSTRUCTIONS_ARM
RWKV_INLINE float fused_multiply_add(float a, float b, float c) noexcept {
#if defined(__ARM_FEATURE_FMA) && defined(__clang__)
  asm("vfma.f32 %0, %1, %2" : "+t"(c) : "t"(a), "t"(b));
  return c;
#else
  return __builtin_fmaf(a, b, c);
#endif
}
RWKV_INLINE float square_root(float x) noexcept {
  asm("vsqrt.f32 %0, %0" : "+t"(x));
  return x;
}
#elif RWKV_FLOAT_INSTRUCTIONS_RISCV
RWKV_INLINE float fused_multiply_add(float a, float b, float c) noexcept {
  asm("fmadd.s %0, %1, %2, %0" : "+f"(c) : "f"(a), "f"(b));
  return c;
}
RWKV_INLINE float square_root(float x) noexcept {
  asm("fsqrt.s %0, %0" : "+f"(x));
  return x;
}
#elif RWKV_SOFT_FLOAT
RWKV_INLINE float fused_multiply_add(float a, float b, float c) noexcept {
  return soft::fused_multiply_add(a, b, c);
}
RWKV_INLINE float square_root(float x) noexcept { return root_by_integers(x); }
#else
RWKV_INLINE float fused_multiply_add(float a, float b, float c) noexcept {
  return __builtin_fmaf(a, b, c);
}
RWKV_INLINE float square_root(float x) noexcept { return __builtin_sqrtf(x); }
#endif

struct Scalar {
  static constexpr std::size_t width = 1;
  using Bytes = PlainBytes<1>;
  float v;

  RWKV_INLINE static Scalar broadcast(float f) noexcept { return {f}; }
  RWKV_INLINE static Scalar load(const float* p) noexcept { return {*p}; }
  RWKV_INLINE static Scalar load(const half* p) noexcept { return {to_float(*p)}; }
  RWKV_INLINE static Scalar load(const bfloat16* p) noexcept { return {to_float(*p)}; }
  RWKV_INLINE void store(float* p) const noexcept { *p = v; }

#if RWKV_SOFT_FLOAT
  RWKV_INLINE friend Scalar operator+(Scalar a, Scalar b) noexcept { return {soft::add(a.v, b.v)}; }
  RWKV_INLINE friend Scalar operator-(Scalar a, Scalar b) noexcept {
    return {soft::add(a.v, -b.v)};
  }
  RWKV_INLINE friend Scalar operator*(Scalar a, Scalar b) noexcept {
    return {soft::multiply(a.v, b.v)};
  }
#else
  RWKV_INLINE friend Scalar operator+(Scalar a, Scalar b) noexcept { return {a.v + b.v}; }
  RWKV_INLINE friend Scalar operator-(Scalar a, Scalar b) noexcept { return {a.v - b.v}; }
  RWKV_INLINE friend Scalar operator*(Scalar a, Scalar b) noexcept { return {a.v * b.v}; }
#endif
  RWKV_INLINE friend Scalar operator/(Scalar a, Scalar b) noexcept { return {a.v / b.v}; }

  /// a * b + c, with one rounding wherever the processor has the instruction.
  RWKV_INLINE friend Scalar fma(Scalar a, Scalar b, Scalar c) noexcept {
#if defined(__clang__)
#pragma clang fp contract(off) reassociate(off)  // see add_exponent_bias
#endif
#if RWKV_FUSES
    return {fused_multiply_add(a.v, b.v, c.v)};
#else
    return {a.v * b.v + c.v};
#endif
  }
  /// The lesser and the greater of two (not min and max, which <windows.h> defines). A NaN in `b`
  /// comes through; so callers put the variable second.
  RWKV_INLINE friend Scalar lesser(Scalar a, Scalar b) noexcept { return {a.v < b.v ? a.v : b.v}; }
  RWKV_INLINE friend Scalar greater(Scalar a, Scalar b) noexcept { return {a.v > b.v ? a.v : b.v}; }
  RWKV_INLINE friend Scalar sqrt(Scalar a) noexcept { return {square_root(a.v)}; }
  /// a < b ? x : y
  RWKV_INLINE friend Scalar select_less(Scalar a, Scalar b, Scalar x, Scalar y) noexcept {
    return a.v < b.v ? x : y;
  }
  /// n + 127 + 1.5 * 2^23 of `shifted` = n + 1.5 * 2^23, where n is an integer, -126 <= n <= 127.
  /// An addition to the bits: clang says by no macro that it may reorder sums, and would cancel
  /// (x + shift) - shift.
  RWKV_INLINE friend Scalar add_exponent_bias(Scalar shifted) noexcept {
    return {std::bit_cast<float>(std::bit_cast<std::uint32_t>(shifted.v) + 127u)};
  }
  /// 2^n of that.
  RWKV_INLINE friend Scalar exp2_of_biased(Scalar biased) noexcept {
    return {std::bit_cast<float>(std::bit_cast<std::uint32_t>(biased.v) << 23)};
  }
};

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
