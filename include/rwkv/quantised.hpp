// SPDX-License-Identifier: Apache-2.0
// A model of floats, held in blocks: quantised as it is loaded, without a file.
//
//     const auto model = rwkv::load("rwkv7-g1-1.5b.pth", rwkv::quantised(rwkv::DType::q4_k), pool);
#pragma once

#include <rwkv/io/narrow.hpp>
#include <rwkv/io/stored_weights.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Options to hold a model's matrices in `type`, a block type (or f32, f16, bf16); see
/// LoadOptions::matrix_type. `options` has everything else.
[[nodiscard]] inline LoadOptions quantised(DType type, LoadOptions options = {}) {
  options.matrix_type = type;
  options.narrow = &io::narrow_pieces;
  return options;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
