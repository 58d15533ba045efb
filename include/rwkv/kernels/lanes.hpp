// SPDX-License-Identifier: Apache-2.0
// The kernels of kernels/dispatched.hpp for lanes that are named by type. Freestanding.
#pragma once

#include <rwkv/kernels/all_kernels.hpp>
#include <rwkv/kernels/dispatched.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

template <class L>
ActivationFormat activation_format(const AnyMatrix& w) noexcept {
  return activation_format_of(w, simd::HasPairs<L>);
}

template <class L>
void multiply(const AnyMatrix& w, Range panels, const ProductInputs& x, std::size_t rows, float* y,
              std::size_t ldy) noexcept {
  if (is_block(w.type))
    compiled::multiply_blocks<L>(w, panels, x, rows, y, ldy);
  else
    compiled::multiply_floats<L>(w, panels, x, rows, y, ldy);
}

/// The same for a matrix of a type known at compile time.
template <class L, class T>
void multiply(const PanelMatrix<T>& w, Range panels, const ProductInputs& x, std::size_t rows,
              float* y, std::size_t ldy) noexcept {
  compiled::matmul<L>(w, panels, x.x, x.ldx, rows, y, ldy);
}

template <class L>
void quantise_row(ActivationFormat how, const float* x, const QuantisedActivations& to,
                  std::size_t m) noexcept {
  compiled::quantise_row<L>(how, x, to, m);
}

template <class L>
void advance(const WkvTokens& t, std::size_t n, float* state) noexcept {
  compiled::wkv<L>(t, n, state);
}
template <class L>
void head_operands(const HeadParameters& p, std::size_t n, const HeadRow& h) noexcept {
  compiled::head_operands<L>(p, n, h);
}
template <class L>
void head_output(const HeadParameters& p, std::size_t n, const float* r, const float* k,
                 const float* v, const float* g, float* y) noexcept {
  compiled::head_output<L>(p, n, r, k, v, g, y);
}
template <class L>
void normalise(const float* x, const float* weight, const float* bias, float epsilon, float* y,
               std::size_t n) noexcept {
  compiled::normalise<L>(x, weight, bias, epsilon, y, n);
}
template <class L>
void activate(Activation f, float* y, Range range) noexcept {
  compiled::activate<L>(f, y, range);
}
template <class L>
void add(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y, std::size_t n) noexcept {
  compiled::add<L>(x, y, n);
}
template <class L>
void add_unsigned_zeros(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                        std::size_t n) noexcept {
  compiled::add_unsigned_zeros<L>(x, y, n);
}
template <class L>
void token_shift(const float* x, const float* previous, const float* mu, float* RWKV_RESTRICT y,
                 std::size_t n) noexcept {
  compiled::token_shift<L>(x, previous, mu, y, n);
}
template <class L>
void row_times(const float* x, const float* m, float* RWKV_RESTRICT y, std::size_t n) noexcept {
  compiled::row_times<L>(x, m, y, n);
}
template <class L>
void gate(const float* x, const float* bias, float* RWKV_RESTRICT y, std::size_t n) noexcept {
  compiled::gate<L>(x, bias, y, n);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
