// SPDX-License-Identifier: Apache-2.0
// How matrices lie in memory: in panels of 16 output rows, column after column, so that 16
// consecutive elements are one column of 16 outputs. A vector register then holds outputs, the sum
// over the inputs runs in sequence, weights stream from memory in order, and no horizontal sum is
// ever needed. The same layout serves one row and many, every vector width and the scalar path.
// Freestanding.
#pragma once

#include <rwkv/core/half.hpp>
#include <rwkv/exec/serial.hpp>

#include <cstring>

namespace rwkv::inline RWKV_ABI::kernels {

/// Outputs per panel: one AVX-512 register, two AVX2 or four NEON/SSE registers of floats.
inline constexpr std::size_t panel_rows = 16;

constexpr std::size_t panels_for(std::size_t rows) noexcept {
  return (rows + panel_rows - 1) / panel_rows;
}

/// Elements that a rows x cols matrix occupies: the last panel is filled up with zeros.
constexpr std::size_t panel_elements(std::size_t rows, std::size_t cols) noexcept {
  return panels_for(rows) * panel_rows * cols;
}

/// A packed matrix y = W x with `rows` outputs and `cols` inputs. W[o][i] is at
/// data[(o / 16 * cols + i) * 16 + o % 16].
template <class T>
struct PanelMatrix {
  const T* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
};

/// Packs panels [which.begin, which.end) of a matrix whose element (o, i) is at
/// source + (o * row_stride + i * col_stride) * sizeof(T), which need not be aligned.
template <class T>
void pack_panels(const std::byte* source, std::size_t row_stride, std::size_t col_stride,
                 std::size_t rows, std::size_t cols, Range which, T* out) noexcept {
  for (std::size_t p = which.begin; p < which.end; ++p) {
    const std::size_t first = p * panel_rows;
    const std::size_t filled = rows - first < panel_rows ? rows - first : panel_rows;
    T* panel = out + first * cols;
    const std::byte* origin = source + first * row_stride * sizeof(T);
    for (std::size_t i = 0; i < cols; ++i) {
      const std::byte* column = origin + i * col_stride * sizeof(T);
      for (std::size_t o = 0; o < filled; ++o)
        std::memcpy(panel + i * panel_rows + o, column + o * row_stride * sizeof(T), sizeof(T));
      for (std::size_t o = filled; o < panel_rows; ++o) panel[i * panel_rows + o] = T{};
    }
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels
