// SPDX-License-Identifier: Apache-2.0
// Time mix with its backward pass, in the letters of the paper (kk: kappa hat, ~: before the
// non-linearity):
//
//   r = Wr xr               k = Wk xk                 v' = Wv xv
//   w = exp(-e^-1/2 sigma(w~))                        w~ = w0 + tanh(xw w1) w2
//   a = c sigma(a~)                                   a~ = a0 + xa a1 a2
//   g = sigma(xg g1) g2
//   v = v' + (v_first - v') sigma(v0 + xv v1 v2)      in block 0: v = v'
//   kk = unit(k k_k)        k* = k (1 + (a - 1) k_a)  b = kk a
//   y = recurrence(r, w, k*, v, -kk, b)
//   x += Wo (g (GN(y) + (sum r k* r_k) v))
//
// c is 1. With extended eigenvalues c is 2 and b = kk a w. What stands between the products is in
// train/time_mix_rows.hpp.
#pragma once

#include <rwkv/train/time_mix_rows.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// One block's time mix, forward and backward.
class TimeMix : TimeMixRows {
 public:
  /// `v_first` [R, C]: block 0's v; unused in block 0.
  TimeMix(const Layout& layout, const BlockTensors<const float*>& p, const Rows& rows,
          std::size_t layer, const float* v_first, const TimeMixTape& t,
          const ShiftedNormScratch& n, const TimeMixScratch& s)
      : TimeMixRows(layout, p, layer > 0 ? v_first : nullptr, t, s),
        rows_(rows),
        n_(n),
        layer_(layer) {}

  /// x [R, C] is updated in place.
  void forward(float* x) const {
    shifted_norm_forward(x, p_.ln1.weight, p_.ln1.bias, rows_, layer_, &State<>::att_x_prev,
                         t_.norm, n_, c_);
    for_row_blocks(rows_.count, [&](std::size_t begin, std::size_t count) {
      project(begin, count);
      for (std::size_t row = begin; row < begin + count; ++row) prepare(row);
    });
    for (const SequenceRows& q : rows_.sequences)
      for (std::size_t h = 0; h < shape_.heads(); ++h) {
        start_state(q, h);
        recur_forward(recurrence(q, h), s_.state);
      }
    for_row_blocks(rows_.count, [&](std::size_t begin, std::size_t count) {
      for (std::size_t row = begin; row < begin + count; ++row)
        finish(row, s_.z + (row - begin) * c_);
      round_inputs(output_precision(), s_.z, count, c_);
      multiply_transposed(s_.z, p_.att.output, x + begin * c_, count, c_, c_, Store::add);
    });
  }

  /// dx [R, C]: gradient after the mixer -> before it. dv_first [R, C] collects what flows back to
  /// block 0's v and is consumed there. Parameter gradients are added to g (null members: not
  /// wanted).
  void backward(float* dx, float* dv_first, const BlockTensors<float*>& g) const {
    shifted_norm_restore(p_.ln1.weight, p_.ln1.bias, rows_, layer_, &State<>::att_x_prev, t_.norm,
                         n_, c_);
    for_row_blocks(rows_.count, [&](std::size_t begin, std::size_t count) {
      const float* dout = dx + begin * c_;
      multiply(dout, p_.att.output, s_.dx, count, c_, c_);
      for (std::size_t row = begin; row < begin + count; ++row)
        gate(row, s_.z + (row - begin) * c_);
      round_inputs_backward(output_precision(), s_.z, s_.dx, count, c_);
      for (std::size_t row = begin; row < begin + count; ++row) {
        derive(row);
        finish_backward(row, s_.dx + (row - begin) * c_, g);
      }
      if (g.att.output != nullptr) add_outer(dout, s_.z, g.att.output, count, c_, c_);
    });
    for (const SequenceRows& q : rows_.sequences)
      for (std::size_t h = 0; h < shape_.heads(); ++h) recurrence_backward(q, h);
    for_row_blocks(rows_.count, [&](std::size_t begin, std::size_t count) {
      for (std::size_t row = begin; row < begin + count; ++row) prepare_backward(row, dv_first, g);
      project_backward(begin, count, g);
    });
    shifted_norm_backward(p_.ln1.weight, g.ln1.weight, g.ln1.bias, rows_, layer_,
                          &State<>::att_x_prev, t_.norm, n_, c_, dx);
  }

 private:
  /// Block 0's output matrix keeps 16 bits.
  [[nodiscard]] Precision output_precision() const noexcept {
    return first() ? Precision::exact : rows_.precision;
  }

  /// out += x_mixed low1 f low2, keeping f(x_mixed low1) in `low`.
  void low_rank(const float* x, const float* m1, const float* m2, kernels::Activation f,
                std::size_t rank, float* low, float* out, std::size_t count) const {
    multiply(x, m1, low, count, c_, rank);
    kernels::activate<Lanes>(f, low, {0, count * rank});
    multiply(low, m2, out, count, rank, c_);
  }

  /// The matrix products in front of the recurrence. w, a and v_gate still lack their
  /// non-linearity.
  void project(std::size_t begin, std::size_t count) const {
    using kernels::Activation;
    const std::size_t at = begin * c_;
    const auto input = [&](const float* mu) {
      mix(n_, mu, begin, count, c_, s_.x);
      return static_cast<const float*>(s_.x);
    };
    const auto square = [&](const float* weight, float* to) {
      round_inputs(rows_.precision, s_.x, count, c_);
      multiply_transposed(s_.x, weight, to + at, count, c_, c_);
    };
    input(p_.att.x_r);
    square(p_.att.receptance, t_.r);
    input(p_.att.x_k);
    square(p_.att.key, t_.k);
    const float* xv = input(p_.att.x_v);
    if (!first())
      low_rank(xv, p_.att.v1, p_.att.v2, Activation::none, shape_.value_rank(),
               t_.low_v + begin * shape_.value_rank(), t_.v_gate + at, count);
    square(p_.att.value, t_.v_own);
    low_rank(input(p_.att.x_w), p_.att.w1, p_.att.w2, Activation::tanh, shape_.decay_rank(),
             t_.low_w + begin * shape_.decay_rank(), t_.w + at, count);
    low_rank(input(p_.att.x_a), p_.att.a1, p_.att.a2, Activation::none, shape_.icl_rank(),
             t_.low_a + begin * shape_.icl_rank(), t_.a + at, count);
    low_rank(input(p_.att.x_g), p_.att.g1, p_.att.g2, Activation::sigmoid, shape_.gate_rank(),
             t_.low_g + begin * shape_.gate_rank(), t_.g + at, count);
  }

  [[nodiscard]] Recurrence recurrence(const SequenceRows& q, std::size_t h) const {
    const std::size_t at = q.begin * c_ + h * head_size_;
    // The checkpoints of one head of one sequence lie together.
    float* states = t_.states + q.first_checkpoint * c_ * head_size_ +
                    h * checkpoints(q.count) * head_size_ * head_size_;
    return {t_.r + at,     t_.w + at,  s_.k + at, t_.v + at, t_.removal + at, s_.b + at,
            t_.y_hat + at, t_.sa + at, states,    c_,        q.count,         head_size_};
  }

  void start_state(const SequenceRows& q, std::size_t h) const {
    const std::size_t n = head_size_ * head_size_;
    if (q.initial != nullptr)
      std::copy_n(q.initial->wkv(layer_).data() + h * n, n, s_.state);
    else
      std::fill_n(s_.state, n, 0.0f);
  }

  void recurrence_backward(const SequenceRows& q, std::size_t h) const {
    const std::size_t at = q.begin * c_ + h * head_size_, n = head_size_ * head_size_;
    recur_backward(recurrence(q, h),
                   {s_.dy + at, s_.dr + at, s_.dw + at, s_.dk + at, s_.dv + at, s_.da + at,
                    s_.db + at, s_.dsa + at, s_.state},
                   s_.recurrence);
    for (State<>* g : {q.initial_gradient, q.initial_gradient_sum})
      if (g != nullptr) kernels::add<Lanes>(s_.state, g->wkv(layer_).data() + h * n, n);
  }

  /// dx_mixed += d(low-rank map) and the gradients of its two matrices. `low_derivative` turns a
  /// stored activation into its derivative.
  template <class Derivative>
  void low_rank_backward(const float* x, const float* m1, const float* m2, float* dm1, float* dm2,
                         std::size_t rank, const float* low, const float* dout, float* dx,
                         std::size_t count, Store store, Derivative derivative) const {
    float* dlow = s_.low;
    multiply_transposed(dout, m2, dlow, count, c_, rank);
    if (dm2 != nullptr) add_outer(low, dout, dm2, count, rank, c_);
    kernels::map<Lanes>({0, count * rank}, [=]<class V>(std::size_t i) {
      (V::load(dlow + i) * derivative(V::load(low + i))).store(dlow + i);
    });
    if (dm1 != nullptr) add_outer(x, dlow, dm1, count, c_, rank);
    multiply_transposed(dlow, m1, dx, count, rank, c_, store);
  }

  /// The matrix products of `project` backwards, into the sums of the token shift.
  void project_backward(std::size_t begin, std::size_t count, const BlockTensors<float*>& g) const {
    const std::size_t at = begin * c_;
    const bool wanted = g.att.receptance != nullptr;
    const auto input = [&](const float* mu) {
      if (wanted || rows_.precision != Precision::exact) mix(n_, mu, begin, count, c_, s_.x);
      return static_cast<const float*>(s_.x);
    };
    const auto square = [&](const float* mu, const float* weight, const float* dy, float* dweight) {
      input(mu);
      multiply(dy + at, weight, s_.dx, count, c_, c_);
      round_inputs_backward(rows_.precision, s_.x, s_.dx, count, c_);
      if (wanted) add_outer(dy + at, s_.x, dweight, count, c_, c_);
    };
    const auto low = [&](const float* mu, const float* m1, const float* m2, const float* dy,
                         float* dm1, float* dm2, std::size_t rank, const float* activation,
                         Store store, auto derivative) {
      low_rank_backward(input(mu), m1, m2, dm1, dm2, rank, activation + begin * rank, dy + at,
                        s_.dx, count, store, derivative);
    };
    const auto done = [&](const float* mu, float* dmu) {
      mix_backward(n_, mu, begin, count, c_, s_.dx, dmu);
    };
    const auto linear = []<class V>(V) { return V::broadcast(1.0f); };

    square(p_.att.x_r, p_.att.receptance, s_.dr, g.att.receptance);
    done(p_.att.x_r, g.att.x_r);
    square(p_.att.x_k, p_.att.key, s_.dk, g.att.key);
    done(p_.att.x_k, g.att.x_k);
    square(p_.att.x_v, p_.att.value, s_.dv, g.att.value);
    if (!first())
      low(p_.att.x_v, p_.att.v1, p_.att.v2, s_.db, g.att.v1, g.att.v2, shape_.value_rank(),
          t_.low_v, Store::add, linear);
    done(p_.att.x_v, g.att.x_v);
    low(p_.att.x_w, p_.att.w1, p_.att.w2, s_.dw, g.att.w1, g.att.w2, shape_.decay_rank(), t_.low_w,
        Store::replace, []<class V>(V tanh) { return V::broadcast(1.0f) - tanh * tanh; });
    done(p_.att.x_w, g.att.x_w);
    low(p_.att.x_a, p_.att.a1, p_.att.a2, s_.da, g.att.a1, g.att.a2, shape_.icl_rank(), t_.low_a,
        Store::replace, linear);
    done(p_.att.x_a, g.att.x_a);
    low(p_.att.x_g, p_.att.g1, p_.att.g2, s_.dg, g.att.g1, g.att.g2, shape_.gate_rank(), t_.low_g,
        Store::replace,
        []<class V>(V sigmoid) { return sigmoid * (V::broadcast(1.0f) - sigmoid); });
    done(p_.att.x_g, g.att.x_g);
  }

  const Rows& rows_;
  const ShiftedNormScratch& n_;
  std::size_t layer_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
