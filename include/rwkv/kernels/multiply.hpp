// SPDX-License-Identifier: Apache-2.0
// Products with matrices whose type is known only at run time: run time becomes compile time, once
// per product. Freestanding.
//
// Read once per instruction set (kernels/level.hpp).
#if !defined(RWKV_KERNELS_MULTIPLY) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_MULTIPLY

#ifndef RWKV_AGAIN
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/coded_matmul.hpp>
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/quantise_row.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::RWKV_LEVEL {

/// y = W x for some panels of floats of any type.
template <class L>
void multiply_floats(const AnyMatrix& m, Range panels, const CodedInputs& x, std::size_t rows,
                     float* y, std::size_t ldy) noexcept {
  const auto with = [&]<class T>(T) {
    matmul<L>(PanelMatrix<T>{static_cast<const T*>(m.data), m.rows, m.cols}, panels, x.x, x.ldx,
              rows, y, ldy);
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
void multiply_blocks(const AnyMatrix& m, Range panels, const CodedInputs& x, std::size_t rows,
                     float* y, std::size_t ldy) noexcept {
  coded_matmul<L>({layout_of(m.type), static_cast<const std::byte*>(m.data), m.rows, m.cols},
                  m.inputs, panels, x, rows, y, ldy);
}

/// Prepares row m of the inputs of a matrix of blocks.
inline void prepare_row(const AnyMatrix& w, const float* x, const QuantisedRows& rows,
                        std::size_t m) noexcept {
  if (w.inputs == Inputs::exact)
    sum_row(x, rows, m);
  else
    quantise_row(x, rows, m);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::RWKV_LEVEL

#endif
