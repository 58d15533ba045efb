// SPDX-License-Identifier: Apache-2.0
// What kernels/chosen.ipp calls of an instruction set, declared.
//
// Read once per instruction set (kernels/isa_namespace.hpp) whenever this list is included.
#ifndef RWKV_AGAIN
#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/attention.hpp>
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/kernels/operands.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

template <class L>
void multiply_floats(const AnyMatrix& w, Range panels, const ProductInputs& x, std::size_t rows,
                     float* y, std::size_t ldy) noexcept;
template <class L>
void multiply_blocks(const AnyMatrix& w, Range panels, const ProductInputs& x, std::size_t rows,
                     float* y, std::size_t ldy) noexcept;
template <class L>
void matmul_of_pairs(const PanelMatrix<bfloat16>& w, Range panels, const QuantisedActivations& x,
                     std::size_t rows, float* y, std::size_t ldy) noexcept;
template <class L>
void quantise_row(ActivationFormat how, const float* x, const QuantisedActivations& to,
                  std::size_t m) noexcept;
template <class L>
void wkv(const WkvTokens& t, std::size_t n, float* state) noexcept;
template <class L>
void head_operands(const HeadParameters& p, std::size_t n, const HeadRow& h) noexcept;
template <class L>
void head_output(const HeadParameters& p, std::size_t n, const float* r, const float* k,
                 const float* v, const float* g, float* y) noexcept;
template <class L>
void normalise(const float* x, const float* weight, const float* bias, float epsilon, float* y,
               std::size_t n) noexcept;
template <class L>
void activate(Activation f, float* y, Range range) noexcept;
template <class L>
void add(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y, std::size_t n) noexcept;
template <class L>
void add_unsigned_zeros(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                        std::size_t n) noexcept;
template <class L>
void token_shift(const float* x, const float* previous, const float* mu, float* RWKV_RESTRICT y,
                 std::size_t n) noexcept;
template <class L>
void row_times(const float* x, const float* m, float* RWKV_RESTRICT y, std::size_t n) noexcept;
template <class L>
void gate(const float* x, const float* bias, float* RWKV_RESTRICT y, std::size_t n) noexcept;
template <class L, class T>
void key_scores(const HeadPage<T>& page, Range entries, const float* q, float* scores) noexcept;
template <class L, class T>
void attend(const HeadPage<T>& page, Range entries, const float* q,
            RunningSoftmax& softmax) noexcept;

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL
