// SPDX-License-Identifier: Apache-2.0
// Q5_K: 256 elements of 5 bits in 8 parts of 32, each with a 6-bit scale and a 6-bit min; 5.5 bits
// per element. x = d * scales[part] * code - dmin * mins[part].
//   bytes 0-1     d
//   bytes 2-3     dmin
//   bytes 4-15    scales and mins (scales_and_mins.hpp)
//   bytes 16-47   highest bit of the codes: element i at bit i / 32 of byte i % 32
//   bytes 48-175  lower bits, 32 bytes for 64 elements: i at bit 4 * (i / 32) of byte i % 32
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/scales_and_mins.hpp>
#include <rwkv/quant/storage.hpp>
#include <rwkv/quant/super_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q5_K {
  static constexpr DType type = DType::q5_k;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    const float dmin = to_float(load_half(block + 2));
    for (std::size_t p = 0; p < parts; ++p) {
      const ScaleAndMin stored = load_scale_and_min(block + 4, p);
      const float scale = d * static_cast<float>(stored.scale);
      const float min = dmin * static_cast<float>(stored.min);
      const auto low = Low::from(block + 48, p * size);
      const auto high = High::from(block + 16, p * size);
      for (std::size_t k = 0; k < size; ++k)
        out[p * size + k] = scale * static_cast<float>(low[k] | high[k] << 4) - min;
    }
  }

  static constexpr int zero = 0;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return load_scales_and_mins(block);
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    Tile tile;
    const auto low = Low::from(block + 48, Tile::elements * t);
    const auto high = High::from(block + 16, Tile::elements * t);
    RWKV_UNROLL
    for (std::size_t k = 0; k < Tile::elements; k += 16) {
      tile.low[k / 16] = low.sixteen(k);
      tile.high[k / 16] = high.sixteen(k);
    }
    return tile;
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<0, 31>;
    const Samples<elements> s(in, importance);
    const auto fit =
        fit_lines<Levels, Integers<0, 63>, parts>(s, {.step = 1.0f / 3, .inside = 3, .all = true});
    std::fill_n(block, bytes, std::byte{});
    store_half(fit.d, block);
    store_half(fit.dmin, block + 2);
    for (std::size_t p = 0; p < parts; ++p) {
      store_scale_and_min(
          {static_cast<unsigned>(fit.scales[p]), static_cast<unsigned>(fit.mins[p])}, block + 4, p);
      const float by = inverse(to_float(fit.d) * fit.scales[p]);
      const float min = to_float(fit.dmin) * fit.mins[p];
      for (std::size_t i = p * size; i < (p + 1) * size; ++i) {
        const auto code = static_cast<unsigned>(Levels::nearest((s.x[i] + min) * by));
        Low::put(code & 15, block + 48, i);
        High::put(code >> 4, block + 16, i);
      }
    }
  }

 private:
  static constexpr std::size_t parts = 8;
  static constexpr std::size_t size = elements / parts;
  using Low = Packed<4, 32>;
  using High = Packed<1, 32>;
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
