// SPDX-License-Identifier: Apache-2.0
// Q5_1: 32 elements of 5 bits with scale and offset; 6 bits per element. x = d * code + m.
//   bytes 0-1   d
//   bytes 2-3   m
//   bytes 4-7   highest bit of the codes: element i at bit i % 8 of byte i / 8
//   bytes 8-23  lower bits: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q5_1 {
  static constexpr DType type = DType::q5_1;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    const float m = to_float(load_half(block + 2));
    for (std::size_t i = 0; i < elements; i += run) {
      const auto low = Low::from(block + 8, i);
      for (std::size_t k = 0; k < run; ++k) {
        const unsigned code = low[k] | High::get(block + 4, i + k) << 4;
        out[i + k] = d * static_cast<float>(code) + m;
      }
    }
  }

  static constexpr int zero = 0;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block), .dmin = negated(load_half(block + 2))};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t /*only one*/) noexcept {
    Tile tile;
    RWKV_UNROLL
    for (std::size_t i = 0; i < elements; i += run) {
      tile.low[i / run] = Low::from(block + 8, i).sixteen(0);
      tile.high[i / run] = spread_bits(block + 4 + i / 8);
    }
    return tile;
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<0, 31>;
    const Samples<elements> samples(in, importance);
    const Part s = part(samples, 0, elements);
    const HalfLine line =
        best_halves<Levels>(s, best_line<Levels>(s, {.step = 1.0f / 3, .inside = 3, .all = true}));
    const float by = inverse(to_float(line.scale));
    std::fill_n(block, bytes, std::byte{});
    store_half(line.scale, block);
    store_half(line.offset, block + 2);
    for (std::size_t i = 0; i < elements; ++i) {
      const auto code =
          static_cast<unsigned>(Levels::nearest((s.x[i] - to_float(line.offset)) * by));
      Low::put(code & 15, block + 8, i);
      High::put(code >> 4, block + 4, i);
    }
  }

 private:
  static constexpr std::size_t run = 16;
  using Low = Packed<4, run>;
  using High = Packed<1, 1>;
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
