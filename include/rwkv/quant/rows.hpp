// SPDX-License-Identifier: Apache-2.0
// Rows of blocks. Freestanding.
#pragma once

#include <rwkv/core/dtype.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

/// Decodes `n` numbers, a multiple of the block size, from `blocks`.
RWKV_FUNCTION void decode_row(DType type, const std::byte* blocks, std::size_t n,
                              float* out) noexcept;

/// Number `i` of those in `blocks`. Decodes the whole block that it is in.
[[nodiscard]] RWKV_FUNCTION float decode_element(DType type, const std::byte* blocks,
                                                 std::size_t i) noexcept;

/// Encodes `n` numbers, a multiple of the block size, into bytes_of(type, n) bytes. `importance`
/// has n numbers or is null.
RWKV_FUNCTION void encode_row(DType type, const float* in, const float* importance, std::size_t n,
                              std::byte* blocks) noexcept;

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/quant/rows.ipp>
#endif
