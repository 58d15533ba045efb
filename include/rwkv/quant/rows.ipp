// SPDX-License-Identifier: Apache-2.0
// The definitions of quant/rows.hpp.
#pragma once

#include <rwkv/quant/format.hpp>
#include <rwkv/quant/rows.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

RWKV_FUNCTION void decode_row(DType type, const std::byte* blocks, std::size_t n,
                              float* out) noexcept {
  visit_format(type, [&]<class Format>(Format) {
    RWKV_ASSERT(n % Format::elements == 0);
    for (std::size_t i = 0; i < n; i += Format::elements, blocks += Format::bytes)
      Format::decode(blocks, out + i);
  });
}

RWKV_FUNCTION float decode_element(DType type, const std::byte* blocks, std::size_t i) noexcept {
  return visit_format(type, [&]<class Format>(Format) {
    float block[Format::elements]{};
    Format::decode(blocks + i / Format::elements * Format::bytes, block);
    return block[i % Format::elements];
  });
}

RWKV_FUNCTION void encode_row(DType type, const float* in, const float* importance, std::size_t n,
                              std::byte* blocks) noexcept {
  visit_format(type, [&]<class Format>(Format) {
    RWKV_ASSERT(n % Format::elements == 0);
    for (std::size_t i = 0; i < n; i += Format::elements, blocks += Format::bytes)
      Format::encode(in + i, importance == nullptr ? nullptr : importance + i, blocks);
  });
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
