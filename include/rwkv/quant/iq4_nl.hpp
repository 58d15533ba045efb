// SPDX-License-Identifier: Apache-2.0
// IQ4_NL: 32 elements of 4 bits with one scale; 4.5 bits per element. The codes stand for unevenly
// spaced levels, dense around 0, where most weights are. x = d * levels[code].
//   bytes 0-1   d
//   bytes 2-17  codes: element i at bit 4 * (i / 16) of byte i % 16
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct IQ4_NL {
  static constexpr DType type = DType::iq4_nl;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);
  static constexpr std::array<std::int8_t, 16> levels{-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    for (std::size_t i = 0; i < elements; ++i)
      out[i] = d * static_cast<float>(levels[Codes::get(block + 2, i)]);
  }

  static constexpr int zero = 0;
  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t /*only one*/) noexcept {
    Tile tile;
    for (std::size_t i = 0; i < elements; i += run) {
      std::int8_t decoded[run];
      const auto codes = Codes::from(block + 2, i);
      for (std::size_t k = 0; k < run; ++k) decoded[k] = levels[codes[k]];
      tile.low[i / run] = simd::Sixteen::load(decoded);
    }
    return tile;
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    const Samples<elements> samples(in, importance);
    const Part s = part(samples, 0, elements);
    const half d =
        best_half<Levels>(s, best_scale<Levels>(s, {.step = 4, .beyond = 2, .batches = 1}).scale);
    const float by = inverse(to_float(d));
    std::fill_n(block, bytes, std::byte{});
    store_half(d, block);
    for (std::size_t i = 0; i < elements; ++i) Codes::put(code_of(s.x[i] * by), block + 2, i);
  }

 private:
  static constexpr std::size_t run = 16;
  using Codes = Packed<4, run>;

  static constexpr float middle(std::size_t code) noexcept {
    return static_cast<float>(levels[code] + levels[code + 1]) / 2;
  }
  static constexpr unsigned code_of(float v) noexcept {
    unsigned code = 0;
    for (std::size_t c = 0; c + 1 < levels.size(); ++c) code += v > middle(c);
    return code;
  }
  struct Levels {
    static constexpr float lowest = levels.front();
    static constexpr float highest = levels.back();
    static RWKV_INLINE float nearest(float v) noexcept {
      float level = lowest;
      for (std::size_t c = 0; c + 1 < levels.size(); ++c)
        level += v > middle(c) ? static_cast<float>(levels[c + 1] - levels[c]) : 0.0f;
      return level;
    }
  };
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
