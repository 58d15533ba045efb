// SPDX-License-Identifier: Apache-2.0
// Q5_1: 32 elements of 5 bits with scale and offset; 6 bits per element. x = d * code + m.
//   bytes 0-1   d
//   bytes 2-3   m
//   bytes 4-7   highest bit of the codes: element i at bit i % 8 of byte i / 8
//   bytes 8-23  lower bits: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/quant/simple_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q5_1 : LinearBlock<DType::q5_1, BlockCodes<Packed<4, 16>, 8, Packed<1, 1>, 4>> {};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
