// SPDX-License-Identifier: Apache-2.0
// How matrices lie in memory: in panels of 16 output rows, column after column, so that 16
// consecutive elements are one column of 16 outputs. A vector register then holds outputs, the sum
// over the inputs runs in sequence, and no horizontal sum is ever needed. The same layout serves
// one row and many, every vector width and the scalar path.
//
// Two panels make a pair, whose columns alternate: that is one stream of memory, which processors
// read ahead of better than of several, with sums enough to add at its speed. Freestanding.
#pragma once

#include <rwkv/core/half.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Outputs per panel: one AVX-512 register, two AVX2 or four NEON/SSE registers of floats.
inline constexpr std::size_t panel_rows = 16;

/// Which layout this is, of panels and of StaticWeights: exported models say in which one they were
/// written.
inline constexpr int panel_layout = 3;

constexpr std::size_t panels_for(std::size_t rows) noexcept {
  return (rows + panel_rows - 1) / panel_rows;
}

/// Elements that a rows x cols matrix occupies: the last panel is filled up with zeros.
constexpr std::size_t panel_elements(std::size_t rows, std::size_t cols) noexcept {
  return panels_for(rows) * panel_rows * cols;
}

/// Where a panel begins, and how far apart its columns are; in elements.
struct PanelPlace {
  std::size_t first;
  std::size_t stride;
};

/// The place of panel p of a matrix; the last one of an odd number has no partner.
constexpr PanelPlace panel_place(std::size_t p, std::size_t panels, std::size_t cols) noexcept {
  const std::size_t side = p % 2;
  const bool alone = side == 0 && p + 1 == panels;
  return {((p - side) * cols + side) * panel_rows, (alone ? 1 : 2) * panel_rows};
}

/// A packed matrix y = W x with `rows` outputs and `cols` inputs. W[o][i] is at
/// data[place.first + i * place.stride + o % 16] for the place of panel o / 16.
template <class T>
struct PanelMatrix {
  const T* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
};

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
