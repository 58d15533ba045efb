// SPDX-License-Identifier: Apache-2.0
// Lanes (simd/scalar.hpp) and bytes (simd/bytes.hpp) in the vector types that GCC and Clang have for
// every processor: for those without lanes of their own here, and for programs without xsimd. Where
// an instruction does what no operator says (a fused multiply-add, a sum of two products), it is
// asked for by name. Freestanding.
//
// RWKV_GNU_VECTORS: whether the processor has vector registers that these types are kept in.
#pragma once

#include <rwkv/simd/scalar.hpp>

#if defined(__GNUC__) &&                                                                          \
    (defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__) || defined(__VSX__) || \
     defined(__loongarch_sx) || defined(__riscv_vector) ||                                        \
     (defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)))
#define RWKV_GNU_VECTORS 1
#else
#define RWKV_GNU_VECTORS 0
#endif

#if defined(__has_builtin)
#if __has_builtin(__builtin_elementwise_fma)  // Clang
#define RWKV_HAS_ELEMENTWISE_FMA 1
#endif
#endif
#ifndef RWKV_HAS_ELEMENTWISE_FMA
#define RWKV_HAS_ELEMENTWISE_FMA 0
#endif

#if RWKV_GNU_VECTORS
#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

namespace gnu {

typedef float Floats __attribute__((vector_size(16)));
typedef std::int32_t Integers __attribute__((vector_size(16)));
typedef std::uint32_t Words __attribute__((vector_size(16)));
typedef std::uint8_t Bytes __attribute__((vector_size(16)));
typedef std::int16_t Shorts __attribute__((vector_size(16)));
typedef std::uint16_t UnsignedShorts __attribute__((vector_size(16)));
typedef std::int16_t FourShorts __attribute__((vector_size(8)));

/// The vector at any address. (Freestanding compilers call memcpy for so few bytes.)
template <class V>
RWKV_INLINE V load(const void* p) noexcept {
  struct __attribute__((packed, may_alias)) Anywhere {
    V v;
  };
  return static_cast<const Anywhere*>(p)->v;
}

/// The same number four times. In WebAssembly it is loaded before a loop begins: engines make
/// constants of vectors again for every use.
RWKV_INLINE Words words(std::uint32_t word) noexcept {
#if defined(__wasm__)
  asm("" : "+r"(word));
#endif
  return Words{word, word, word, word};
}

}  // namespace gnu

struct GnuBytes {
  static constexpr std::size_t width = 4;
  using Register = gnu::Words;
  using Wide = gnu::Integers;
  // The bytes of a lane are multiplied as two pairs of 16 bits: the even ones, and the odd ones.
#if defined(__SSE2__) || defined(__wasm_simd128__)  // has sums of two products in 32 bits
  using Sum = gnu::Integers;
  template <unsigned Bits>
  static constexpr unsigned lazy = 8;
#else
  using Sum = gnu::Shorts;
  template <unsigned Bits>
  static constexpr unsigned lazy = Bits <= 4   ? 8
                                   : Bits == 5 ? 4
                                   : Bits == 6 ? 2
                                               : 1;
#endif

  RWKV_INLINE static Register load(const void* p) noexcept { return gnu::load<Register>(p); }
  RWKV_INLINE static Register broadcast(const std::int8_t* p) noexcept {
    struct __attribute__((packed, may_alias)) Anywhere {
      std::uint32_t four;
    };
    const std::uint32_t four = reinterpret_cast<const Anywhere*>(p)->four;
    return Register{four, four, four, four};
  }
  RWKV_INLINE static Register low(Register r) noexcept { return r & gnu::words(0x0f0f0f0fu); }
  RWKV_INLINE static Register high(Register r) noexcept { return r >> 4 & gnu::words(0x0f0f0f0fu); }
  template <unsigned Shift, unsigned Bits>
  RWKV_INLINE static Register with_bits(Register r, Register plane) noexcept {
    constexpr std::uint32_t mask = 0x01010101u * (((1u << Bits) - 1) << 4);
    Register moved = plane;
    if constexpr (Shift > 4) moved = plane >> (Shift - 4);
    if constexpr (Shift < 4) moved = plane << (4 - Shift);
    return r | (moved & gnu::words(mask));
  }
  template <unsigned Bits>
  RWKV_INLINE static Register drop(Register r) noexcept {
    return r >> Bits;
  }

  RWKV_INLINE static void transpose(Register (&r)[4]) noexcept {
    const auto first = [](auto a, auto b) RWKV_INLINE_LAMBDA {
      if constexpr (sizeof a[0] == 1)
        return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                       23);
      else
        return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    };
    const auto second = [](auto a, auto b) RWKV_INLINE_LAMBDA {
      if constexpr (sizeof a[0] == 1)
        return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,
                                       15, 31);
      else
        return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    };
    using gnu::Bytes, gnu::Shorts;
    const Bytes in[4] = {reinterpret_cast<Bytes>(r[0]), reinterpret_cast<Bytes>(r[1]),
                         reinterpret_cast<Bytes>(r[2]), reinterpret_cast<Bytes>(r[3])};
    const auto a = reinterpret_cast<Shorts>(first(in[0], in[1]));
    const auto b = reinterpret_cast<Shorts>(first(in[2], in[3]));
    const auto c = reinterpret_cast<Shorts>(second(in[0], in[1]));
    const auto d = reinterpret_cast<Shorts>(second(in[2], in[3]));
    r[0] = reinterpret_cast<Register>(first(a, b));
    r[1] = reinterpret_cast<Register>(second(a, b));
    r[2] = reinterpret_cast<Register>(first(c, d));
    r[3] = reinterpret_cast<Register>(second(c, d));
  }

  RWKV_INLINE static Sum zero() noexcept { return Sum{}; }
  RWKV_INLINE static Sum dot(Sum sum, Register codes, Register x) noexcept {
    const auto c = reinterpret_cast<gnu::UnsignedShorts>(codes);
    return add_products(sum, reinterpret_cast<gnu::Shorts>(c & std::uint16_t{0xff}),
                        reinterpret_cast<gnu::Shorts>(c >> 8), even(x), odd(x));
  }
  RWKV_INLINE static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    return add_products(sum, even(w), odd(w), even(x), odd(x));
  }
  RWKV_INLINE static Wide widen(Sum sum) noexcept {
    if constexpr (sizeof sum[0] == 4) {
      return reinterpret_cast<Wide>(sum);
    } else {
      const auto words = reinterpret_cast<gnu::Words>(sum);
      return (reinterpret_cast<Wide>(words << 16) >> 16) + (reinterpret_cast<Wide>(words) >> 16);
    }
  }
  RWKV_INLINE static Wide add_wide(Wide a, Wide b) noexcept { return a + b; }

  template <class L>
  RWKV_INLINE static L to_float(Wide sum) noexcept {
    return L::from(__builtin_convertvector(sum, gnu::Floats));
  }
  template <class L, unsigned Byte>
  RWKV_INLINE static L byte_to_float(Register r) noexcept {
    return to_float<L>(reinterpret_cast<Wide>(r << (24 - 8 * Byte)) >> 24);
  }
  template <class L>
  RWKV_INLINE static L load_floats(const std::int8_t* p) noexcept {
    return to_float<L>(Wide{p[0], p[1], p[2], p[3]});
  }

 private:
  RWKV_INLINE static gnu::Shorts even(Register r) noexcept {
    return reinterpret_cast<gnu::Shorts>(reinterpret_cast<gnu::UnsignedShorts>(r) << 8) >> 8;
  }
  RWKV_INLINE static gnu::Shorts odd(Register r) noexcept {
    return reinterpret_cast<gnu::Shorts>(r) >> 8;
  }
  RWKV_INLINE static Sum add_products(Sum sum, gnu::Shorts w_even, gnu::Shorts w_odd,
                                      gnu::Shorts x_even, gnu::Shorts x_odd) noexcept {
#if defined(__SSE2__)
    return sum + __builtin_ia32_pmaddwd128(w_even, x_even) +
           __builtin_ia32_pmaddwd128(w_odd, x_odd);
#elif defined(__wasm_simd128__)
    return sum + __builtin_wasm_dot_s_i32x4_i16x8(w_even, x_even) +
           __builtin_wasm_dot_s_i32x4_i16x8(w_odd, x_odd);
#else
    return sum + w_even * x_even + w_odd * x_odd;  // two products fit: none of the bytes is -128
#endif
  }
};

/// Four floats.
struct GnuLanes {
  static constexpr std::size_t width = 4;
  using Bytes = GnuBytes;
  gnu::Floats v;

  RWKV_INLINE static GnuLanes from(gnu::Floats f) noexcept { return {f}; }
  RWKV_INLINE static GnuLanes broadcast(float f) noexcept { return {gnu::Floats{f, f, f, f}}; }
  RWKV_INLINE static GnuLanes load(const float* p) noexcept { return {gnu::load<gnu::Floats>(p)}; }
  /// Exact: the sign and the fraction are shifted into place and a multiplication rebiases the
  /// exponent (it also normalises subnormals); infinities and NaNs, now from 65536 on, get their
  /// exponent set.
  RWKV_INLINE static GnuLanes load(const half* p) noexcept {
    const auto placed =
        reinterpret_cast<gnu::Floats>(load_shorts(p) << 13 & gnu::words(0x8fffe000u));
    const auto number = reinterpret_cast<gnu::Words>(
        placed * reinterpret_cast<gnu::Floats>(gnu::words(0x77800000u)));
    const auto special = reinterpret_cast<gnu::Words>(
        reinterpret_cast<gnu::Integers>(number & gnu::words(0x7fffffffu)) >
        reinterpret_cast<gnu::Integers>(gnu::words(0x477fffffu)));
    return {reinterpret_cast<gnu::Floats>(number | (special & gnu::words(0x7f800000u)))};
  }
  RWKV_INLINE static GnuLanes load(const bfloat16* p) noexcept {
    return {reinterpret_cast<gnu::Floats>(load_shorts(p) << 16)};
  }
  RWKV_INLINE void store(float* p) const noexcept {
    struct __attribute__((packed, may_alias)) Anywhere {
      gnu::Floats v;
    };
    reinterpret_cast<Anywhere*>(p)->v = v;
  }

  RWKV_INLINE friend GnuLanes operator+(GnuLanes a, GnuLanes b) noexcept { return {a.v + b.v}; }
  RWKV_INLINE friend GnuLanes operator-(GnuLanes a, GnuLanes b) noexcept {
#if defined(__clang__)
#pragma clang fp reassociate(off)  // see Scalar's add_exponent_bias
#endif
    return {a.v - b.v};
  }
  RWKV_INLINE friend GnuLanes operator*(GnuLanes a, GnuLanes b) noexcept { return {a.v * b.v}; }
  RWKV_INLINE friend GnuLanes operator/(GnuLanes a, GnuLanes b) noexcept { return {a.v / b.v}; }

  RWKV_INLINE friend GnuLanes fma(GnuLanes a, GnuLanes b, GnuLanes c) noexcept {
#if defined(__clang__)
#pragma clang fp contract(off) reassociate(off)
#endif
#if defined(__aarch64__)
    return {vfmaq_f32(c.v, a.v, b.v)};
#elif defined(__ARM_FEATURE_MVE)
    return {vfmaq(c.v, a.v, b.v)};
#elif defined(__VSX__)
    return {__builtin_vsx_xvmaddasp(a.v, b.v, c.v)};
#elif RWKV_FUSES && RWKV_HAS_ELEMENTWISE_FMA
    return {__builtin_elementwise_fma(a.v, b.v, c.v)};
#elif RWKV_FUSES
    gnu::Floats r;
    for (int k = 0; k < 4; ++k) r[k] = fused_multiply_add(a.v[k], b.v[k], c.v[k]);
    return {r};
#else
    return {a.v * b.v + c.v};
#endif
  }
  RWKV_INLINE friend GnuLanes lesser(GnuLanes a, GnuLanes b) noexcept {
    return {a.v < b.v ? a.v : b.v};
  }
  RWKV_INLINE friend GnuLanes greater(GnuLanes a, GnuLanes b) noexcept {
    return {a.v > b.v ? a.v : b.v};
  }
  RWKV_INLINE friend GnuLanes sqrt(GnuLanes a) noexcept {
    gnu::Floats r;
    for (int k = 0; k < 4; ++k) r[k] = square_root(a.v[k]);
    return {r};
  }
  RWKV_INLINE friend GnuLanes select_less(GnuLanes a, GnuLanes b, GnuLanes x, GnuLanes y) noexcept {
    return {a.v < b.v ? x.v : y.v};
  }
  RWKV_INLINE friend GnuLanes add_exponent_bias(GnuLanes shifted) noexcept {
    return {reinterpret_cast<gnu::Floats>(reinterpret_cast<gnu::Words>(shifted.v) + 127u)};
  }
  RWKV_INLINE friend GnuLanes exp2_of_biased(GnuLanes biased) noexcept {
    return {reinterpret_cast<gnu::Floats>(reinterpret_cast<gnu::Words>(biased.v) << 23)};
  }

 private:
  RWKV_INLINE static gnu::Words load_shorts(const void* p) noexcept {
    return reinterpret_cast<gnu::Words>(
        __builtin_convertvector(gnu::load<gnu::FourShorts>(p), gnu::Integers));
  }
};

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
#endif
