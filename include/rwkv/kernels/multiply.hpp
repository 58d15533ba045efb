// SPDX-License-Identifier: Apache-2.0
// Products with matrices whose type is known only at run time: run time becomes compile time, once
// per product. Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_MULTIPLY) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_MULTIPLY

#ifndef RWKV_AGAIN
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/matmul_of_listed.hpp>
#include <rwkv/kernels/quantise_row.hpp>
#include <rwkv/kernels/quantised_by_input.hpp>
#include <rwkv/kernels/quantised_matmul.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

/// y = W x for some panels of floats of any type.
template <class L>
void multiply_floats(const AnyMatrix& m, Range panels, const ProductInputs& x, std::size_t rows,
                     float* y, std::size_t ldy) noexcept {
  const auto matrix = [&]<class T>(T) {
    return PanelMatrix<T>{static_cast<const T*>(m.data), m.rows, m.cols};
  };
  if constexpr (simd::HasPairs<L>)
    if (x.quantised.data != nullptr)
      return matmul_of_pairs<L>(matrix(bfloat16{}), panels, x.quantised, rows, y, ldy);
  const auto with = [&]<class T>(T type) {
    if (x.listed.index != nullptr)
      matmul_of_listed<L>(matrix(type), panels, x.listed, x.x, x.ldx, rows, y, ldy);
    else
      matmul<L>(matrix(type), panels, x.x, x.ldx, rows, y, ldy, x.ahead);
  };
  switch (m.type) {
    case DType::f32:
      return with(float{});
    case DType::f16:
      return with(half{});
    default:
      RWKV_ASSERT(m.type == DType::bf16);
      return with(bfloat16{});
  }
}

/// y = W x for some panels of any type of blocks.
template <class L>
void multiply_blocks(const AnyMatrix& m, Range panels, const ProductInputs& x, std::size_t rows,
                     float* y, std::size_t ldy) noexcept {
  const QuantisedMatrix w{layout_of(m.type), static_cast<const std::byte*>(m.data), m.rows, m.cols};
  if constexpr (orders_by_input)
    if (m.by_input) return quantised_by_input<L>(w, m.inputs, panels, x, rows, y, ldy);
  quantised_matmul<L>(w, m.inputs, panels, x, rows, y, ldy);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
