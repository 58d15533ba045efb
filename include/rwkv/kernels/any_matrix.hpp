// SPDX-License-Identifier: Apache-2.0
// A packed matrix whose storage type is known only at run time. Freestanding.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/kernels/panels.hpp>

namespace rwkv::inline RWKV_ABI {

struct AnyMatrix {
  DType type = DType::f32;  ///< f32, f16 or bf16
  const void* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
};

/// Calls f with the matrix as a PanelMatrix of its storage type: run time becomes compile time,
/// once per product.
template <class F>
void visit(const AnyMatrix& m, F&& f) {
  const auto as = [&]<class T>(T) {
    f(kernels::PanelMatrix<T>{static_cast<const T*>(m.data), m.rows, m.cols});
  };
  switch (m.type) {
    case DType::f16:
      return as(half{});
    case DType::bf16:
      return as(bfloat16{});
    default:
      RWKV_ASSERT(m.type == DType::f32);
      return as(float{});
  }
}

}  // namespace rwkv::inline RWKV_ABI
