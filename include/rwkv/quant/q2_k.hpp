// SPDX-License-Identifier: Apache-2.0
// Q2_K: 256 elements of 2 bits in 16 parts of 16, each with a 4-bit scale and a 4-bit min; 2.625
// bits per element. x = d * scales[part] * code - dmin * mins[part].
//   bytes 0-15   scale of the part in the low half, min in the high half
//   bytes 16-79  codes, 32 bytes for 128 elements: i at bit 2 * (i / 32) of byte i % 32
//   bytes 80-81  d
//   bytes 82-83  dmin
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/storage.hpp>
#include <rwkv/quant/super_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q2_K {
  static constexpr DType type = DType::q2_k;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block + 80));
    const float dmin = to_float(load_half(block + 82));
    for (std::size_t p = 0; p < parts; ++p) {
      const auto both = std::to_integer<unsigned>(block[p]);
      const float scale = d * static_cast<float>(both & 15);
      const float min = dmin * static_cast<float>(both >> 4);
      Codes::each<size>(block, p * size, [=](std::size_t k, unsigned code) {
        out[p * size + k] = scale * static_cast<float>(code) - min;
      });
    }
  }

  static constexpr int zero = 0;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    const auto both = simd::Sixteen::load(block);
    return {.d = load_half(block + 80),
            .dmin = load_half(block + 82),
            .scale = both & simd::Sixteen(15),
            .min = both >> 4 & simd::Sixteen(15)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    return Codes::load_tile(block, t);
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<0, 3>;
    const Samples<elements> s(in, importance);
    const auto fit = fit_lines<Levels, Integers<0, 15>, parts>(s, {.step = 0.25f, .inside = 2});
    std::fill_n(block, bytes, std::byte{});
    store_half(fit.d, block + 80);
    store_half(fit.dmin, block + 82);
    for (std::size_t p = 0; p < parts; ++p) {
      block[p] = static_cast<std::byte>(static_cast<unsigned>(fit.scales[p] + 16 * fit.mins[p]));
      const float by = inverse(to_float(fit.d) * fit.scales[p]);
      const float min = to_float(fit.dmin) * fit.mins[p];
      for (std::size_t i = p * size; i < (p + 1) * size; ++i)
        Codes::put(static_cast<unsigned>(Levels::nearest((s.x[i] + min) * by)), block, i);
    }
  }

 private:
  static constexpr std::size_t parts = 16;
  static constexpr std::size_t size = elements / parts;
  using Codes = BlockCodes<Packed<2, 32>, 16>;
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
