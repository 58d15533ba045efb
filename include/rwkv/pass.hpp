// SPDX-License-Identifier: Apache-2.0
// What all stages of a pass share: its rows, the token shift's memory, and the layer norm.
#pragma once

#include <rwkv/kernels/product.hpp>
#include <rwkv/weights.hpp>
#include <rwkv/workspace.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail {

/// What the stages of one block work on: rows [0, rows) of the workspace, in segments by sequence.
struct Pass {
  std::size_t rows;
  std::size_t segments;
};

/// previous()[m] = the input before row m of the same sequence: the row above, or what the state
/// kept.
template <class Work, class StateRow>
void find_previous(const Pass& pass, Work& work, StateRow state_row) noexcept {
  for (std::size_t s = 0; s < pass.segments; ++s) {
    const auto& segment = work.segments()[s];
    for (std::size_t m = segment.first_row; m < segment.first_row + segment.rows; ++m)
      work.previous()[m] =
          m == segment.first_row ? state_row(*segment.state).data() : work.row(Work::normed, m - 1);
  }
}

/// Calls f(log, its token that the segment begins with) if the segment is logged.
template <class SegmentT, class F>
void if_logged(const SegmentT& segment, F&& f) {
  if constexpr (requires { segment.logged.log; })
    if (segment.logged.log != nullptr) f(*segment.logged.log, segment.logged.first);
}

/// The state keeps each sequence's last input.
template <class Work, class StateRow>
void keep_last(const Pass& pass, Work& work, StateRow state_row) noexcept {
  for (std::size_t s = 0; s < pass.segments; ++s) {
    const auto& segment = work.segments()[s];
    const std::span<float> kept = state_row(*segment.state);
    if_logged(segment, [&](auto& log, std::size_t first) {
      float* const rows = state_row(log).data();
      if (first == 0) std::memcpy(rows, kept.data(), kept.size_bytes());
      for (std::size_t m = 0; m < segment.rows; ++m)
        std::memcpy(rows + (first + m + 1) * log.stride(),
                    work.row(Work::normed, segment.first_row + m), kept.size_bytes());
    });
    std::memcpy(kept.data(), work.row(Work::normed, segment.first_row + segment.rows - 1),
                kept.size_bytes());
  }
}

/// normed = LN(x; weights), row by row
template <class L, class Work, class Exec>
void layer_norm(const NormWeights& p, const Pass& pass, Work& work, Exec& exec) {
  const std::size_t channels = work.shape().embed();
  kernels::for_each(pass.rows, 2 * channels, exec, [&](std::size_t m) {
    kernels::normalise<L>(work.row(Work::x, m), p.weight, p.bias, p.epsilon,
                          work.row(Work::normed, m), channels);
  });
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail
