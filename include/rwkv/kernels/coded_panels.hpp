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
inline void store_tile(const CodedLayout& layout, std::byte* panel, std::size_t t, std::size_t o,
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
  // Four codes at a time, as the 32 bits of a lane.
  constexpr std::size_t vector = 4 * panel_rows;
  std::byte* const codes = tile + layout.code_offset() + 4 * o;
  std::uint32_t group_codes[8];
  std::memcpy(group_codes, row.code, sizeof group_codes);
  const auto put = [codes](std::size_t v, std::uint32_t lane) {
    std::memcpy(codes + v * vector, &lane, sizeof lane);
  };
  if (layout.bits == 8) {
    for (std::size_t q = 0; q < 8; ++q) put(q, group_codes[q]);
    return;
  }
  const unsigned high = layout.bits - 4;
  for (std::size_t q = 0; q < 4; ++q)
    put(high + q, (group_codes[q] & 0x0f0f0f0fu) | (group_codes[q + 4] & 0x0f0f0f0fu) << 4);
  if (high == 0) return;
  const std::size_t groups = 8 / high;  // in a vector
  for (std::size_t v = 0; v < high; ++v) {
    std::uint32_t lane = 0;
    for (std::size_t g = 0; g < groups; ++g)
      lane |= (group_codes[v * groups + g] >> 4 & 0x0f0f0f0fu) << (g * high);
    put(v, lane);
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels
