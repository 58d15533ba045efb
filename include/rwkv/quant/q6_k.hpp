// SPDX-License-Identifier: Apache-2.0
// Q6_K: 256 elements of 6 bits in 16 parts of 16, each with an 8-bit scale; 6.5625 bits per
// element. x = d * scales[part] * (code - 32).
//   bytes 0-127    low 4 bits, 64 bytes for 128 elements: i at bit 4 * (i / 64) of byte i % 64
//   bytes 128-191  high 2 bits, 32 bytes for 128 elements: i at bit 2 * (i / 32) of byte i % 32
//   bytes 192-207  scales: signed bytes
//   bytes 208-209  d
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/storage.hpp>
#include <rwkv/quant/super_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct Q6_K {
  static constexpr DType type = DType::q6_k;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block + 208));
    for (std::size_t p = 0; p < parts; ++p) {
      const float scale = d * static_cast<float>(load_signed(block + 192 + p));
      Codes::each<size>(block, p * size, [=](std::size_t k, unsigned code) {
        out[p * size + k] = scale * static_cast<float>(static_cast<int>(code) - zero);
      });
    }
  }

  static constexpr int zero = 32;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block + 208), .scale = simd::Sixteen::load(block + 192)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    return Codes::load_tile(block, t);
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<-32, 31>;
    const Samples<elements> s(in, importance);
    const auto fit = fit_scales<Levels, Integers<-128, 127>, parts>(
        s, {.step = 0.5f, .beyond = 2, .batches = 1});
    std::fill_n(block, bytes, std::byte{});
    store_half(fit.d, block + 208);
    for (std::size_t p = 0; p < parts; ++p) {
      store_signed(static_cast<int>(fit.scales[p]), block + 192 + p);
      const float by = inverse(to_float(fit.d) * fit.scales[p]);
      for (std::size_t i = p * size; i < (p + 1) * size; ++i)
        Codes::put(static_cast<unsigned>(Levels::nearest(s.x[i] * by) + zero), block, i);
    }
  }

 private:
  static constexpr std::size_t parts = 16;
  static constexpr std::size_t size = elements / parts;
  using Codes = BlockCodes<Packed<4, 64>, 0, Packed<2, 32>, 128>;
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
