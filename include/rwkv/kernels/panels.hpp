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
#include <rwkv/exec/serial.hpp>
#include <rwkv/simd/sixteen.hpp>

#include <cstring>
#include <type_traits>

namespace rwkv::inline RWKV_ABI::kernels {

/// Outputs per panel: one AVX-512 register, two AVX2 or four NEON/SSE registers of floats.
inline constexpr std::size_t panel_rows = 16;

/// Which layout this is: arrays of exported models say which one they were written in.
inline constexpr int panel_layout = 2;

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

/// Packs panels [which.begin, which.end) of a matrix whose element (o, i) is at
/// source + (o * row_stride + i * col_stride) * sizeof(T), which need not be aligned. Fastest for
/// rows or columns of consecutive elements.
template <class T>
void pack_panels(const std::byte* source, std::size_t row_stride, std::size_t col_stride,
                 std::size_t rows, std::size_t cols, Range which, T* out) noexcept {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4);
  using Bits = std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>;
  constexpr std::size_t n = 16 / sizeof(T);
  constexpr std::size_t at_once = 128;  // columns, which then are in the first cache
  for (std::size_t p = which.begin; p < which.end; ++p) {
    const std::size_t first = p * panel_rows;
    const std::size_t filled = rows - first < panel_rows ? rows - first : panel_rows;
    const PanelPlace place = panel_place(p, panels_for(rows), cols);
    T* panel = out + place.first;
    const std::byte* origin = source + first * row_stride * sizeof(T);
    const auto at = [=](std::size_t o, std::size_t i) {
      return origin + (o * row_stride + i * col_stride) * sizeof(T);
    };
    std::size_t done = 0;  // columns
    if (filled == panel_rows && col_stride == 1)
      while (cols - done >= n) {
        const std::size_t end = cols - done < at_once ? cols - cols % n : done + at_once;
        for (std::size_t o = 0; o < panel_rows; o += n)
          for (std::size_t i = done; i < end; i += n) {
            simd::Sixteen square[n];
            RWKV_UNROLL
            for (std::size_t k = 0; k < n; ++k) square[k] = simd::Sixteen::load(at(o + k, i));
            simd::transpose<Bits>(square);
            RWKV_UNROLL
            for (std::size_t k = 0; k < n; ++k) square[k].store(panel + (i + k) * place.stride + o);
          }
        done = end;
      }
    else if (filled == panel_rows && row_stride == 1)
      for (; done < cols; ++done)
        std::memcpy(panel + done * place.stride, at(0, done), panel_rows * sizeof(T));
    for (; done < cols; ++done) {
      T* const column = panel + done * place.stride;
      for (std::size_t o = 0; o < filled; ++o) std::memcpy(column + o, at(o, done), sizeof(T));
      for (std::size_t o = filled; o < panel_rows; ++o) column[o] = T{};
    }
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels
