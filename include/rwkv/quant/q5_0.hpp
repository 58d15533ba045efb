// SPDX-License-Identifier: Apache-2.0
// Q5_0: 32 elements of 5 bits with one scale; 5.5 bits per element. x = d * (code - 16).
//   bytes 0-1   d
//   bytes 2-5   highest bit of the codes: element i at bit i % 8 of byte i / 8
//   bytes 6-21  lower bits: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/quant/simple_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q5_0 : ScaledBlock<DType::q5_0, BlockCodes<Packed<4, 16>, 6, Packed<1, 1>, 2>> {};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
