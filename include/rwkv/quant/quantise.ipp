// SPDX-License-Identifier: Apache-2.0
// The definitions of quant/quantise.hpp.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/quant/format.hpp>
#include <rwkv/quant/quantise.hpp>
#include <rwkv/quant/rows.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

namespace detail {

/// The first number of `values` that no block can hold, NaN included; their count if there is none.
inline std::size_t first_unfit(std::span<const float> values) noexcept {
  const auto fits = [](float v) { return v >= -largest_value && v <= largest_value; };
  return static_cast<std::size_t>(std::find_if_not(values.begin(), values.end(), fits) -
                                  values.begin());
}

inline void check_quantise(std::span<const float> matrix, std::size_t rows, std::size_t cols,
                           DType type, std::span<const float> importance) {
  const std::string name(name_of(type));
  if (!is_block(type)) fail_with(ErrorCategory::argument, name, " is no type to quantise to");
  if (cols == 0 ? !matrix.empty() : matrix.size() % cols != 0 || matrix.size() / cols != rows)
    fail_with(ErrorCategory::shape, matrix.size(), " numbers are no matrix of ", rows, " x ", cols);
  if (cols % block_elements(type) != 0)
    fail_with(ErrorCategory::shape, "rows of ", cols, " numbers are no whole blocks of ", name,
              ", which have ", block_elements(type));
  if (!importance.empty() && importance.size() != cols)
    fail_with(ErrorCategory::shape, importance.size(), " importances for ", cols, " columns");
  for (std::size_t c = 0; c < importance.size(); ++c)
    if (!(importance[c] >= 0 && importance[c] <= (std::numeric_limits<float>::max)()))
      fail_with(ErrorCategory::numeric, "the importance of column ", c, " is ", importance[c]);
}

}  // namespace detail

RWKV_FUNCTION std::vector<std::byte> quantise(std::span<const float> matrix, std::size_t rows,
                                              std::size_t cols, DType type,
                                              const QuantiseOptions& options, ExecutorRef exec) {
  detail::check_quantise(matrix, rows, cols, type, options.importance);
  std::vector<std::byte> out(bytes_of(type, matrix.size()));
  const std::size_t block = block_elements(type);
  const std::size_t workers = (std::max<std::size_t>)(1, exec.concurrency());
  // Long enough to keep a thread busy for milliseconds, short enough for progress to be seen.
  constexpr std::size_t elements_per_worker = std::size_t{1} << 17;
  std::vector<std::size_t> unfit(workers);
  for (std::size_t done = 0; done < matrix.size();) {
    const auto slice =
        matrix.subspan(done, (std::min)(matrix.size() - done, workers * elements_per_worker));
    exec.parallel(workers, [&](std::size_t worker) {
      const Range mine = share(slice.size(), workers, worker, block);
      const auto in = slice.subspan(mine.begin, mine.end - mine.begin);
      unfit[worker] = detail::first_unfit(in);
      if (unfit[worker] != in.size()) {
        unfit[worker] += done + mine.begin;
        return;
      }
      unfit[worker] = matrix.size();
      for (std::size_t i = done + mine.begin; i < done + mine.end; i += block)
        encode_row(type, &matrix[i],
                   options.importance.empty() ? nullptr : &options.importance[i % cols], block,
                   &out[bytes_of(type, i)]);
    });
    if (const std::size_t i = *std::min_element(unfit.begin(), unfit.end()); i != matrix.size())
      fail_with(ErrorCategory::numeric, "the number at row ", i / cols, ", column ", i % cols,
                " is ", matrix[i], ", which no block can hold");
    done += slice.size();
    if (options.progress)
      options.progress(static_cast<double>(done) / static_cast<double>(matrix.size()));
  }
  return out;
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
