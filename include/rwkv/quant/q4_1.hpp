// SPDX-License-Identifier: Apache-2.0
// Q4_1: 32 elements of 4 bits with scale and offset; 5 bits per element. x = d * code + m.
//   bytes 0-1   d
//   bytes 2-3   m
//   bytes 4-19  codes: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/quant/simple_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q4_1 : LinearBlock<DType::q4_1, BlockCodes<Packed<4, 16>, 4>> {};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
