// SPDX-License-Identifier: Apache-2.0
// Q3_K: 256 elements of 3 bits in 16 parts of 16, each with a 6-bit scale; 3.4375 bits per element.
// x = d * (scales[part] - 32) * (code - 4).
//   bytes 0-31     highest bit of the codes: element i at bit i / 32 of byte i % 32
//   bytes 32-95    lower bits, 32 bytes for 128 elements: i at bit 2 * (i / 32) of byte i % 32
//   bytes 96-103   low 4 bits of the scales: part p at bit 4 * (p / 8) of byte p % 8
//   bytes 104-107  high 2 bits of the scales: part p at bit 2 * (p / 4) of byte p % 4
//   bytes 108-109  d
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/storage.hpp>
#include <rwkv/quant/super_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q3_K {
  static constexpr DType type = DType::q3_k;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block + 108));
    for (std::size_t p = 0; p < parts; ++p) {
      const float scale = d * static_cast<float>(load_scale(block, p));
      Codes::each<size>(block, p * size, [=](std::size_t k, unsigned code) {
        out[p * size + k] = scale * static_cast<float>(static_cast<int>(code) - zero);
      });
    }
  }

  static constexpr int zero = 4;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    std::int8_t scale[parts];
    for (std::size_t p = 0; p < parts; ++p)
      scale[p] = static_cast<std::int8_t>(load_scale(block, p));
    return {.d = load_half(block + 108), .scale = simd::Sixteen::load(scale)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    return Codes::load_tile(block, t);
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<-4, 3>;
    const Samples<elements> s(in, importance);
    const auto fit =
        fit_scales<Levels, Integers<-32, 31>, parts>(s, {.step = 0.2f, .beyond = 2, .batches = 1});
    std::fill_n(block, bytes, std::byte{});
    store_half(fit.d, block + 108);
    for (std::size_t p = 0; p < parts; ++p) {
      const auto stored = static_cast<unsigned>(fit.scales[p] + 32);
      ScaleLow::put(stored & 15, block + 96, p);
      ScaleHigh::put(stored >> 4, block + 104, p);
      const float by = inverse(to_float(fit.d) * fit.scales[p]);
      for (std::size_t i = p * size; i < (p + 1) * size; ++i)
        Codes::put(static_cast<unsigned>(Levels::nearest(s.x[i] * by) + zero), block, i);
    }
  }

 private:
  static constexpr std::size_t parts = 16;
  static constexpr std::size_t size = elements / parts;
  using Codes = BlockCodes<Packed<2, 32>, 32, Packed<1, 32>, 0>;
  using ScaleLow = Packed<4, 8>;
  using ScaleHigh = Packed<2, 4>;

  static constexpr int load_scale(const std::byte* block, std::size_t p) noexcept {
    return static_cast<int>(ScaleLow::get(block + 96, p) | ScaleHigh::get(block + 104, p) << 4) -
           32;
  }
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
