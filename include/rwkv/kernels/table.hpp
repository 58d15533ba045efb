// SPDX-License-Identifier: Apache-2.0
// The embedding table as a view: rows keep their stored type and are widened as they are read.
// Freestanding.
#pragma once

#include <rwkv/core/dtype.hpp>

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

}  // namespace rwkv::inline RWKV_ABI
