// SPDX-License-Identifier: Apache-2.0
// Q4_0: 32 elements of 4 bits with one scale; 4.5 bits per element. x = d * (code - 8).
//   bytes 0-1   d
//   bytes 2-17  codes: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/quant/simple_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q4_0 : ScaledBlock<DType::q4_0, BlockCodes<Packed<4, 16>, 2>> {};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
