// SPDX-License-Identifier: Apache-2.0
// Q5_0: 32 elements of 5 bits with one scale; 5.5 bits per element. x = d * (code - 16).
//   bytes 0-1   d
//   bytes 2-5   highest bit of the codes: element i at bit i % 8 of byte i / 8
//   bytes 6-21  lower bits: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q5_0 {
  static constexpr DType type = DType::q5_0;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    for (std::size_t i = 0; i < elements; i += run) {
      const auto low = Low::from(block + 6, i);
      for (std::size_t k = 0; k < run; ++k) {
        const unsigned code = low[k] | High::get(block + 2, i + k) << 4;
        out[i + k] = d * static_cast<float>(static_cast<int>(code) - 16);
      }
    }
  }

  static constexpr int zero = 16;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t /*only one*/) noexcept {
    Tile tile;
    RWKV_UNROLL
    for (std::size_t i = 0; i < elements; i += run) {
      tile.low[i / run] = Low::from(block + 6, i).sixteen(0);
      tile.high[i / run] = spread_bits(block + 2 + i / 8);
    }
    return tile;
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<-16, 15>;
    const Samples<elements> samples(in, importance);
    const Part s = part(samples, 0, elements);
    const half d = best_half<Levels>(
        s, best_scale<Levels>(s, {.step = 0.25f, .beyond = 2, .batches = 2}).scale);
    const float by = inverse(to_float(d));
    std::fill_n(block, bytes, std::byte{});
    store_half(d, block);
    for (std::size_t i = 0; i < elements; ++i) {
      const auto code = static_cast<unsigned>(Levels::nearest(s.x[i] * by) + 16);
      Low::put(code & 15, block + 6, i);
      High::put(code >> 4, block + 2, i);
    }
  }

 private:
  static constexpr std::size_t run = 16;
  using Low = Packed<4, run>;
  using High = Packed<1, 1>;
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
