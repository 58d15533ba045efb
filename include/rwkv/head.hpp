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

/// logits [rows][V] of the first `rows` rows of x.
template <class L, class Matrix, class Work, class Exec>
void head(const NormWeights& ln_out, const Matrix& weight, std::size_t rows, Work& work,
          float* logits, Exec& exec) {
  detail::layer_norm<L>(ln_out, detail::Pass{rows, 0}, work, exec);
  kernels::run<L, Matrix>(
      {{weight, work[Work::normed], work.stride(), logits, work.shape().vocab()}}, rows,
      {work.quantised_activations(), work[Work::r], work.stride()}, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
