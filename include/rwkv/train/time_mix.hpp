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
// c is 1. With extended eigenvalues c is 2 and b = kk a w.
#pragma once

#include <rwkv/train/parameters.hpp>
#include <rwkv/train/shifted_norm.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What the backward pass needs to know.
struct TimeMixTape {
  ShiftedNormTape norm;
  float *r = nullptr, *k = nullptr, *v_own = nullptr;  // [R, C] v_own: v'; in block 0 the same as v
  float* v = nullptr;                                  // [R, C]
  float *sigma_w = nullptr, *w = nullptr, *a = nullptr, *g = nullptr;  // [R, C]
  float* v_gate = nullptr;                                             // [R, C] null in block 0
  float* removal = nullptr;                                            // [R, C] -kk
  float* k_length = nullptr;                                           // [R, H] max(|k k_k|, 1e-12)
  float *low_w = nullptr, *low_a = nullptr, *low_v = nullptr, *low_g = nullptr;  // [R, D*]
  float *sa = nullptr, *states = nullptr;                                        // see Recurrence
  float *y_hat = nullptr, *y_scale = nullptr;                                    // [R, C], [R, H]
  float* bonus = nullptr;                                                        // [R, H]

  TimeMixTape() = default;
  TimeMixTape(Arena& arena, std::size_t rows, std::size_t checkpoints, const DynamicShape& s,
              bool first)
      : norm(arena, rows, s.embed()) {
    const std::size_t rc = rows * s.embed(), rh = rows * s.heads();
    for (float** p : {&r, &k, &v_own, &sigma_w, &w, &a, &g, &removal, &sa, &y_hat})
      *p = arena.take(rc);
    v = first ? v_own : arena.take(rc);
    for (float** p : {&k_length, &y_scale, &bonus}) *p = arena.take(rh);
    low_w = arena.take(rows * s.decay_rank());
    low_a = arena.take(rows * s.icl_rank());
    low_g = arena.take(rows * s.gate_rank());
    if (!first) {
      v_gate = arena.take(rc);
      low_v = arena.take(rows * s.value_rank());
    }
    states = arena.take(checkpoints * s.embed() * s.head_size());
  }
};

/// Scratch shared by all blocks.
struct TimeMixScratch {
  float *k = nullptr, *b = nullptr;                                   // [R, C] k* and b
  float *dr = nullptr, *dw = nullptr, *dk = nullptr, *dv = nullptr;   // [R, C]
  float *da = nullptr, *db = nullptr, *dsa = nullptr, *dy = nullptr;  // [R, C]
  float* dg = nullptr;                                                // [R, C]
  float *x = nullptr, *dx = nullptr, *z = nullptr;                    // [row_block, C]
  float* low = nullptr;                                               // [row_block, largest D]
  float *state = nullptr, *recurrence = nullptr;  // [N, N], see recurrence_scratch

  TimeMixScratch() = default;
  TimeMixScratch(Arena& arena, std::size_t rows, const DynamicShape& s) {
    for (float** p : {&k, &b, &dr, &dw, &dk, &dv, &da, &db, &dsa, &dy, &dg})
      *p = arena.take(rows * s.embed());
    for (float** p : {&x, &dx, &z}) *p = arena.take(row_block * s.embed());
    low = arena.take(row_block *
                     (std::max)({s.decay_rank(), s.icl_rank(), s.value_rank(), s.gate_rank()}));
    state = arena.take(s.head_size() * s.head_size());
    recurrence = arena.take(recurrence_scratch(s.head_size()));
  }
};

/// One block's time mix, forward and backward.
class TimeMix {
 public:
  /// `v_first` [R, C]: block 0's v; unused in block 0.
  TimeMix(const Layout& layout, const BlockTensors<const float*>& p, const Rows& rows,
          std::size_t layer, const float* v_first, const TimeMixTape& t,
          const ShiftedNormScratch& n, const TimeMixScratch& s)
      : p_(p),
        rows_(rows),
        t_(t),
        n_(n),
        s_(s),
        v_first_(layer > 0 ? v_first : nullptr),
        layer_(layer),
        c_(layout.shape().embed()),
        head_size_(layout.shape().head_size()),
        shape_(layout.shape()),
        extended_(layout.eigenvalues() == Eigenvalues::extended) {}

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
        recur_forward<Lanes>(recurrence(q, h), s_.state);
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
  static constexpr float decay_scale = -0.60653065971263342f;  // -exp(-1/2)

  [[nodiscard]] bool first() const noexcept { return v_first_ == nullptr; }

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

  /// Non-linearities, kk, and k* and b.
  void prepare(std::size_t row) const {
    const std::size_t at = row * c_;
    const auto& p = p_;
    const float *k = t_.k + at, *v_own = t_.v_own + at,
                *v_first = first() ? nullptr : v_first_ + at;
    float *sigma_w = t_.sigma_w + at, *w = t_.w + at, *a = t_.a + at, *removal = t_.removal + at,
          *v = t_.v + at, *v_gate = first() ? nullptr : t_.v_gate + at;
    const float a_range = extended_ ? 2.0f : 1.0f;
    kernels::map<Lanes>({0, c_}, [=]<class V>(std::size_t j) {
      const V s = kernels::sigmoid(V::load(w + j) + V::load(p.att.w0 + j));
      s.store(sigma_w + j);
      kernels::exp(s * V::broadcast(decay_scale)).store(w + j);
      (kernels::sigmoid(V::load(a + j) + V::load(p.att.a0 + j)) * V::broadcast(a_range))
          .store(a + j);
      (V::load(k + j) * V::load(p.att.k_k + j)).store(removal + j);
      if (v_first != nullptr) {
        const V gate = kernels::sigmoid(V::load(v_gate + j) + V::load(p.att.v0 + j));
        gate.store(v_gate + j);
        const V own = V::load(v_own + j);
        fma(V::load(v_first + j) - own, gate, own).store(v + j);
      }
    });
    for (std::size_t h = 0; h < shape_.heads(); ++h) {
      float* u = removal + h * head_size_;
      const float length =
          simd::square_root(kernels::reduce<Lanes>(head_size_, [u]<class V>(std::size_t j, V sum) {
            const V x = V::load(u + j);
            return fma(x, x, sum);
          }));
      const float divisor = length > 1e-12f ? length : 1e-12f;
      t_.k_length[row * shape_.heads() + h] = divisor;
      kernels::map<Lanes>({0, head_size_}, [=]<class V>(std::size_t j) {
        (V::load(u + j) * V::broadcast(-1.0f / divisor)).store(u + j);
      });
    }
    derive(row);
  }

  /// k* and b, which are not kept: cheaper to make again than to store.
  void derive(std::size_t row) const {
    const std::size_t at = row * c_;
    const float *k = t_.k + at, *a = t_.a + at, *w = t_.w + at, *removal = t_.removal + at,
                *k_a = p_.att.k_a;
    float *k_out = s_.k + at, *b = s_.b + at;
    const bool extended = extended_;
    kernels::map<Lanes>({0, c_}, [=]<class V>(std::size_t j) {
      const V aj = V::load(a + j), one = V::broadcast(1.0f);
      (V::load(k + j) * fma(aj - one, V::load(k_a + j), one)).store(k_out + j);
      V bj = V::load(removal + j) * (V::broadcast(0.0f) - aj);
      if (extended) bj = bj * V::load(w + j);
      bj.store(b + j);
    });
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
    recur_backward<Lanes>(recurrence(q, h),
                          {s_.dy + at, s_.dr + at, s_.dw + at, s_.dk + at, s_.dv + at, s_.da + at,
                           s_.db + at, s_.dsa + at, s_.state},
                          s_.recurrence);
    for (State<>* g : {q.initial_gradient, q.initial_gradient_sum})
      if (g != nullptr) kernels::add<Lanes>(s_.state, g->wkv(layer_).data() + h * n, n);
  }

  /// z = g (GN(y) + bonus v)
  void finish(std::size_t row, float* z) const {
    const std::size_t n = head_size_;
    for (std::size_t h = 0; h < shape_.heads(); ++h) {
      const std::size_t at = row * c_ + h * n, head = row * shape_.heads() + h;
      float* y_hat = t_.y_hat + at;
      t_.y_scale[head] = standardise(y_hat, y_hat, n, kernels::group_norm_epsilon);
      t_.bonus[head] = kernels::triple_product<Lanes>(t_.r + at, s_.k + at, p_.att.r_k + h * n, n);
    }
    gate(row, z);
  }

  void gate(std::size_t row, float* z) const {
    const std::size_t n = head_size_;
    for (std::size_t h = 0; h < shape_.heads(); ++h) {
      const std::size_t at = row * c_ + h * n;
      const float *y_hat = t_.y_hat + at, *v = t_.v + at, *g = t_.g + at,
                  *weight = p_.att.ln_x.weight + h * n, *bias = p_.att.ln_x.bias + h * n;
      const float bonus = t_.bonus[row * shape_.heads() + h];
      float* out = z + h * n;
      kernels::map<Lanes>({0, n}, [=]<class V>(std::size_t j) {
        const V o = fma(V::load(y_hat + j), V::load(weight + j), V::load(bias + j));
        (fma(V::broadcast(bonus), V::load(v + j), o) * V::load(g + j)).store(out + j);
      });
    }
  }

  /// dz -> dy, dg, and what r, k* and v receive besides the recurrence.
  void finish_backward(std::size_t row, const float* dz_row,
                       const BlockTensors<float*>& grad) const {
    const std::size_t n = head_size_;
    for (std::size_t h = 0; h < shape_.heads(); ++h) {
      const std::size_t at = row * c_ + h * n, head = row * shape_.heads() + h;
      const float *y_hat = t_.y_hat + at, *v = t_.v + at, *g = t_.g + at, *r = t_.r + at,
                  *k = s_.k + at, *weight = p_.att.ln_x.weight + h * n,
                  *bias = p_.att.ln_x.bias + h * n, *r_k = p_.att.r_k + h * n, *dz = dz_row + h * n;
      float *dy = s_.dy + at, *dg = s_.dg + at, *dr = s_.dr + at, *dk = s_.dk + at,
            *dv = s_.dv + at;
      const float bonus = t_.bonus[head];
      const float dbonus = kernels::triple_product<Lanes>(dz, g, v, n);
      const auto add_at = [h, n](float* p) { return p == nullptr ? nullptr : p + h * n; };
      float *dweight = add_at(grad.att.ln_x.weight), *dbias = add_at(grad.att.ln_x.bias),
            *dr_k = add_at(grad.att.r_k);
      kernels::map<Lanes>({0, n}, [=]<class V>(std::size_t j) {
        const V dzj = V::load(dz + j), vj = V::load(v + j), rj = V::load(r + j),
                kj = V::load(k + j), y = V::load(y_hat + j), db = V::broadcast(dbonus);
        const V normed = fma(y, V::load(weight + j), V::load(bias + j));
        (dzj * fma(V::broadcast(bonus), vj, normed)).store(dg + j);
        const V d = dzj * V::load(g + j);
        (d * V::load(weight + j)).store(dy + j);
        (d * V::broadcast(bonus)).store(dv + j);
        const V scaled = db * V::load(r_k + j);
        (scaled * kj).store(dr + j);
        (scaled * rj).store(dk + j);
        if (dweight != nullptr) {
          fma(d, y, V::load(dweight + j)).store(dweight + j);
          (V::load(dbias + j) + d).store(dbias + j);
          fma(db * rj, kj, V::load(dr_k + j)).store(dr_k + j);
        }
      });
      standardise_backward(dy, y_hat, t_.y_scale[head], dy, n);
    }
  }

  /// From the inputs of the recurrence to the results of `project`: afterwards dr, dk, dv, dw, da,
  /// db hold the gradients of r, k, v', w~, a~ and (not in block 0) of v_gate before its sigmoid.
  void prepare_backward(std::size_t row, float* dv_first_rows,
                        const BlockTensors<float*>& grad) const {
    const std::size_t at = row * c_;
    const float *k = t_.k + at, *a = t_.a + at, *w = t_.w + at, *sigma_w = t_.sigma_w + at,
                *removal = t_.removal + at, *v_own = t_.v_own + at,
                *v_first = first() ? nullptr : v_first_ + at,
                *v_gate = first() ? nullptr : t_.v_gate + at;
    float *dk = s_.dk + at, *dv = s_.dv + at, *dw = s_.dw + at, *da = s_.da + at, *db = s_.db + at,
          *dremoval = s_.dsa + at, *dv_first = dv_first_rows + at;
    const bool extended = extended_;
    const float a_range = extended_ ? 2.0f : 1.0f;
    const BlockTensors<const float*>& p = p_;
    const float *k_a = p.att.k_a, *k_k = p.att.k_k;
    float *dk_a = grad.att.k_a, *dk_k = grad.att.k_k, *dw0 = grad.att.w0, *da0 = grad.att.a0,
          *dv0 = grad.att.v0;
    kernels::map<Lanes>({0, c_}, [=]<class V>(std::size_t j) {
      const V one = V::broadcast(1.0f);
      const V aj = V::load(a + j), wj = V::load(w + j), kj = V::load(k + j);
      // b = -removal a (w)
      const V minus_b_per_a = extended ? V::load(removal + j) * wj : V::load(removal + j);
      const V dbj = V::load(db + j);
      V dwj = V::load(dw + j);
      V minus_daj = dbj * minus_b_per_a;
      V removal_part = dbj * aj;
      if (extended) {
        dwj = dwj - removal_part * V::load(removal + j);
        removal_part = removal_part * wj;
      }
      (V::load(da + j) - removal_part).store(dremoval + j);
      // k* = k (1 + (a - 1) k_a)
      const V dkj = V::load(dk + j), k_aj = V::load(k_a + j), dk_k_product = dkj * kj;
      const V daj = dk_k_product * k_aj - minus_daj;
      (dkj * fma(aj - one, k_aj, one)).store(dk + j);
      if (dk_a != nullptr) fma(dk_k_product, aj - one, V::load(dk_a + j)).store(dk_a + j);
      // a = range sigma(a~), w = exp(decay_scale sigma(w~))
      const V da_pre = daj * aj * (one - aj * V::broadcast(1.0f / a_range));
      da_pre.store(da + j);
      const V s = V::load(sigma_w + j);
      const V dw_pre = dwj * wj * V::broadcast(decay_scale) * s * (one - s);
      dw_pre.store(dw + j);
      if (dw0 != nullptr) {
        (V::load(dw0 + j) + dw_pre).store(dw0 + j);
        (V::load(da0 + j) + da_pre).store(da0 + j);
      }
      // v = v' + (v_first - v') gate
      const V dvj = V::load(dv + j);
      if (v_first == nullptr) {
        (dvj + V::load(dv_first + j)).store(dv + j);
      } else {
        const V gate = V::load(v_gate + j), flow = dvj * gate;
        (V::load(dv_first + j) + flow).store(dv_first + j);
        (dvj - flow).store(dv + j);
        const V dgate = (V::load(v_first + j) - V::load(v_own + j)) * flow * (one - gate);
        dgate.store(db + j);
        if (dv0 != nullptr) (V::load(dv0 + j) + dgate).store(dv0 + j);
      }
    });
    // removal = -k k_k / length, per head
    for (std::size_t h = 0; h < shape_.heads(); ++h) {
      const std::size_t o = h * head_size_;
      const float length = t_.k_length[row * shape_.heads() + h];
      float along = 0.0f;
      if (length > 1e-12f)  // otherwise the length is the constant 1e-12
        along = kernels::reduce<Lanes>(head_size_, [=]<class V>(std::size_t j, V sum) {
          return fma(V::load(removal + o + j), V::load(dremoval + o + j), sum);
        });
      kernels::map<Lanes>({o, o + head_size_}, [=]<class V>(std::size_t j) {
        const V dq = fma(V::broadcast(-along), V::load(removal + j), V::load(dremoval + j)) *
                     V::broadcast(-1.0f / length);
        fma(dq, V::load(k_k + j), V::load(dk + j)).store(dk + j);
        if (dk_k != nullptr) fma(dq, V::load(k + j), V::load(dk_k + j)).store(dk_k + j);
      });
    }
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

  BlockTensors<const float*> p_;
  const Rows& rows_;
  const TimeMixTape& t_;
  const ShiftedNormScratch& n_;
  const TimeMixScratch& s_;
  const float* v_first_;
  std::size_t layer_, c_, head_size_;
  DynamicShape shape_;
  bool extended_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
