// SPDX-License-Identifier: Apache-2.0
// What the time mix does to each row by itself, forward and backward: all that stands between its
// matrix products and its recurrence, in the letters of train/time_mix.hpp.
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

/// The rows of one block's time mix.
class TimeMixRows {
 public:
  /// `v_first` [R, C]: block 0's v; null in block 0.
  TimeMixRows(const Layout& layout, const BlockTensors<const float*>& p, const float* v_first,
              const TimeMixTape& t, const TimeMixScratch& s)
      : p_(p),
        t_(t),
        s_(s),
        v_first_(v_first),
        c_(layout.shape().embed()),
        head_size_(layout.shape().head_size()),
        shape_(layout.shape()),
        extended_(layout.eigenvalues() == Eigenvalues::extended) {}

  [[nodiscard]] bool first() const noexcept { return v_first_ == nullptr; }

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

 protected:
  static constexpr float decay_scale = -0.60653065971263342f;  // -exp(-1/2)

  BlockTensors<const float*> p_;
  const TimeMixTape& t_;
  const TimeMixScratch& s_;
  const float* v_first_;
  std::size_t c_, head_size_;
  DynamicShape shape_;
  bool extended_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
