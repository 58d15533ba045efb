// SPDX-License-Identifier: Apache-2.0
// The embedding table as a view: rows keep their stored type and are widened as they are read.
// Freestanding.
#pragma once

#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/quant/rows.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The embedding table of a type known only at run time: [V][C] in C order.
struct AnyTable {
  DType type = DType::f32;  ///< f32, f16, bf16, or a block type of which rows are whole blocks
  const void* data = nullptr;

  /// Row `token` of `n` numbers, as floats.
  void row(std::size_t token, std::size_t n, float* out) const noexcept;
};

/// The embedding table of a type known at compile time: [V][C] in C order.
template <class T>
struct Table {
  const T* data = nullptr;
  void row(std::size_t token, std::size_t n, float* out) const noexcept {
    for (std::size_t i = 0; i < n; ++i) out[i] = to_float(data[token * n + i]);
  }
};

/// A table that stands where matrices do, as those of DeepEmbed among the tensors of a block.
[[nodiscard]] constexpr AnyTable table_of(const AnyMatrix& m) noexcept { return {m.type, m.data}; }

inline void AnyTable::row(std::size_t token, std::size_t n, float* out) const noexcept {
  switch (type) {
    case DType::f32:
      return Table<float>{static_cast<const float*>(data)}.row(token, n, out);
    case DType::f16:
      return Table<half>{static_cast<const half*>(data)}.row(token, n, out);
    case DType::bf16:
      return Table<bfloat16>{static_cast<const bfloat16*>(data)}.row(token, n, out);
    default:
      quant::decode_row(type, static_cast<const std::byte*>(data) + bytes_of(type, token * n), n,
                        out);
  }
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

template <class T>
[[nodiscard]] constexpr Table<T> table_of(const PanelMatrix<T>& m) noexcept {
  return {m.data};
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
