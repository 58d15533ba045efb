// SPDX-License-Identifier: Apache-2.0
// Writes quantised matrices in their layout (kernels/quantised_layout.hpp). Freestanding.
#pragma once

#include <rwkv/kernels/quantised_layout.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

static_assert(tile_cols == quant::Tile::elements);

/// Outputs that are stored at the same time: their groups of four codes make sixteen bytes.
inline constexpr std::size_t outputs_at_once = 4;

/// Stores the scales of outputs `o` ... `o` + 3 (of 0 ... 15) of a group of tiles: halves in the
/// group, bytes in `heads`, what each tile begins with.
template <QuantisedLayout layout>
RWKV_INLINE void store_scales(std::byte* group, std::byte (*heads)[layout.code_offset()],
                              std::size_t o,
                              const quant::Scales (&rows)[outputs_at_once]) noexcept {
  constexpr std::size_t n = outputs_at_once;
  RWKV_UNROLL
  for (std::size_t k = 0; k < n; ++k) {
    std::byte* const halves = group + 2 * (o + k);
    std::memcpy(halves, &rows[k].d, 2);
    if (layout.min) std::memcpy(halves + 2 * panel_rows, &rows[k].dmin, 2);
  }
  if constexpr (layout.form != ScaleForm::halves) {
    constexpr std::size_t parts = layout.parts(), all_parts = parts * layout.tiles_per_group();
    const auto put = [=](std::size_t offset, simd::Sixteen(&of_rows)[n]) RWKV_INLINE_LAMBDA {
      simd::transpose<std::uint8_t>(of_rows);
      std::byte of_parts[16 * n];
      RWKV_UNROLL
      for (std::size_t k = 0; k < n; ++k) of_rows[k].store(of_parts + 16 * k);
      RWKV_UNROLL
      for (std::size_t p = 0; p < all_parts; ++p)
        std::memcpy(heads[p / parts] + offset + p % parts * panel_rows + o, of_parts + n * p, n);
    };
    simd::Sixteen scales[n], mins[n];
    RWKV_UNROLL
    for (std::size_t k = 0; k < n; ++k) {
      scales[k] = rows[k].scale;
      mins[k] = rows[k].min;
    }
    put(0, scales);
    if (layout.min) put(layout.scale_bytes(), mins);
  }
}

/// Stores the codes of outputs `o` ... `o` + 3 in a tile of a panel.
template <QuantisedLayout layout>
RWKV_INLINE void store_codes(std::byte* tile, std::size_t o,
                             const quant::Tile (&rows)[outputs_at_once]) noexcept {
  using simd::Sixteen;
  constexpr std::size_t n = outputs_at_once;
  std::byte* const codes = tile + layout.code_offset() + 4 * o;
  const auto put = [codes](std::size_t v, Sixteen lanes)
                       RWKV_INLINE_LAMBDA { lanes.store(codes + v * 4 * panel_rows); };
  // A register has the codes of one output first, then those of a group of inputs.
  Sixteen x[n];
  if constexpr (layout.bits == 8) {
    RWKV_UNROLL
    for (std::size_t half = 0; half < 2; ++half) {
      RWKV_UNROLL
      for (std::size_t k = 0; k < n; ++k) x[k] = rows[k].low[half];
      simd::transpose<std::uint32_t>(x);
      RWKV_UNROLL
      for (std::size_t q = 0; q < n; ++q) put(4 * half + q, x[q]);
    }
  } else {
    constexpr unsigned high = layout.bits - 4;
    RWKV_UNROLL
    for (std::size_t k = 0; k < n; ++k) x[k] = rows[k].low[0] | rows[k].low[1] << 4;
    simd::transpose<std::uint32_t>(x);
    RWKV_UNROLL
    for (std::size_t q = 0; q < n; ++q) put(high + q, x[q]);
    if constexpr (high > 0) {
      RWKV_UNROLL
      for (std::size_t k = 0; k < n; ++k) x[k] = rows[k].high[0] | rows[k].high[1] << 4;
      simd::transpose<std::uint32_t>(x);
      if constexpr (high == 1) {
        put(0, (x[0] | x[1] << 1) | (x[2] << 2 | x[3] << 3));
      } else {
        const Sixteen a = x[0] | x[1] << 2;
        const Sixteen b = x[2] | x[3] << 2;
        const Sixteen lower(0x0f), upper(0xf0);
        put(0, (a & lower) | (b << 4 & upper));
        put(1, (a >> 4 & lower) | (b & upper));
      }
    }
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
