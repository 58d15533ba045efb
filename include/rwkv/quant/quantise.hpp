// SPDX-License-Identifier: Apache-2.0
// A whole matrix into blocks, on all threads, with everything checked that encode takes on trust.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/core/error.hpp>
#include <rwkv/exec/serial.hpp>

#include <functional>
#include <span>
#include <vector>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct QuantiseOptions {
  /// How much errors in each column matter, such as the mean square of the matrix's input there:
  /// one finite number >= 0 per column. Empty: all equal.
  std::span<const float> importance = {};
  /// Called with the fraction done, 0 ... 1, from the calling thread.
  std::function<void(double)> progress = {};
};

/// Encodes a matrix of `rows` x `cols` numbers in C order; row r of the result starts at byte r *
/// bytes_of(type, cols). The result does not depend on the executor. Throws `Error`: (argument) if
/// `type` is no block type, (shape) if sizes do not fit together or `cols` is no multiple of
/// block_elements(type), (numeric) for NaN, infinity and numbers beyond `largest_value`. One thread
/// encodes 10 to 60 million numbers per second, depending on type and processor.
[[nodiscard]] RWKV_FUNCTION std::vector<std::byte> quantise(std::span<const float> matrix,
                                                            std::size_t rows, std::size_t cols,
                                                            DType type,
                                                            const QuantiseOptions& options = {},
                                                            ExecutorRef exec = {});

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/quant/quantise.ipp>
#endif
