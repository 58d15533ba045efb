// SPDX-License-Identifier: Apache-2.0
// Q4_0: 32 elements of 4 bits with one scale; 4.5 bits per element. x = d * (code - 8).
//   bytes 0-1   d
//   bytes 2-17  codes: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q4_0 {
  static constexpr DType type = DType::q4_0;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    for (std::size_t i = 0; i < elements; i += run) {
      const auto codes = Codes::from(block + 2, i);
      for (std::size_t k = 0; k < run; ++k)
        out[i + k] = d * static_cast<float>(static_cast<int>(codes[k]) - 8);
    }
  }

  static constexpr int zero = 8;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t /*only one*/) noexcept {
    Tile tile;
    RWKV_UNROLL
    for (std::size_t i = 0; i < elements; i += run)
      tile.low[i / run] = Codes::from(block + 2, i).sixteen(0);
    return tile;
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<-8, 7>;
    const Samples<elements> samples(in, importance);
    const Part s = part(samples, 0, elements);
    const half d = best_half<Levels>(
        s, best_scale<Levels>(s, {.step = 0.25f, .beyond = 2, .batches = 2}).scale);
    const float by = inverse(to_float(d));
    std::fill_n(block, bytes, std::byte{});
    store_half(d, block);
    for (std::size_t i = 0; i < elements; ++i)
      Codes::put(static_cast<unsigned>(Levels::nearest(s.x[i] * by) + 8), block + 2, i);
  }

 private:
  static constexpr std::size_t run = 16;
  using Codes = Packed<4, run>;
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
