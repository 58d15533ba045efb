// SPDX-License-Identifier: Apache-2.0
// The last stage:  logits = W LN(x; ln_out), for the rows whose logits somebody asked for.
#pragma once

#include <rwkv/pass.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Moves row `from` of x to row `to` of x (to <= from), so that the asked rows come first.
template <class Work>
void select_row(Work& work, std::size_t from, std::size_t to) noexcept {
  if (from != to)
    std::memcpy(work.row(Work::x, to), work.row(Work::x, from),
                work.shape().embed() * sizeof(float));
}

/// The outputs of the first `rows` rows of x, which are taken off the front of `out`.
template <class L, class Matrix, class Rows, class Work, class Exec>
void head(const NormWeights& ln_out, const Matrix& weight, std::size_t rows, Rows& out, Work& work,
          Exec& exec) {
  const std::size_t channels = work.shape().embed();
  const std::size_t vocab = work.shape().vocab();
  detail::layer_norm<L>(ln_out, detail::Pass{rows, 0}, work, exec);
  if (!out.hidden.empty()) {
    for (std::size_t m = 0; m < rows; ++m)
      std::memcpy(out.hidden.data() + m * channels, work.row(Work::normed, m),
                  channels * sizeof(float));
    out.hidden = out.hidden.subspan(rows * channels);
  }
  if (out.logits.empty()) return;
  kernels::run<L, Matrix>({{weight, work[Work::normed], work.stride(), out.logits.data(), vocab}},
                          rows, {work.quantised_activations(), work[Work::r], work.stride()}, exec);
  out.logits = out.logits.subspan(rows * vocab);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
