// SPDX-License-Identifier: Apache-2.0
// exp, sigmoid and tanh, written once for one float and for a vector of them: where the processor
// has a fused multiply-add, both give the same bits. Freestanding. The polynomials are our own
// minimax fits.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_MATH) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_MATH

#ifndef RWKV_AGAIN
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/simd/scalar.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

/// e^x within 2 ulp. Below -87.33 it is 0. Above 88.37 it stays 2.4e38. NaN stays NaN.
template <class L>
RWKV_INLINE L exp(L x) noexcept {
  constexpr float shift = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const auto c = [](float f) { return L::broadcast(f); };
  L clamped = x;
  if constexpr (L::width == 1) {  // nothing to clamp, nearly always
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x.v) & 0x7fffffffu;
    if (magnitude > std::bit_cast<std::uint32_t>(87.33f)) [[unlikely]] {
      if (x.v < -87.33f) return c(0.0f);
      clamped = lesser(c(88.37f), x);
    }
  } else {
    clamped = greater(c(-87.33f), lesser(c(88.37f), x));
  }
  const L shifted = fma(clamped, c(0x1.715476p0f), c(shift));  // n = round(x / ln 2)
  const L biased = add_exponent_bias(shifted);
  const L n = biased - c(shift + 127.0f);
  // r = x - n ln 2, with ln 2 in two parts; the first product is exact.
  L r = fma(n, c(-0x1.62e4p-1f), clamped);
  r = fma(n, c(-0x1.7f7d1cp-20f), r);
  // e^r = 1 + r + r^2 q(r), with a relative error of 3e-9 for |r| <= ln 2 / 2
  L q = c(0x1.6a23cep-10f);
  q = fma(q, r, c(0x1.123a2p-7f));
  q = fma(q, r, c(0x1.5558f2p-5f));
  q = fma(q, r, c(0x1.555492p-3f));
  q = fma(q, r, c(0x1.fffffcp-2f));
  const L p = fma(r * r, q, r) + c(1.0f);
  const L power = p * exp2_of_biased(biased);
  if constexpr (L::width == 1)
    return power;
  else
    return select_less(x, c(-87.33f), c(0.0f), power);
}

/// 1 / (1 + e^-x), never below 4e-39; exactly 1 from x = 17 on.
template <class L>
RWKV_INLINE L sigmoid(L x) noexcept {
  const L one = L::broadcast(1.0f);
  return one / (one + exp(L::broadcast(0.0f) - x));
}

/// Hyperbolic tangent: relative error below 3e-7 everywhere.
template <class L>
RWKV_INLINE L tanh(L x) noexcept {
  const auto c = [](float f) { return L::broadcast(f); };
  // Near zero an odd polynomial, because 1 - 2 / (e^2x + 1) cancels there.
  const L z = x * x;
  L p = c(-0.0057170447f);
  p = fma(p, z, c(0.020650586f));
  p = fma(p, z, c(-0.053743497f));
  p = fma(p, z, c(0.13331491f));
  p = fma(p, z, c(-0.33333284f));
  const L polynomial = fma(x * z, p, x);
  const L large = c(1.0f) - c(2.0f) / (exp(x + x) + c(1.0f));
  return select_less(z, c(0.390625f), polynomial, large);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#ifndef RWKV_AGAIN
namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {
using compiled::exp;
using compiled::sigmoid;
using compiled::tanh;
}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
#endif

#endif
