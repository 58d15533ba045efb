// SPDX-License-Identifier: Apache-2.0
// What both mixers begin with: u = LN(x), and d = (u of the previous token) - u, from which every
// input of a mixer is made as u + d * mu.
#pragma once

#include <rwkv/train/algebra.hpp>
#include <rwkv/train/rows.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What the backward pass needs to know.
struct ShiftedNormTape {
  float* x_hat = nullptr;  // [R, C] standardised input
  float* scale = nullptr;  // [R]

  ShiftedNormTape() = default;
  ShiftedNormTape(Arena& arena, std::size_t rows, std::size_t c)
      : x_hat(arena.take(rows * c)), scale(arena.take(rows)) {}
};

/// Scratch shared by all mixers.
struct ShiftedNormScratch {
  float *u = nullptr, *d = nullptr;  // [R, C]
  float *sum = nullptr,
        *along = nullptr;  // [R, C] backward: sum of dX, and of dX * mu, over a mixer's inputs X
  float* row = nullptr;    // [C]

  ShiftedNormScratch() = default;
  ShiftedNormScratch(Arena& arena, std::size_t rows, std::size_t c)
      : u(arena.take(rows * c)),
        d(arena.take(rows * c)),
        sum(arena.take(rows * c)),
        along(arena.take(rows * c)),
        row(arena.take(c)) {}
};

/// Which of a state's two rows a mixer continues from.
using ConstRow = std::span<const float> (State<>::*)(std::size_t) const noexcept;
using MutableRow = std::span<float> (State<>::*)(std::size_t) noexcept;

namespace detail {

/// x_hat -> u and d
inline void shift_rows(const ShiftedNormTape& t, const float* weight, const float* bias,
                       const Rows& rows, std::size_t layer, ConstRow previous_row,
                       const ShiftedNormScratch& s, std::size_t c) {
  for (const SequenceRows& q : rows.sequences) {
    for (std::size_t i = 0; i < q.count; ++i) {
      const std::size_t at = (q.begin + i) * c;
      const float* x_hat = t.x_hat + at;
      float *u = s.u + at, *d = s.d + at;
      const float* previous = i > 0       ? u - c
                              : q.initial ? (q.initial->*previous_row)(layer).data()
                                          : nullptr;
      kernels::map<Lanes>({0, c}, [=]<class V>(std::size_t j) {
        const V now = fma(V::load(x_hat + j), V::load(weight + j), V::load(bias + j));
        now.store(u + j);
        const V before = previous != nullptr ? V::load(previous + j) : V::broadcast(0.0f);
        (before - now).store(d + j);
      });
    }
  }
}

}  // namespace detail

/// x [R, C] -> tape, u, d
inline void shifted_norm_forward(const float* x, const float* weight, const float* bias,
                                 const Rows& rows, std::size_t layer, ConstRow previous_row,
                                 const ShiftedNormTape& t, const ShiftedNormScratch& s,
                                 std::size_t c) {
  for (std::size_t row = 0; row < rows.count; ++row)
    t.scale[row] = standardise(x + row * c, t.x_hat + row * c, c, kernels::layer_norm_epsilon);
  detail::shift_rows(t, weight, bias, rows, layer, previous_row, s, c);
}

/// u and d once more, and the sums of the backward pass set to zero.
inline void shifted_norm_restore(const float* weight, const float* bias, const Rows& rows,
                                 std::size_t layer, ConstRow previous_row, const ShiftedNormTape& t,
                                 const ShiftedNormScratch& s, std::size_t c) {
  detail::shift_rows(t, weight, bias, rows, layer, previous_row, s, c);
  std::fill_n(s.sum, rows.count * c, 0.0f);
  std::fill_n(s.along, rows.count * c, 0.0f);
}

/// X = u + d * mu for rows [begin, begin + count)
inline void mix(const ShiftedNormScratch& s, const float* mu, std::size_t begin, std::size_t count,
                std::size_t c, float* x) {
  for (std::size_t row = 0; row < count; ++row) {
    const float *u = s.u + (begin + row) * c, *d = s.d + (begin + row) * c;
    float* out = x + row * c;
    kernels::map<Lanes>({0, c}, [=]<class V>(std::size_t j) {
      fma(V::load(d + j), V::load(mu + j), V::load(u + j)).store(out + j);
    });
  }
}

/// Backward of `mix`: adds dX to the sums and to the gradient of mu (null: not wanted).
inline void mix_backward(const ShiftedNormScratch& s, const float* mu, std::size_t begin,
                         std::size_t count, std::size_t c, const float* dx, float* dmu) {
  for (std::size_t row = 0; row < count; ++row) {
    const std::size_t at = (begin + row) * c;
    const float *d = s.d + at, *g = dx + row * c;
    float *sum = s.sum + at, *along = s.along + at;
    kernels::map<Lanes>({0, c}, [=]<class V>(std::size_t j) {
      const V x = V::load(g + j);
      (V::load(sum + j) + x).store(sum + j);
      fma(x, V::load(mu + j), V::load(along + j)).store(along + j);
      if (dmu != nullptr) fma(x, V::load(d + j), V::load(dmu + j)).store(dmu + j);
    });
  }
}

/// Adds the gradient of x to dx [R, C], and the gradients of weight and bias (null: not wanted) and
/// of the initial states' rows.
inline void shifted_norm_backward(const float* weight, float* dweight, float* dbias,
                                  const Rows& rows, std::size_t layer, MutableRow previous_row,
                                  const ShiftedNormTape& t, const ShiftedNormScratch& s,
                                  std::size_t c, float* dx) {
  for (const SequenceRows& q : rows.sequences) {
    const float* first = s.along + q.begin * c;
    for (State<>* g : {q.initial_gradient, q.initial_gradient_sum})
      if (g != nullptr) kernels::add<Lanes>(first, (g->*previous_row)(layer).data(), c);
    for (std::size_t i = 0; i < q.count; ++i) {
      const std::size_t row = q.begin + i;
      const float *sum = s.sum + row * c, *along = s.along + row * c, *x_hat = t.x_hat + row * c;
      const bool last = i + 1 == q.count;
      float* d = s.row;
      kernels::map<Lanes>({0, c}, [=]<class V>(std::size_t j) {
        V du = V::load(sum + j) - V::load(along + j);
        if (!last) du = du + V::load(along + c + j);
        if (dweight != nullptr) {
          fma(du, V::load(x_hat + j), V::load(dweight + j)).store(dweight + j);
          (V::load(dbias + j) + du).store(dbias + j);
        }
        (du * V::load(weight + j)).store(d + j);
      });
      standardise_backward(d, x_hat, t.scale[row], dx + row * c, c, Store::add);
    }
  }
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
