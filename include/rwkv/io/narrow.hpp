// SPDX-License-Identifier: Apache-2.0
// A tensor's elements in another type, piece by piece, so that only one piece is ever expanded.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/float_bytes.hpp>
#include <rwkv/io/untrusted.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/quant/quantise.hpp>

#include <functional>
#include <limits>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// A tensor as a matrix of rows: leading dimensions of 1 are dropped. The tensor has at most two
/// others.
struct Rows {
  explicit Rows(const Tensor& tensor) : source(tensor) {
    const std::size_t rank = tensor.shape.size();
    if (rank == 0) return;
    cols = tensor.shape[rank - 1];
    col_stride = tensor.stride[rank - 1];
    for (std::size_t d = 0; d + 1 < rank; ++d) {
      if (tensor.shape[d] == 1) continue;
      RWKV_ASSERT(count == 1);
      count = tensor.shape[d];
      row_stride = tensor.stride[d];
    }
  }

  /// Row r as numbers.
  void read(std::size_t r, float* out) const noexcept {
    const std::size_t begin = r * row_stride;
    if (is_block(source.dtype) && col_stride == 1 && begin % block_elements(source.dtype) == 0 &&
        cols % block_elements(source.dtype) == 0)
      return quant::decode_row(source.dtype, source.bytes.data() + bytes_of(source.dtype, begin),
                               cols, out);
    for (std::size_t c = 0; c < cols; ++c) out[c] = source.at_offset(begin + c * col_stride);
  }

  const Tensor& source;
  std::size_t count = 1;
  std::size_t cols = 1;
  std::size_t row_stride = 0;
  std::size_t col_stride = 1;
};

/// The largest number of `type`.
[[nodiscard]] constexpr float largest_of(DType type) noexcept {
  return type == DType::f32    ? (std::numeric_limits<float>::max)()
         : type == DType::bf16 ? to_float(bfloat16{0x7f7f})
                               : quant::largest_value;  // f16, and blocks, whose scales are f16
}

}  // namespace detail

/// What `narrow` needs to know besides the tensor.
struct NarrowOptions {
  /// The file and the tensor, for messages.
  std::string_view source;
  std::string_view name;
  /// See `quant::QuantiseOptions`.
  std::span<const float> importance = {};
};

/// Calls sink(bytes) with consecutive pieces of the tensor, in C order, as elements of `type`: f32,
/// f16, bf16 (rounded to nearest) or a block type (the rows must be whole blocks). Blocks that have
/// this type already are copied as they are. Throws `Error` (numeric) for NaN, infinity and numbers
/// that `type` cannot hold. Memory: 32 MB, or a row per thread if that is more.
template <class Exec, class Sink>
void narrow(const Tensor& tensor, DType type, const NarrowOptions& options, Exec& exec,
            Sink&& sink) {
  if (tensor.size() == 0) return;
  if (tensor.dtype == type && is_block(type) && tensor.contiguous())
    return sink(tensor.bytes.first(bytes_of(type, tensor.size())));
  const detail::Rows rows(tensor);
  constexpr std::size_t piece = std::size_t{1} << 22;
  const std::size_t workers = (std::max<std::size_t>)(1, exec.concurrency());
  const std::size_t step = std::clamp(piece / rows.cols, workers, (std::max)(rows.count, workers));
  const float largest = detail::largest_of(type);
  std::vector<float> values;
  std::vector<std::byte> bytes;
  std::vector<std::size_t> unfit(workers);
  for (std::size_t done = 0; done < rows.count; done += step) {
    const std::size_t n = (std::min)(step, rows.count - done);
    values.resize(n * rows.cols);
    if (!is_block(type)) bytes.resize(bytes_of(type, values.size()));
    exec.parallel(workers, [&](std::size_t worker) {
      const Range mine = share(n, workers, worker);
      unfit[worker] = values.size();
      for (std::size_t r = mine.begin; r < mine.end; ++r) {
        const std::span<float> row = std::span(values).subspan(r * rows.cols, rows.cols);
        rows.read(done + r, row.data());
        const auto bad = std::find_if_not(row.begin(), row.end(),
                                          [=](float v) { return v >= -largest && v <= largest; });
        if (bad != row.end())
          unfit[worker] = (std::min)(unfit[worker],
                                     r * rows.cols + static_cast<std::size_t>(bad - row.begin()));
        if (!is_block(type))
          detail::narrow_to(type, row, bytes.data() + bytes_of(type, r * rows.cols));
      }
    });
    if (const std::size_t i = *std::min_element(unfit.begin(), unfit.end()); i != values.size())
      detail::refuse_tensor(ErrorCategory::numeric, std::string(options.source), options.name,
                            ": the number at row ", done + i / rows.cols, ", column ",
                            i % rows.cols, " is ", values[i], ", which ",
                            std::string(name_of(type)), " cannot hold");
    if (is_block(type))
      bytes = quant::quantise(values, n, rows.cols, type, {.importance = options.importance}, exec);
    sink(std::span<const std::byte>(bytes));
  }
}

/// The same as a function (LoadOptions::narrow).
inline void narrow_pieces(const Tensor& tensor, DType type, std::string_view source,
                          std::string_view name, ExecutorRef exec,
                          const std::function<void(std::span<const std::byte>)>& sink) {
  narrow(tensor, type, {.source = source, .name = name}, exec, sink);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
