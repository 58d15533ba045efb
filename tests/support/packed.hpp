// SPDX-License-Identifier: Apache-2.0
// A random matrix, packed for the kernels and widened for the reference.
#pragma once

#include "support/numbers.hpp"
#include <rwkv/kernels/pack_panels.hpp>

#include <vector>

namespace test {

template <class T>
struct Packed {
  std::size_t rows;
  std::size_t cols;
  std::vector<double> w;  // [rows][cols]
  Misaligned<T> data;

  Packed(std::size_t rows_, std::size_t cols_, Random& random)
      : rows(rows_), cols(cols_), w(rows * cols), data(rwkv::kernels::panel_elements(rows, cols)) {
    std::vector<T> stored(rows * cols);
    fill(stored, random);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = rwkv::to_float(stored[i]);
    rwkv::kernels::pack_panels<T>(reinterpret_cast<const std::byte*>(stored.data()), cols, 1, rows,
                                  cols, {0, panels()}, data.data());
  }
  [[nodiscard]] std::size_t panels() const { return rwkv::kernels::panels_for(rows); }
  [[nodiscard]] rwkv::kernels::PanelMatrix<T> view() const { return {data.data(), rows, cols}; }
};

/// Storage for [rows][ld] results that starts in the middle of a cache line, all canaries.
inline Misaligned<float> untouched(std::size_t n) {
  Misaligned<float> y(n, 3);
  std::fill(y.begin(), y.end(), canary);
  return y;
}

}  // namespace test
