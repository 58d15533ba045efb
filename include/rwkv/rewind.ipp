// SPDX-License-Identifier: Apache-2.0
// The definitions of rewind.hpp.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/product.hpp>
#include <rwkv/rewind.hpp>
#include <rwkv/shape_difference.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION void rewind(State<>& state, RowLog& log, std::size_t tokens, ExecutorRef exec) {
  const DynamicShape& shape = log.shape();
  internal::check_state(shape, state, "the state to be rewound");
  if (tokens > log.size())
    fail_with(ErrorCategory::argument, "the log has ", log.size(), " tokens, not ", tokens);
  if (!log.begun()) return;
  const std::size_t n = shape.head_size();
  const std::size_t heads = shape.heads();
  const std::size_t cost = n * n + 6 * n * n * tokens;
  kernels::for_each(shape.layers() * heads, cost, exec, [&](std::size_t task) {
    const std::size_t layer = task / heads;
    const std::size_t channel = task % heads * n;
    float* const matrix = state.wkv(layer).data() + channel * n;
    std::memcpy(matrix, log.wkv(layer).data() + channel * n, n * n * sizeof(float));
    for (std::size_t m = 0; m < tokens; ++m) {
      const auto at = [&](RowLog::Name name) { return log.row(layer, name, m) + channel; };
      // Nobody wants the result; it goes where the token shift's memory is written below.
      kernels::advance<simd::Chosen>({.r = at(RowLog::w),
                                      .w = at(RowLog::w),
                                      .k = at(RowLog::k),
                                      .v = at(RowLog::v),
                                      .a = at(RowLog::a),
                                      .b = at(RowLog::b),
                                      .y = state.att_x_prev(layer).data() + channel,
                                      .stride = log.stride(),
                                      .count = 1},
                                     n, matrix);
    }
  });
  for (std::size_t layer = 0; layer < shape.layers(); ++layer) {
    const auto restore = [&](std::span<const float> first, std::span<float> to) {
      std::memcpy(to.data(), first.data() + tokens * log.stride(), to.size_bytes());
    };
    restore(log.att_x_prev(layer), state.att_x_prev(layer));
    restore(log.ffn_x_prev(layer), state.ffn_x_prev(layer));
  }
  log.truncate(tokens);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
