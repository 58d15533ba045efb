// SPDX-License-Identifier: Apache-2.0
// The channel mix. For each row, u being the output of ln2:
//
//   out = Wv max(0, Wk (u + (u_prev - u) x_k))^2
//
// or, with DeepEmbed (RWKV-7a), S [R, R] being the token's row of the table s_emb:
//
//   out = Wv (max(0, Wk (u + (u_prev - u) x_k))^2 (s0 + (u s1) S s2))
//
// Most of what Wv is multiplied with is zero, and few rows do without the weights of that. Zero times
// a finite weight is nothing, so the result is the same but for the sign of a zero, which is always
// +0 here. A Wv with a weight that is infinite or NaN is multiplied as a whole, so that such a weight
// makes NaNs at every number of rows.
#pragma once

#include <rwkv/embedding.hpp>
#include <rwkv/pass.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

inline void count_zeros(const float* hidden, std::size_t ld, std::size_t rows, std::size_t units,
                        HiddenUnits& count) noexcept {
  count.all += std::uint64_t{rows} * units;
  for (std::size_t m = 0; m < rows; ++m)
    for (std::size_t i = 0; i < units; ++i) count.zero += hidden[m * ld + i] == 0.0f ? 1 : 0;
}

/// hidden *= s0 + (normed s1) S s2
template <class L, class Matrix, class Work, class Exec>
void deep_embed(const ChannelMixWeights<Matrix>& p, const Pass& pass, Work& work, Exec& exec) {
  const std::size_t rank = work.shape().deep_rank();
  const std::size_t units = work.shape().ffn();
  const std::size_t ld = work.gate_stride();
  float* const mixed = work.gate() + ld - 2 * rank;
  float* const low = mixed + rank;
  kernels::run<L, Matrix>({{p.s1, work[Work::normed], work.stride(), low, ld}}, pass.rows,
                          {work.quantised_activations()}, exec);
  for (std::size_t s = 0; s < pass.segments; ++s) {
    const auto& segment = work.segments()[s];
    kernels::for_each(segment.rows, 2 * rank * rank, exec, [&](std::size_t m) {
      const std::size_t at = (segment.first_row + m) * ld;
      read_row(table_of(p.s_emb), segment.tokens[m], rank * rank, exec, work.gate() + at);
      kernels::row_times<L>(low + at, work.gate() + at, mixed + at, rank);
    });
  }
  kernels::run<L, Matrix>({{p.s2, mixed, ld, work.gate(), ld}}, pass.rows,
                          {work.quantised_activations()}, exec);
  kernels::for_each(pass.rows, units, exec, [&](std::size_t m) {
    kernels::gate<L>(work.gate() + m * ld, p.s0, work.hidden() + m * work.hidden_stride(), units);
  });
}

}  // namespace detail

/// Adds the channel mix of `normed` to `x`; advances the states of the pass's sequences in layer
/// `layer`.
template <class L, class Matrix, class Work, class Exec>
void channel_mix(const ChannelMixWeights<Matrix>& p, std::size_t layer, const detail::Pass& pass,
                 Work& work, Exec& exec) {
  using W = Work;
  const std::size_t channels = work.shape().embed();
  const std::size_t ld = work.stride();
  const std::size_t ldh = work.hidden_stride();

  const auto state_row = [layer](auto& of) { return of.ffn_x_prev(layer); };
  detail::find_previous(pass, work, state_row);
  kernels::for_each(pass.rows, channels, exec, [&](std::size_t m) {
    kernels::token_shift<L>(work.row(W::normed, m), work.previous()[m], p.x_k, work.row(W::xk, m),
                            channels);
  });
  detail::keep_last(pass, work, state_row);

  kernels::run<L, Matrix>(
      {{p.key, work[W::xk], ld, work.hidden(), ldh, kernels::Activation::relu_squared}}, pass.rows,
      {work.quantised_activations(), work[W::r], ld}, exec);
  if (work.shape().deep_rank() > 0 &&
      p.s0 != nullptr)  // the blocks of a hybrid model have their own
    detail::deep_embed<L>(p, pass, work, exec);
  if constexpr (requires { work.hidden_units(); })
    if (work.hidden_units().counted)
      detail::count_zeros(work.hidden(), ldh, pass.rows, p.value.cols, work.hidden_units());
  kernels::run<L, Matrix>({{p.value, work.hidden(), ldh, work[W::xr], ld}}, pass.rows,
                          {work.quantised_activations(), work[W::r], ld}, exec);
  kernels::for_each(pass.rows, channels, exec, [&](std::size_t m) {
    kernels::add_unsigned_zeros<L>(work.row(W::xr, m), work.row(W::x, m), channels);
  });
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
