// SPDX-License-Identifier: Apache-2.0
// What surrounds the recurrence of the time mix, for one head of one row. Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_HEAD_ROW) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_HEAD_ROW

#ifndef RWKV_AGAIN
#include <rwkv/kernels/norm.hpp>

#include <cstring>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

/// Decay w, learning rate a, value residual v, keys kk and k, and with them the operands of the
/// recurrence.
template <class L>
RWKV_INNER_LOOP void head_operands(const HeadParameters& p, std::size_t n,
                                   const HeadRow& h) noexcept {
  constexpr float exp_minus_half = 0.60653066f;
  const auto prepare = [&]<class V>(std::size_t j) {
    const V rate = sigmoid(V::load(p.a0 + j) + V::load(h.a + j));
    (p.extended ? rate + rate : rate).store(h.a + j);
    exp(V::broadcast(-exp_minus_half) * sigmoid(V::load(p.w0 + j) + V::load(h.w + j)))
        .store(h.w + j);
    const V v = V::load(h.v + j);
    if (p.v0 == nullptr) {
      v.store(h.v_first + j);
    } else {
      const V mix = sigmoid(V::load(p.v0 + j) + V::load(h.v_mix + j));
      fma(V::load(h.v_first + j) - v, mix, v).store(h.v + j);
    }
    (V::load(h.k + j) * V::load(p.k_k + j)).store(h.b + j);
  };
#if RWKV_CORTEX_M_VECTOR
  if (L::width == 1 && n > 0 && n % 4 == 0 && !p.extended) {
    const auto sigmoids = [&](auto kernel, const float* a, float* b, auto each) {
      cortex_m::each_or_scalar(kernel, a, b, b, n, each);
    };
    const auto plain = [](simd::Scalar x) { return sigmoid(x); };
    sigmoids(cortex_m::sigmoids, p.a0, h.a, plain);
    sigmoids(cortex_m::decays, p.w0, h.w,
             [](simd::Scalar x) { return exp(simd::Scalar{-exp_minus_half} * sigmoid(x)); });
    if (p.v0 == nullptr) {
      std::memcpy(h.v_first, h.v, n * sizeof(float));
    } else {
      sigmoids(cortex_m::sigmoids, p.v0, h.v_mix, plain);
      cortex_m::token_shift(h.v, h.v_first, h.v_mix, h.v, n);
    }
    cortex_m::multiply(h.k, p.k_k, h.b, n);
  } else {
    map<L>({0, n}, prepare);
  }
#else
  map<L>({0, n}, prepare);
#endif
  unit_length<L>(h.b, h.b, n);  // kk, from k before its update
#if RWKV_CORTEX_M
  if (L::width == 1 && n % 4 == 0 && !p.extended) {
    const cortex_m::KeyArguments arguments{h.b, h.k, h.minus_kk, h.a, p.k_a};
    return cortex_m::keys(&arguments, n);
  }
#endif
  map<L>({0, n}, [&]<class V>(std::size_t j) {
    const V kk = V::load(h.b + j);
    const V a = V::load(h.a + j);
    (V::broadcast(0.0f) - kk).store(h.minus_kk + j);
    (p.extended ? kk * a * V::load(h.w + j) : kk * a).store(h.b + j);
    (V::load(h.k + j) * fma(a - V::broadcast(1.0f), V::load(p.k_a + j), V::broadcast(1.0f)))
        .store(h.k + j);
  });
}

/// y = (GN(y; ln_x) + (r . k r_k) v) g
template <class L>
void head_output(const HeadParameters& p, std::size_t n, const float* r, const float* k,
                 const float* v, const float* g, float* y) noexcept {
  normalise<L>(y, p.ln_x_weight, p.ln_x_bias, p.ln_x_epsilon, y, n);
  const float bonus = triple_product<L>(r, k, p.r_k, n);
#if RWKV_CORTEX_M_VECTOR
  if (L::width == 1 && n > 0 && n % 4 == 0) return cortex_m::add_bonus(&bonus, v, g, y, n);
#endif
  map<L>({0, n}, [=]<class V>(std::size_t j) {
    (fma(V::broadcast(bonus), V::load(v + j), V::load(y + j)) * V::load(g + j)).store(y + j);
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
