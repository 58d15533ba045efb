// SPDX-License-Identifier: Apache-2.0
// Stage 1: token -> x, normalised by ln0. The table keeps its stored type; rows are widened as they
// are read.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/kernels/norm.hpp>
#include <rwkv/weights.hpp>

namespace rwkv::inline RWKV_ABI {

/// The embedding table of a type known only at run time: [V][C] in C order.
struct AnyTable {
  DType type = DType::f32;  ///< f32, f16 or bf16
  const void* data = nullptr;

  [[nodiscard]] float at(std::size_t index) const noexcept {
    switch (type) {
      case DType::f16:
        return to_float(static_cast<const half*>(data)[index]);
      case DType::bf16:
        return to_float(static_cast<const bfloat16*>(data)[index]);
      default:
        return static_cast<const float*>(data)[index];
    }
  }
};

/// The embedding table of a type known at compile time: [V][C] in C order.
template <class T>
struct Table {
  const T* data = nullptr;
  [[nodiscard]] float at(std::size_t index) const noexcept { return to_float(data[index]); }
};

/// x [C] = LN(emb[token]; ln0)
template <class L, class TableView>
void embed(const TableView& emb, const NormWeights& ln0, Token token, std::size_t n,
           float* x) noexcept {
  for (std::size_t i = 0; i < n; ++i) x[i] = emb.at(token * n + i);
  kernels::normalise<L>(x, ln0.weight, ln0.bias, kernels::layer_norm_epsilon, x, n);
}

}  // namespace rwkv::inline RWKV_ABI
