// SPDX-License-Identifier: Apache-2.0
// A packed matrix whose storage type is known only at run time. Freestanding.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/kernels/coded_formats.hpp>
#include <rwkv/kernels/panels.hpp>
#include <rwkv/kernels/prepared_rows.hpp>

namespace rwkv::inline RWKV_ABI {

struct AnyMatrix {
  DType type = DType::f32;  ///< f32, f16, bf16 or a block type
  const void* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  kernels::Inputs inputs = kernels::Inputs::rounded;  ///< of products
};

namespace kernels {

/// Bytes of memory that a matrix occupies.
[[nodiscard]] constexpr std::size_t packed_bytes(DType type, std::size_t rows,
                                                 std::size_t cols) noexcept {
  return is_block(type) ? coded_bytes(type, rows, cols)
                        : panel_elements(rows, cols) * size_of(type);
}

/// What a product's cost is in proportion to: bytes of 256 weights.
[[nodiscard]] constexpr std::size_t weight_cost(const AnyMatrix& m) noexcept {
  return block_bytes(m.type) * (256 / block_elements(m.type));
}

}  // namespace kernels

}  // namespace rwkv::inline RWKV_ABI
