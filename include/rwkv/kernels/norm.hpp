// SPDX-License-Identifier: Apache-2.0
// Layer norm, per-head group norm and unit length. Variances are means of squared deviations
// (divided by n, not n - 1), computed in a second pass so that a large mean costs no digits.
// Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_NORM) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_NORM

#ifndef RWKV_AGAIN
#include <rwkv/kernels/elementwise.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias over n elements. y may be x.
template <class L>
RWKV_INNER_LOOP void normalise(const float* x, const float* weight, const float* bias,
                               float epsilon, float* y, std::size_t n) noexcept {
  const auto count = static_cast<float>(n);
#if RWKV_CORTEX_M
  if (L::width == 1 && n > 0 && n % 16 == 0) {
    const cortex_m::NormArguments arguments{x, weight, bias, y, n, count, epsilon};
    return cortex_m::normalise(&arguments);
  }
#endif
  const float mean =
      reduce<L>(n, [x]<class V>(std::size_t i, V sum) { return sum + V::load(x + i); }) / count;
  const float variance = reduce<L>(n,
                                   [x, mean]<class V>(std::size_t i, V sum) {
                                     const V d = V::load(x + i) - V::broadcast(mean);
                                     return fma(d, d, sum);
                                   }) /
                         count;
  const float scale = 1.0f / simd::square_root(variance + epsilon);
  map<L>({0, n}, [=]<class V>(std::size_t i) {
    const V d = (V::load(x + i) - V::broadcast(mean)) * V::broadcast(scale);
    fma(d, V::load(weight + i), V::load(bias + i)).store(y + i);
  });
}

/// y = x / max(|x|, 1e-12): a vector of zeros stays zero. y may be x.
template <class L>
void unit_length(const float* x, float* y, std::size_t n) noexcept {
#if RWKV_CORTEX_M
  if (L::width == 1 && n > 0 && n % 16 == 0) return cortex_m::unit_length(x, y, n);
#endif
  const float squares = reduce<L>(n, [x]<class V>(std::size_t i, V sum) {
    const V v = V::load(x + i);
    return fma(v, v, sum);
  });
  const float length = simd::square_root(squares);
  const float scale = 1.0f / (length > 1e-12f ? length : 1e-12f);
  map<L>({0, n},
         [=]<class V>(std::size_t i) { (V::load(x + i) * V::broadcast(scale)).store(y + i); });
}

/// sum of a[i] b[i] c[i]
template <class L>
float triple_product(const float* a, const float* b, const float* c, std::size_t n) noexcept {
#if RWKV_CORTEX_M
  if (L::width == 1 && n > 0 && n % 16 == 0) {
    float sum;
    cortex_m::triple_product(a, b, c, n, &sum);
    return sum;
  }
#endif
  return reduce<L>(n, [=]<class V>(std::size_t i, V sum) {
    return fma(V::load(a + i) * V::load(b + i), V::load(c + i), sum);
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#ifndef RWKV_AGAIN
namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {
using compiled::triple_product;
using compiled::unit_length;
}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
#endif

#endif
