// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/pack_panels.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/train/matrix_view.hpp>
#include <rwkv/train/product.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

namespace detail {

template <class Product>
void assign(float* y, std::size_t rows, std::size_t cols, const Product& product, Store store) {
  if (store == Store::add)
    matrix(y, rows, cols).noalias() += product;
  else
    matrix(y, rows, cols).noalias() = product;
}

/// Whether the kernels that are chosen at run time are better than what Eigen was compiled for: they
/// are, and worth packing a matrix, for a processor of more than that and for more than a few rows.
inline bool kernels_are_better(std::size_t rows) noexcept {
  return rows >= 16 && simd::level() != simd::Level::compiled;
}

/// y [rows, out] (+)= x [rows, in] w^T, where element (o, i) of w is w[o * row_stride + i *
/// col_stride]. Some panels of w at a time are packed and multiplied.
inline void packed_product(const float* x, const float* w, std::size_t row_stride,
                           std::size_t col_stride, float* y, std::size_t rows, std::size_t in,
                           std::size_t out, Store store) {
  constexpr std::size_t most = 6 * kernels::panel_rows;
  const std::size_t widest = out < most ? out : most;
  const std::size_t packed = kernels::panel_elements(widest, in);
  Buffer<float, dynamic> scratch(packed + (store == Store::add ? rows * widest : 0));
  float* const sums = scratch.data() + packed;
  for (std::size_t first = 0; first < out; first += most) {
    const std::size_t width = out - first < most ? out - first : most;
    const Range panels{0, kernels::panels_for(width)};
    kernels::pack_panels(reinterpret_cast<const std::byte*>(w + first * row_stride), row_stride,
                         col_stride, width, in, panels, scratch.data());
    const AnyMatrix matrix{DType::f32, scratch.data(), width, in};
    const bool replace = store == Store::replace;
    kernels::multiply<simd::Chosen>(matrix, panels, {x, in}, rows, replace ? y + first : sums,
                                    replace ? out : width);
    if (replace) continue;
    for (std::size_t row = 0; row < rows; ++row)
      kernels::add<simd::Chosen>(sums + row * width, y + row * out + first, width);
  }
}

/// to [cols, rows] = from [rows, cols]^T
inline void transpose(const float* from, float* to, std::size_t rows, std::size_t cols) noexcept {
  constexpr std::size_t n = 4;
  const std::size_t square_rows = rows - rows % n, square_cols = cols - cols % n;
  for (std::size_t i = 0; i < square_rows; i += n)
    for (std::size_t j = 0; j < square_cols; j += n) {
      simd::Sixteen square[n];
      for (std::size_t k = 0; k < n; ++k)
        square[k] =
            simd::Sixteen::load(reinterpret_cast<const std::byte*>(from + (i + k) * cols + j));
      simd::transpose<std::uint32_t>(square);
      for (std::size_t k = 0; k < n; ++k) square[k].store(to + (j + k) * rows + i);
    }
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = i < square_rows ? square_cols : 0; j < cols; ++j)
      to[j * rows + i] = from[i * cols + j];
}

}  // namespace detail

RWKV_FUNCTION void multiply(const float* x, const float* m, float* y, std::size_t rows,
                            std::size_t in, std::size_t out, Store store) {
  if (detail::kernels_are_better(rows))
    return detail::packed_product(x, m, 1, out, y, rows, in, out, store);
  detail::assign(y, rows, out, detail::matrix(x, rows, in) * detail::matrix(m, in, out), store);
}

RWKV_FUNCTION void multiply_transposed(const float* x, const float* w, float* y, std::size_t rows,
                                       std::size_t in, std::size_t out, Store store) {
  if (detail::kernels_are_better(rows))
    return detail::packed_product(x, w, in, 1, y, rows, in, out, store);
  detail::assign(y, rows, out, detail::matrix(x, rows, in) * detail::matrix(w, out, in).transpose(),
                 store);
}

RWKV_FUNCTION void add_outer(const float* x, const float* y, float* m, std::size_t rows,
                             std::size_t a, std::size_t b) {
  if (detail::kernels_are_better(rows)) {
    Buffer<float, dynamic> turned(rows * a);
    detail::transpose(x, turned.data(), rows, a);
    return detail::packed_product(turned.data(), y, 1, b, m, a, rows, b, Store::add);
  }
  detail::matrix(m, a, b).noalias() +=
      detail::matrix(x, rows, a).transpose() * detail::matrix(y, rows, b);
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
