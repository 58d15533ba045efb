// SPDX-License-Identifier: Apache-2.0
// Numbers as the bytes of a floating-point type.
#pragma once

#include <rwkv/core/dtype.hpp>

#include <cstring>
#include <span>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// Stores numbers as `type`: f32, f16 or bf16, rounded to nearest.
inline void narrow_to(DType type, std::span<const float> values, std::byte* out) noexcept {
  const auto store = [&](auto convert) {
    for (const float v : values) {
      const auto narrowed = convert(v);
      std::memcpy(out, &narrowed, sizeof narrowed);
      out += sizeof narrowed;
    }
  };
  if (type == DType::f16)
    store([](float v) { return to_half(v); });
  else if (type == DType::bf16)
    store([](float v) { return to_bfloat16(v); });
  else
    store([](float v) { return v; });
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
