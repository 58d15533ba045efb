// SPDX-License-Identifier: Apache-2.0
// The RWKV-7 time mix. For each row, u being the output of ln1:
//
//   token shift           x_* = u + (u_prev - u) mu_*        for * in r, w, k, v, a, g
//   projections           r = Wr x_r,  k = Wk x_k,  v = Wv x_v
//   decay                 w = exp(-exp(-1/2) sigmoid(w0 + tanh(x_w w1) w2))
//   learning rate         a = sigmoid(a0 + (x_a a1) a2)                          (in context)
//   gate                  g = sigmoid(x_g g1) g2
//   value residual        v = v + (v_first - v) sigmoid(v0 + (x_v v1) v2)        (not in block 0)
//   removal key           kk = unit(k k_k)
//   replacement key       k = k (1 + (a - 1) k_a)
//   recurrence            S = S (diag(w) - kk^T (a kk)) + v^T k,  y = S r        (kernels/wkv.hpp)
//   norm, bonus, gate     out = Wo ((GN(y) + (r . k r_k) v) g)
//
// Everything is row-wise but the shift and the recurrence. Below are these lines in this order;
// what the keys, decay, learning rate, values and output of one head of a row are made of is in
// kernels/head_row.hpp.
#pragma once

#include <rwkv/pass.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Logs what the tokens are about to do to one head's matrix.
template <class Log>
void log_head(const kernels::WkvTokens& t, std::size_t n, std::size_t layer, std::size_t channel,
              const float* matrix, std::size_t first, Log& log) noexcept {
  if (first == 0) std::memcpy(log.wkv(layer).data() + channel * n, matrix, n * n * sizeof(float));
  for (std::size_t m = 0; m < t.count; ++m) {
    const auto keep = [&](typename Log::Name name, const float* from) {
      std::memcpy(log.row(layer, name, first + m) + channel, from + m * t.stride,
                  n * sizeof(float));
    };
    keep(Log::w, t.w);
    keep(Log::k, t.k);
    keep(Log::v, t.v);
    keep(Log::a, t.a);
    keep(Log::b, t.b);
  }
}

}  // namespace detail

/// Adds the time mix of `normed` to `x`; advances the states of the pass's sequences in layer
/// `layer`.
template <class L, class Matrix, class Work, class Exec>
void time_mix(const TimeMixWeights<Matrix>& p, Eigenvalues eigenvalues, std::size_t layer,
              const detail::Pass& pass, Work& work, Exec& exec) {
  using W = Work;
  const auto& shape = work.shape();
  const std::size_t channels = shape.embed();
  const std::size_t n = shape.head_size();
  const std::size_t ld = work.stride();

  // Token shift.
  const auto state_row = [layer](auto& of) { return of.att_x_prev(layer); };
  detail::find_previous(pass, work, state_row);
  kernels::for_each(pass.rows, 6 * channels, exec, [&](std::size_t m) {
    const float* u = work.row(W::normed, m);
    const auto shift = [&](const float* mu, typename W::Name to) {
      kernels::token_shift<L>(u, work.previous()[m], mu, work.row(to, m), channels);
    };
    shift(p.x_r, W::xr);
    shift(p.x_w, W::xw);
    shift(p.x_k, W::xk);
    shift(p.x_v, W::xv);
    shift(p.x_a, W::xa);
    shift(p.x_g, W::xg);
  });
  detail::keep_last(pass, work, state_row);

  // Projections and the inner halves of the low-rank maps.
  using kernels::Activation;
  const std::size_t ldh = work.hidden_stride();
  float* const low_w = work.hidden();
  float* const low_a = low_w + shape.decay_rank();
  float* const low_v = low_a + shape.icl_rank();
  float* const low_g = low_v + shape.value_rank();
  const bool first = p.v0 == nullptr;
  const Matrix none{};  // block 0 has no value residual: a product without outputs
  kernels::run<L, Matrix>({{p.receptance, work[W::xr], ld, work[W::r], ld},
                           {p.key, work[W::xk], ld, work[W::k], ld},
                           {p.value, work[W::xv], ld, work[W::v], ld},
                           {p.w1, work[W::xw], ld, low_w, ldh, Activation::tanh},
                           {p.a1, work[W::xa], ld, low_a, ldh},
                           {first ? none : p.v1, work[W::xv], ld, low_v, ldh},
                           {p.g1, work[W::xg], ld, low_g, ldh, Activation::sigmoid}},
                          pass.rows, {work.quantised_activations(), low_g + shape.gate_rank(), ldh},
                          exec);

  // The outer halves replace the shifted inputs, which nobody needs any more.
  kernels::run<L, Matrix>({{p.w2, low_w, ldh, work[W::xw], ld},
                           {p.a2, low_a, ldh, work[W::xa], ld},
                           {first ? none : p.v2, low_v, ldh, work[W::xv], ld},
                           {p.g2, low_g, ldh, work[W::xg], ld}},
                          pass.rows, {work.quantised_activations()}, exec);

  // The recurrence: heads of different sequences are independent of each other.
  const std::size_t heads = shape.heads();
  const std::size_t cost = (16 * n * n + 64 * n) / 2 * pass.rows / pass.segments;
  kernels::for_each(pass.segments * heads, cost, exec, [&](std::size_t task) {
    const auto& segment = work.segments()[task / heads];
    const std::size_t head = task % heads;
    const std::size_t channel = head * n;
    const auto at = [&](typename W::Name name, std::size_t m) {
      return work.row(name, segment.first_row + m) + channel;
    };
    const kernels::HeadParameters head_p{
        .w0 = p.w0 + channel,
        .a0 = p.a0 + channel,
        .v0 = first ? nullptr : p.v0 + channel,
        .k_k = p.k_k + channel,
        .k_a = p.k_a + channel,
        .r_k = p.r_k + channel,
        .ln_x_weight = p.ln_x.weight + channel,
        .ln_x_bias = p.ln_x.bias + channel,
        .ln_x_epsilon = p.ln_x.epsilon,
        .extended = eigenvalues == Eigenvalues::extended,
    };
    for (std::size_t m = 0; m < segment.rows; ++m)
      kernels::head_operands<L>(head_p, n,
                                {.k = at(W::k, m),
                                 .v = at(W::v, m),
                                 .v_first = at(W::v_first, m),
                                 .w = at(W::xw, m),
                                 .a = at(W::xa, m),
                                 .v_mix = at(W::xv, m),
                                 .minus_kk = at(W::xr, m),
                                 .b = at(W::xk, m)});
    const kernels::WkvTokens tokens{.r = at(W::r, 0),
                                    .w = at(W::xw, 0),
                                    .k = at(W::k, 0),
                                    .v = at(W::v, 0),
                                    .a = at(W::xr, 0),
                                    .b = at(W::xk, 0),
                                    .y = at(W::normed, 0),
                                    .stride = ld,
                                    .count = segment.rows};
    float* const matrix = segment.state->wkv(layer).data() + head * n * n;
    detail::if_logged(segment, [&](auto& log, std::size_t token) {
      detail::log_head(tokens, n, layer, channel, matrix, token, log);
    });
    kernels::advance<L>(tokens, n, matrix);
    for (std::size_t m = 0; m < segment.rows; ++m)
      kernels::head_output<L>(head_p, n, at(W::r, m), at(W::k, m), at(W::v, m), at(W::xg, m),
                              at(W::normed, m));
  });

  kernels::run<L, Matrix>({{p.output, work[W::normed], ld, work[W::xr], ld}}, pass.rows,
                          {work.quantised_activations(), work[W::r], ld}, exec);
  kernels::for_each(pass.rows, channels, exec, [&](std::size_t m) {
    kernels::add<L>(work.row(W::xr, m), work.row(W::x, m), channels);
  });
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
