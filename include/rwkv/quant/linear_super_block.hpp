// SPDX-License-Identifier: Apache-2.0
// Super-blocks of 8 parts with scales and mins of 6 bits: x = d * scale * code - dmin * min.
// Freestanding.
//   bytes 0-1   d
//   bytes 2-3   dmin
//   bytes 4-15  scales and mins (scales_and_mins.hpp)
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/scales_and_mins.hpp>
#include <rwkv/quant/storage.hpp>
#include <rwkv/quant/super_block.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

template <DType Type, class Codes>
struct LinearSuperBlock {
  static constexpr DType type = Type;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);
  static constexpr int zero = 0;

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    const float dmin = to_float(load_half(block + 2));
    for (std::size_t p = 0; p < parts; ++p) {
      const ScaleAndMin stored = load_scale_and_min(block + 4, p);
      const float scale = d * static_cast<float>(stored.scale);
      const float min = dmin * static_cast<float>(stored.min);
      Codes::template each<size>(block, p * size, [=](std::size_t k, unsigned code) {
        out[p * size + k] = scale * static_cast<float>(code) - min;
      });
    }
  }

  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return load_scales_and_mins(block);
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    return Codes::load_tile(block, t);
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<0, (1 << Codes::bits) - 1>;
    const Samples<elements> s(in, importance);
    const auto fit = fit_lines<Levels, Integers<0, 63>, parts>(s, usual_line_grid<Codes::bits>);
    std::fill_n(block, bytes, std::byte{});
    store_half(fit.d, block);
    store_half(fit.dmin, block + 2);
    for (std::size_t p = 0; p < parts; ++p) {
      store_scale_and_min(
          {static_cast<unsigned>(fit.scales[p]), static_cast<unsigned>(fit.mins[p])}, block + 4, p);
      const float by = inverse(to_float(fit.d) * fit.scales[p]);
      const float min = to_float(fit.dmin) * fit.mins[p];
      for (std::size_t i = p * size; i < (p + 1) * size; ++i)
        Codes::put(static_cast<unsigned>(Levels::nearest((s.x[i] + min) * by)), block, i);
    }
  }

 private:
  static constexpr std::size_t parts = 8;
  static constexpr std::size_t size = elements / parts;
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
