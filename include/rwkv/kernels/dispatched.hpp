// SPDX-License-Identifier: Apache-2.0
// The kernels that a program spends its time in, on lanes of type L. For simd::Chosen they are
// those for the best instruction set that the processor has (include kernels/chosen.hpp); for lanes
// that firmware and tests name, include kernels/lanes.hpp. Freestanding.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/operands.hpp>
#include <rwkv/simd/chosen.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// In what format products with `w` want their inputs.
template <class L>
[[nodiscard]] ActivationFormat activation_format(const AnyMatrix& w) noexcept;

/// y = W x for panels of a matrix of any type, whose inputs are in the format that it wants (or, if
/// it is of floats, as they are).
template <class L>
void multiply(const AnyMatrix& w, Range panels, const ProductInputs& x, std::size_t rows, float* y,
              std::size_t ldy) noexcept;

/// Quantises row m of a product's inputs.
template <class L>
void quantise_row(ActivationFormat how, const float* x, const QuantisedActivations& to,
                  std::size_t m) noexcept;

/// Advances one head's state over some tokens (kernels/wkv.hpp).
template <class L>
void advance(const WkvTokens& t, std::size_t n, float* state) noexcept;

/// What the recurrence works on, of one head of one row (kernels/head_row.hpp).
template <class L>
void head_operands(const HeadParameters& p, std::size_t n, const HeadRow& h) noexcept;

/// Norm, bonus and gate of one head of one row (kernels/head_row.hpp).
template <class L>
void head_output(const HeadParameters& p, std::size_t n, const float* r, const float* k,
                 const float* v, const float* g, float* y) noexcept;

/// Layer norm (kernels/norm.hpp).
template <class L>
void normalise(const float* x, const float* weight, const float* bias, float epsilon, float* y,
               std::size_t n) noexcept;

/// y[i] = f(y[i]) (kernels/elementwise.hpp).
template <class L>
void activate(Activation f, float* y, Range range) noexcept;

/// y += x
template <class L>
void add(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y, std::size_t n) noexcept;

/// y += x, where -0 counts as 0
template <class L>
void add_unsigned_zeros(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                        std::size_t n) noexcept;

/// y = x + (previous - x) mu
template <class L>
void token_shift(const float* x, const float* previous, const float* mu, float* RWKV_RESTRICT y,
                 std::size_t n) noexcept;

/// y = x m for m [n, n] in C order
template <class L>
void row_times(const float* x, const float* m, float* RWKV_RESTRICT y, std::size_t n) noexcept;

/// y *= x + bias
template <class L>
void gate(const float* x, const float* bias, float* RWKV_RESTRICT y, std::size_t n) noexcept;

// Declared before anything could use them.
template <>
RWKV_FUNCTION ActivationFormat activation_format<simd::Chosen>(const AnyMatrix& w) noexcept;
template <>
RWKV_FUNCTION void multiply<simd::Chosen>(const AnyMatrix& w, Range panels, const ProductInputs& x,
                                          std::size_t rows, float* y, std::size_t ldy) noexcept;
template <>
RWKV_FUNCTION void quantise_row<simd::Chosen>(ActivationFormat how, const float* x,
                                              const QuantisedActivations& to,
                                              std::size_t m) noexcept;
template <>
RWKV_FUNCTION void advance<simd::Chosen>(const WkvTokens& t, std::size_t n, float* state) noexcept;
template <>
RWKV_FUNCTION void head_operands<simd::Chosen>(const HeadParameters& p, std::size_t n,
                                               const HeadRow& h) noexcept;
template <>
RWKV_FUNCTION void head_output<simd::Chosen>(const HeadParameters& p, std::size_t n, const float* r,
                                             const float* k, const float* v, const float* g,
                                             float* y) noexcept;
template <>
RWKV_FUNCTION void normalise<simd::Chosen>(const float* x, const float* weight, const float* bias,
                                           float epsilon, float* y, std::size_t n) noexcept;
template <>
RWKV_FUNCTION void activate<simd::Chosen>(Activation f, float* y, Range range) noexcept;
template <>
RWKV_FUNCTION void add<simd::Chosen>(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                                     std::size_t n) noexcept;
template <>
RWKV_FUNCTION void add_unsigned_zeros<simd::Chosen>(const float* RWKV_RESTRICT x,
                                                    float* RWKV_RESTRICT y, std::size_t n) noexcept;
template <>
RWKV_FUNCTION void token_shift<simd::Chosen>(const float* x, const float* previous, const float* mu,
                                             float* RWKV_RESTRICT y, std::size_t n) noexcept;
template <>
RWKV_FUNCTION void row_times<simd::Chosen>(const float* x, const float* m, float* RWKV_RESTRICT y,
                                           std::size_t n) noexcept;
template <>
RWKV_FUNCTION void gate<simd::Chosen>(const float* x, const float* bias, float* RWKV_RESTRICT y,
                                      std::size_t n) noexcept;

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
