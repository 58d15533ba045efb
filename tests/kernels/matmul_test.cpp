// SPDX-License-Identifier: Apache-2.0
// The matrix product against its definition in double, and its promise: one chain of fmas per
// output, whatever the number of rows, the cut into panels or the width of a vector.
#include "support/packed.hpp"
#include "support/sanitizers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/quantise_row.hpp>
#include <rwkv/kernels/reference.hpp>
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace {

namespace kernels = rwkv::kernels;
using rwkv::simd::Native;
using rwkv::simd::Scalar;
using test::bits;
using test::Misaligned;
using test::Packed;

constexpr std::size_t most_rows = 19;

/// Where the headers are compiled once more, for this processor, one width beside its own is enough.
template <std::size_t Width>
using Wide = test::WideLanes<RWKV_HEADER_ONLY ? 8 : Width>;

// Numbers of rows, and sizes, that are left out where what is not optimised takes long.
constexpr std::size_t row_step = test::sanitized ? 5 : 1, size_step = test::sanitized ? 23 : 1;
constexpr std::size_t gap = 3;  // between rows of x (not numbers) and rows of y (untouched)

/// [most_rows][cols + gap]
Misaligned<float> inputs(std::size_t cols, test::Random& random) {
  Misaligned<float> x(most_rows * (cols + gap), 5);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = i % (cols + gap) < cols ? random() : std::numeric_limits<float>::quiet_NaN();
  return x;
}

template <class L, class T>
Misaligned<float> product(const Packed<T>& w, rwkv::Range panels, const Misaligned<float>& x,
                          std::size_t first_row, std::size_t rows) {
  auto y = test::untouched(rows * (w.rows + gap));
  kernels::compiled::matmul<L>(w.view(), panels, x.data() + first_row * (w.cols + gap),
                               w.cols + gap, rows, y.data(), w.rows + gap);
  return y;
}

/// |y - exact| <= cols 2^-24 sum |w x|, the bound for any order of summation.
template <class T>
void agrees_with_reference(const Packed<T>& w, const Misaligned<float>& x,
                           const Misaligned<float>& y, std::size_t rows) {
  for (std::size_t m = 0; m < rows; ++m) {
    const float* const row = x.data() + m * (w.cols + gap);
    const rwkv::reference::Vec input(row, row + w.cols);
    const auto exact = rwkv::reference::matvec(w.w, input);
    for (std::size_t o = 0; o < w.rows; ++o) {
      double magnitude = 0;
      for (std::size_t i = 0; i < w.cols; ++i)
        magnitude += std::abs(w.w[o * w.cols + i] * input[i]);
      const double bound = static_cast<double>(w.cols + 1) * 0x1p-24 * magnitude;
      const double error = std::abs(y[m * (w.rows + gap) + o] - exact[o]);
      CAPTURE(m);
      CAPTURE(o);
      REQUIRE(error <= bound);
    }
  }
}

/// Rows [first, first + rows) of `whole`, the asked panels only, and canaries everywhere else.
void is_part_of(const Misaligned<float>& whole, const Misaligned<float>& part, std::size_t outputs,
                rwkv::Range panels, std::size_t first, std::size_t rows) {
  const std::size_t ldy = outputs + gap;
  bool equal = true;
  for (std::size_t m = 0; m < rows; ++m)
    for (std::size_t o = 0; o < ldy; ++o) {
      const bool asked = o < outputs && o / 16 >= panels.begin && o / 16 < panels.end;
      const float expected = asked ? whole[(first + m) * ldy + o] : test::canary;
      equal = equal && bits(part[m * ldy + o]) == bits(expected);
    }
  REQUIRE(equal);
}

template <class L, class T>
void rows_and_panels_do_not_matter(const Packed<T>& w, const Misaligned<float>& x,
                                   const Misaligned<float>& whole, test::Random& random) {
  const rwkv::Range all{0, w.panels()};
  for (std::size_t rows = 1; rows <= most_rows; rows += row_step) {
    const std::size_t first = random.below(most_rows - rows + 1);
    is_part_of(whole, product<L>(w, all, x, first, rows), w.rows, all, first, rows);
  }
  for (const std::size_t rows : {std::size_t{1}, std::size_t{2}, most_rows}) {
    const std::size_t begin = random.below(w.panels());
    const rwkv::Range some{begin, begin + random.below(w.panels() - begin) + 1};
    is_part_of(whole, product<L>(w, some, x, 0, rows), w.rows, some, 0, rows);
    const rwkv::Range none{begin, begin};
    is_part_of(whole, product<L>(w, none, x, 0, rows), w.rows, none, 0, rows);
  }
}

template <class T>
void check(std::size_t outputs, std::size_t cols) {
  CAPTURE(outputs);
  CAPTURE(cols);
  test::Random random(static_cast<std::uint32_t>(outputs * 10007 + cols));
  const Packed<T> w(outputs, cols, random);
  const auto x = inputs(cols, random);
  const rwkv::Range all{0, w.panels()};
  const auto whole = product<Native>(w, all, x, 0, most_rows);
  agrees_with_reference(w, x, whole, most_rows);
  is_part_of(whole, whole, outputs, all, 0, most_rows);
  rows_and_panels_do_not_matter<Native>(w, x, whole, random);
  if (!test::sanitized || outputs * cols < 10'000)
    rows_and_panels_do_not_matter<Scalar>(w, x, whole, random);
}

}  // namespace

TEST_CASE_TEMPLATE("any size, number of rows and range of panels gives the same correct bits", T,
                   float, rwkv::half, rwkv::bfloat16) {
  for (std::size_t n = 1; n <= 70; n += size_step) {
    check<T>(n, 1 + n * 37 % 70);
    check<T>(1 + n * 29 % 70, n);
  }
  check<T>(127, 127);
}

TEST_CASE_TEMPLATE("sums longer than a block continue where they were", T, float, rwkv::half,
                   rwkv::bfloat16) {
  constexpr std::size_t block = kernels::compiled::detail::Blocking<Native>::inputs;
  test::Thinned sizes(3);  // the last one goes on behind a block
  for (const std::size_t cols : {block + 1, block, block - 1}) {
    if (sizes.leaves_out()) continue;
    check<T>(5, cols);
    if (!test::sanitized) check<T>(33, cols);
  }
}

TEST_CASE("a sum over several blocks, for enough outputs for every kind of group") {
  constexpr std::size_t block = kernels::compiled::detail::Blocking<Native>::inputs;
  if (!test::sanitized) check<float>(16 * 11 + 3, block + 1);
  check<float>(3, 2 * block + 5);
}

TEST_CASE_TEMPLATE("the blocking of every vector width gives the same bits", L, Wide<4>, Wide<8>,
                   Wide<16>) {
  test::Random random(3);
  constexpr std::size_t block = kernels::compiled::detail::Blocking<L>::inputs;
  struct Size {
    std::size_t outputs, cols;
  };
  test::Thinned sizes(3);
  for (const Size size :
       {Size{1, 3}, {16, 5}, {50, 33}, {16 * 12, 7}, {16 * 15 + 9, 4}, {20, block + 1}}) {
    if (L::width != 8 && sizes.leaves_out()) continue;
    const std::size_t outputs = size.outputs;
    const std::size_t cols = size.cols;
    CAPTURE(outputs);
    CAPTURE(cols);
    const Packed<float> w(outputs, cols, random);
    const auto x = inputs(cols, random);
    const auto whole = product<Native>(w, {0, w.panels()}, x, 0, most_rows);
    rows_and_panels_do_not_matter<L>(w, x, whole, random);
  }
}

TEST_CASE_TEMPLATE("rows of bfloat16 are multiplied in pairs", L, Wide<4>, Wide<8>, Wide<16>) {
  constexpr std::size_t block = kernels::compiled::detail::Blocking<L>::inputs;
  test::Random random(5);
  struct Size {
    std::size_t outputs, cols;
  };
  test::Thinned sizes(3);
  for (const Size size : {Size{1, 2}, {16, 6}, {50, 34}, {16 * 15 + 9, 4}, {20, block + 2}}) {
    if (L::width != 8 && sizes.leaves_out()) continue;
    const std::size_t outputs = size.outputs;
    const std::size_t cols = size.cols;
    CAPTURE(outputs);
    CAPTURE(cols);
    const Packed<rwkv::bfloat16> w(outputs, cols, random);
    auto x = inputs(cols, random);
    const std::size_t stride = kernels::QuantisedActivations::bytes_for(cols);
    std::vector<std::byte> memory(most_rows * stride);
    const kernels::QuantisedActivations quantised{memory.data(), stride, cols};
    for (std::size_t m = 0; m < most_rows; ++m) {
      float* const row = x.data() + m * (cols + gap);
      kernels::compiled::quantise_row<rwkv::simd::Scalar>(kernels::ActivationFormat::bfloats16, row,
                                                          quantised, m);
      for (std::size_t i = 0; i < cols; ++i) {
        REQUIRE(quantised.bfloats16(m)[i] == rwkv::to_bfloat16(row[i]));
        row[i] = rwkv::to_float(quantised.bfloats16(m)[i]);
      }
    }
    const auto of = [&](rwkv::Range panels, std::size_t first, std::size_t rows) {
      auto y = test::untouched(rows * (outputs + gap));
      const kernels::QuantisedActivations some{memory.data() + first * stride, stride, cols};
      kernels::compiled::matmul_of_pairs<L>(w.view(), panels, some, rows, y.data(), outputs + gap);
      return y;
    };
    const rwkv::Range all{0, w.panels()};
    const auto whole = of(all, 0, most_rows);
    agrees_with_reference(w, x, whole, most_rows);
    for (std::size_t rows = 1; rows <= most_rows; rows += row_step) {
      const std::size_t first = random.below(most_rows - rows + 1);
      const std::size_t begin = random.below(w.panels());
      const rwkv::Range some{begin, begin + random.below(w.panels() - begin) + 1};
      is_part_of(whole, of(all, first, rows), outputs, all, first, rows);
      is_part_of(whole, of(some, first, rows), outputs, some, first, rows);
    }
  }
}

TEST_CASE("zero rows write nothing") {
  test::Random random(4);
  const Packed<float> w(20, 4, random);
  const auto x = inputs(4, random);
  auto y = test::untouched(23);
  kernels::compiled::matmul<Native>(w.view(), {0, 2}, x.data(), 7, 0, y.data(), 23);
  for (const float f : y) CHECK(bits(f) == bits(test::canary));
}
