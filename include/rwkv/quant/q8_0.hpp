// SPDX-License-Identifier: Apache-2.0
// Q8_0: 32 elements of 8 bits with one scale; 8.5 bits per element. x = d * code.
//   bytes 0-1   d
//   bytes 2-33  codes: signed bytes
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q8_0 {
  static constexpr DType type = DType::q8_0;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    for (std::size_t i = 0; i < elements; ++i)
      out[i] = d * static_cast<float>(load_signed(block + 2 + i));
  }

  static constexpr int zero = 0;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t /*only one*/) noexcept {
    Tile tile;
    RWKV_UNROLL
    for (std::size_t i = 0; i < elements; i += 16)
      tile.low[i / 16] = simd::Sixteen::load(block + 2 + i);
    return tile;
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<-127, 127>;  // -128 would be an exception that kernels have to mind
    const Samples<elements> samples(in, importance);
    const Part s = part(samples, 0, elements);
    const half d = best_half<Levels>(
        s, best_scale<Levels>(s, {.step = 0.5f, .beyond = 1, .batches = 2}).scale);
    const float by = inverse(to_float(d));
    store_half(d, block);
    for (std::size_t i = 0; i < elements; ++i)
      store_signed(static_cast<int>(Levels::nearest(s.x[i] * by)), block + 2 + i);
  }
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
