// SPDX-License-Identifier: Apache-2.0
// Q4_K: 256 elements of 4 bits in 8 parts of 32, each with a 6-bit scale and a 6-bit min; 4.5 bits
// per element. x = d * scales[part] * code - dmin * mins[part].
//   bytes 0-1     d
//   bytes 2-3     dmin
//   bytes 4-15    scales and mins (scales_and_mins.hpp)
//   bytes 16-143  codes, 32 bytes for 64 elements: i at bit 4 * (i / 32) of byte i % 32
#pragma once

#include <rwkv/quant/linear_super_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q4_K : LinearSuperBlock<DType::q4_k, BlockCodes<Packed<4, 32>, 16>> {};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
