// SPDX-License-Identifier: Apache-2.0
// Loops over vectors, written once for every lanes type. Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_ELEMENTWISE) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_ELEMENTWISE

#ifndef RWKV_AGAIN
#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/cortex_m.hpp>
#include <rwkv/kernels/math.hpp>
#include <rwkv/kernels/operands.hpp>
#endif

// When a length is a constant, GCC 12 finds that the scalar tail of `map` would run on past 2^62
// elements.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

/// Calls body.operator()<L>(i) for i = begin, begin + width, ... and, for the rest, with
/// simd::Scalar for one i after the other.
///
///   map<L>({0, n}, [&]<class V>(std::size_t i) {
///     (V::load(x + i) + V::load(y + i)).store(y + i);
///   });
template <class L, class Body>
RWKV_INLINE void map(Range range, Body body) noexcept {
  std::size_t i = range.begin;
  for (; i + L::width <= range.end; i += L::width) body.template operator()<L>(i);
  if constexpr (L::width > 1)
    for (; i < range.end; ++i) body.template operator()<simd::Scalar>(i);
}

/// A sum over [0, n) in an order that is the same for every vector width. There are 16 running
/// sums, element i is added to sum i % 16, and in the end the sums are added pairwise.
/// step.operator()<L>(i, sum) returns the sum with the `width` elements from i on added.
template <class L, class Step>
RWKV_INLINE float reduce(std::size_t n, Step step) noexcept {
  constexpr std::size_t lanes = 16;
  constexpr std::size_t vectors = lanes / L::width;
  L sum[vectors];
  for (std::size_t q = 0; q < vectors; ++q) sum[q] = L::broadcast(0.0f);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t q = 0; q < vectors; ++q)
      sum[q] = step.template operator()<L>(i + q * L::width, sum[q]);
  alignas(alignment) float lane[lanes];
  for (std::size_t q = 0; q < vectors; ++q) sum[q].store(lane + q * L::width);
  for (std::size_t k = 0; i < n; ++i, ++k)
    lane[k] = step.template operator()<simd::Scalar>(i, simd::Scalar{lane[k]}).v;
  for (std::size_t half = lanes / 2; half > 0; half /= 2)
    for (std::size_t k = 0; k < half; ++k)
      lane[k] = (simd::Scalar{lane[k]} + simd::Scalar{lane[k + half]}).v;
  return lane[0];
}

/// y[i] = f(y[i])
template <class L>
RWKV_INNER_LOOP void activate(Activation f, float* y, Range range) noexcept {
  switch (f) {
    case Activation::none:
      break;
    case Activation::tanh:
      map<L>(range, [y]<class V>(std::size_t i) { tanh(V::load(y + i)).store(y + i); });
      break;
    case Activation::sigmoid:
#if RWKV_CORTEX_M_VECTOR
      for (; L::width == 1 && range.end - range.begin >= 32; range.begin += 32) {
        static constexpr float zeros[32] = {};
        cortex_m::each_or_scalar(cortex_m::sigmoids, zeros, y + range.begin, y + range.begin, 32,
                                 [](simd::Scalar x) { return sigmoid(x); });
      }
#endif
      map<L>(range, [y]<class V>(std::size_t i) { sigmoid(V::load(y + i)).store(y + i); });
      break;
    case Activation::relu_squared:
#if RWKV_CORTEX_M
      if (const std::size_t n = range.end - range.begin; L::width == 1 && n > 0 && n % 8 == 0)
        return cortex_m::relu_squared(y + range.begin, n);
#endif
      map<L>(range, [y]<class V>(std::size_t i) {
        const V positive = greater(V::broadcast(0.0f), V::load(y + i));
        (positive * positive).store(y + i);
      });
      break;
  }
}

/// y += x
template <class L>
void add(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y, std::size_t n) noexcept {
#if RWKV_CORTEX_M
  if (L::width == 1 && n > 0 && n % 8 == 0) return cortex_m::add(x, y, n);
#endif
  map<L>({0, n}, [=]<class V>(std::size_t i) { (V::load(y + i) + V::load(x + i)).store(y + i); });
}

/// y += x, where -0 counts as 0.
template <class L>
void add_unsigned_zeros(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                        std::size_t n) noexcept {
  map<L>({0, n}, [=]<class V>(std::size_t i) {
    (V::load(y + i) + (V::load(x + i) + V::broadcast(0.0f))).store(y + i);
  });
}

/// y = x + (previous - x) mu: mu = 0 sees only the current token, mu = 1 only the previous one.
template <class L>
void token_shift(const float* x, const float* previous, const float* mu, float* RWKV_RESTRICT y,
                 std::size_t n) noexcept {
#if RWKV_CORTEX_M
  if (L::width == 1 && n > 0 && n % 8 == 0) return cortex_m::token_shift(x, previous, mu, y, n);
#endif
  map<L>({0, n}, [=]<class V>(std::size_t i) {
    const V now = V::load(x + i);
    fma(V::load(previous + i) - now, V::load(mu + i), now).store(y + i);
  });
}

/// y = x m for m [n, n] in C order.
template <class L>
void row_times(const float* x, const float* m, float* RWKV_RESTRICT y, std::size_t n) noexcept {
  map<L>({0, n}, [=]<class V>(std::size_t j) {
    V sum = V::broadcast(0.0f);
    for (std::size_t i = 0; i < n; ++i) sum = fma(V::broadcast(x[i]), V::load(m + i * n + j), sum);
    sum.store(y + j);
  });
}

/// y *= x + bias
template <class L>
void gate(const float* x, const float* bias, float* RWKV_RESTRICT y, std::size_t n) noexcept {
  map<L>({0, n}, [=]<class V>(std::size_t i) {
    (V::load(y + i) * (V::load(x + i) + V::load(bias + i))).store(y + i);
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#ifndef RWKV_AGAIN
namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {
using compiled::map;
using compiled::reduce;
}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
#endif

#endif
