// SPDX-License-Identifier: Apache-2.0
#include "support/numbers.hpp"
#include <rwkv/kernels/pack_panels.hpp>
#include <rwkv/kernels/panels.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace {

namespace kernels = rwkv::kernels;

/// A number that says where in the matrix it is; exact in every storage type.
float element(std::size_t o, std::size_t i) {
  const auto fraction = static_cast<float>(128 + (i + 5 * (o / 16)) % 128);
  return std::ldexp(o % 2 == 0 ? fraction : -fraction, static_cast<int>(o % 16 / 2));
}

/// A stored matrix: element (o, i) at o * row_stride + i * col_stride, on an odd address.
template <class T>
struct Stored {
  std::size_t row_stride, col_stride;
  std::vector<std::byte> memory;

  Stored(std::size_t rows, std::size_t cols, std::size_t row_step, std::size_t col_step)
      : row_stride(row_step),
        col_stride(col_step),
        memory(1 + ((rows - 1) * row_step + (cols - 1) * col_step + 1) * sizeof(T)) {
    for (std::size_t o = 0; o < rows; ++o)
      for (std::size_t i = 0; i < cols; ++i) {
        const T value = test::narrow<T>(element(o, i));
        std::memcpy(&memory[1 + (o * row_stride + i * col_stride) * sizeof(T)], &value,
                    sizeof value);
      }
  }
};

/// Where element (o, i) is: in columns of two panels, or of the last one of an odd number.
std::size_t index(std::size_t o, std::size_t i, std::size_t rows, std::size_t cols) {
  const std::size_t pair = o / 32 * 32;
  return pair + 16 < rows ? pair * cols + i * 32 + o % 32 : pair * cols + i * 16 + o % 16;
}

template <class T>
void check(std::size_t rows, std::size_t cols, const Stored<T>& from) {
  CAPTURE(rows);
  CAPTURE(cols);
  std::vector<T> packed(kernels::panel_elements(rows, cols), test::narrow<T>(99.0f));
  kernels::pack_panels<T>(from.memory.data() + 1, from.row_stride, from.col_stride, rows, cols,
                          {0, kernels::panels_for(rows)}, packed.data());
  for (std::size_t o = 0; o < kernels::panels_for(rows) * 16; ++o)
    for (std::size_t i = 0; i < cols; ++i)
      REQUIRE(rwkv::to_float(packed[index(o, i, rows, cols)]) == (o < rows ? element(o, i) : 0.0f));
}

}  // namespace

TEST_CASE("a matrix fills whole panels") {
  static_assert(kernels::panels_for(0) == 0 && kernels::panel_elements(0, 7) == 0);
  static_assert(kernels::panels_for(1) == 1 && kernels::panel_elements(1, 7) == 16 * 7);
  static_assert(kernels::panels_for(16) == 1 && kernels::panel_elements(16, 7) == 16 * 7);
  static_assert(kernels::panels_for(17) == 2 && kernels::panel_elements(17, 7) == 32 * 7);
}

TEST_CASE_TEMPLATE("packing puts every element in its place and zeros behind the last row", T,
                   float, rwkv::half, rwkv::bfloat16) {
  for (std::size_t rows = 1; rows <= 50; ++rows)
    for (const std::size_t cols : {1u, 2u, 5u, 17u, 150u}) {
      check(rows, cols, Stored<T>(rows, cols, cols, 1));          // C order
      check(rows, cols, Stored<T>(rows, cols, 1, rows));          // transposed
      check(rows, cols, Stored<T>(rows, cols, 2 * cols + 3, 2));  // a view with gaps
    }
}

TEST_CASE("panels can be packed one by one and leave the others alone") {
  constexpr std::size_t rows = 70;
  constexpr std::size_t cols = 9;
  const Stored<float> from(rows, cols, cols, 1);
  const auto pack = [&](rwkv::Range which, std::vector<float>& out) {
    kernels::pack_panels<float>(from.memory.data() + 1, cols, 1, rows, cols, which, out.data());
  };
  std::vector<float> whole(kernels::panel_elements(rows, cols), test::canary);
  pack({0, 5}, whole);
  for (std::size_t p = 0; p < 5; ++p) {
    std::vector<float> out(whole.size(), test::canary);
    pack({p, p + 1}, out);
    for (std::size_t o = 0; o < 80; ++o)
      for (std::size_t i = 0; i < cols; ++i) {
        const std::size_t at = index(o, i, rows, cols);
        REQUIRE(test::bits(out[at]) == test::bits(o / 16 == p ? whole[at] : test::canary));
      }
  }
}
