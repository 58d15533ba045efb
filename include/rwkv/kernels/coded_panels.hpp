// SPDX-License-Identifier: Apache-2.0
// How quantised matrices lie in memory. As elsewhere (kernels/panels.hpp) 16 output rows make a
// panel, and a panel is read from its first input to its last. Its unit is a tile of 16 outputs and
// 32 inputs: scales, then codes, in the order in which vector registers want them. Freestanding.
//
//   W[o][i] = scale * (code - zero) - min
//
// Codes are in groups of four inputs: 32-bit lane o of a vector of 64 bytes holds those of output
// o. Codes below 256 are stored in two pieces: first their higher bits, as many groups to a vector
// as fit, then the lower four, two groups to a vector: group q in the lower halves of the bytes,
// group q + 4 in the upper. In this order a tile is read from its first line to its last.
#pragma once

#include <rwkv/kernels/panels.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::kernels {

/// Inputs per tile.
inline constexpr std::size_t tile_cols = quant::Tile::elements;

/// How the scales (and mins) of a tile are stored.
enum class ScaleForm : std::uint8_t {
  halves,         ///< a half per output
  bytes_of_tile,  ///< a small integer per output, times a half that eight tiles share
  bytes_of_half,  ///< the same for inputs 0-15 and 16-31 separately
};

/// The layout of one kind of quantised matrix. Codes of 8 bits are signed, others are unsigned.
struct CodedLayout {
  unsigned bits;
  int zero;
  bool min;
  ScaleForm form;
  friend constexpr bool operator==(const CodedLayout&, const CodedLayout&) = default;

  /// Parts of a tile with scales of their own.
  [[nodiscard]] constexpr std::size_t parts() const noexcept {
    return form == ScaleForm::bytes_of_half ? 2 : 1;
  }
  /// Tiles that share the halves in front of them.
  [[nodiscard]] constexpr std::size_t tiles_per_group() const noexcept {
    return form == ScaleForm::halves ? 1 : 8;
  }
  [[nodiscard]] constexpr std::size_t scale_bytes() const noexcept {
    return form == ScaleForm::halves ? 2 * panel_rows : parts() * panel_rows;
  }
  [[nodiscard]] constexpr std::size_t code_offset() const noexcept {
    return (min ? 2 : 1) * scale_bytes();
  }
  [[nodiscard]] constexpr std::size_t tile_bytes() const noexcept {
    return code_offset() + panel_rows * tile_cols * bits / 8;
  }
  [[nodiscard]] constexpr std::size_t header_bytes() const noexcept {
    return form == ScaleForm::halves ? 0 : (min ? 2 : 1) * 2 * panel_rows;
  }
  [[nodiscard]] constexpr std::size_t group_bytes() const noexcept {
    return header_bytes() + tiles_per_group() * tile_bytes();
  }
  /// `cols` is a multiple of the inputs of a group.
  [[nodiscard]] constexpr std::size_t bytes_per_panel(std::size_t cols) const noexcept {
    return cols / (tiles_per_group() * tile_cols) * group_bytes();
  }
};

/// A packed matrix of this layout.
struct CodedMatrix {
  CodedLayout layout;
  const std::byte* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
};

/// Stores output `o` (0 ... 15) of tile `t` of a panel.
template <CodedLayout layout>
RWKV_INLINE void store_tile(std::byte* panel, std::size_t t, std::size_t o,
                            const quant::Tile& row) noexcept {
  std::byte* group = panel + t / layout.tiles_per_group() * layout.group_bytes();
  std::byte* tile =
      group + layout.header_bytes() + t % layout.tiles_per_group() * layout.tile_bytes();
  std::byte* const halves = layout.form == ScaleForm::halves ? tile : group;
  std::memcpy(halves + 2 * o, &row.d, 2);
  if (layout.min) std::memcpy(halves + 2 * (panel_rows + o), &row.dmin, 2);
  if (layout.form != ScaleForm::halves)
    for (std::size_t part = 0; part < layout.parts(); ++part) {
      tile[part * panel_rows + o] = static_cast<std::byte>(row.scale[part]);
      if (layout.min)
        tile[layout.scale_bytes() + part * panel_rows + o] = static_cast<std::byte>(row.min[part]);
    }
  // Four codes at a time, as the 32 bits of a lane; two such groups in each word of the row.
  std::byte* const codes = tile + layout.code_offset() + 4 * o;
  const auto put = [codes](std::size_t v, std::uint64_t lane) {
    const auto low = static_cast<std::uint32_t>(lane);
    std::memcpy(codes + v * 4 * panel_rows, &low, sizeof low);
  };
  if constexpr (layout.bits == 8) {
    RWKV_UNROLL
    for (std::size_t q = 0; q < 8; ++q) put(q, row.codes[q / 2] >> 32 * (q % 2));
  } else {
    constexpr std::uint64_t four_bits = quant::eight_times(0x0f);
    constexpr unsigned high = layout.bits - 4;
    RWKV_UNROLL
    for (std::size_t w = 0; w < 2; ++w) {
      const std::uint64_t both = (row.codes[w] & four_bits) | (row.codes[w + 2] & four_bits) << 4;
      put(high + 2 * w, both);
      put(high + 2 * w + 1, both >> 32);
    }
    if constexpr (high > 0) {
      constexpr std::size_t words = 4 / high;  // whose higher bits make a vector
      RWKV_UNROLL
      for (std::size_t v = 0; v < high; ++v) {
        std::uint64_t both = 0;
        RWKV_UNROLL
        for (std::size_t w = 0; w < words; ++w)
          both |= (row.codes[v * words + w] >> 4 & four_bits) << (2 * w * high);
        put(v, both | both >> 32 << high);
      }
    }
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels
