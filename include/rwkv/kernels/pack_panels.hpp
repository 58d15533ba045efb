// SPDX-License-Identifier: Apache-2.0
// Packs matrices of numbers (kernels/panels.hpp). Freestanding.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/panels.hpp>
#include <rwkv/simd/sixteen.hpp>

#include <cstring>
#include <type_traits>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

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

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
