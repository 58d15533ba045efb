// SPDX-License-Identifier: Apache-2.0
// The kernels of train/recurrence.hpp.
//
// Each kind of sum is cheap when it does not run along the vector lanes, so there are two passes
// backward. The first has values in lanes; it needs no S. Once D is known, columns of S and G are
// independent of each other, and the second pass has keys in lanes: per 16 tokens it restores S
// from a checkpoint (never dividing by w, which would lose all digits) and keeps all five sums in
// registers. It costs G twice, which is less than summing across lanes.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_TRAIN_RECURRENCE_KERNELS) || defined(RWKV_AGAIN)
#define RWKV_TRAIN_RECURRENCE_KERNELS

#ifndef RWKV_AGAIN
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/simd/scalar.hpp>
#include <rwkv/train/recurrence.hpp>
#endif

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

template <class L>
RWKV_INLINE void add_to(float* p, L x) noexcept {
  (L::load(p) + x).store(p);
}

/// The tokens [begin, end) of values [i, i + Vectors * width). S [key][value].
template <class L, std::size_t Vectors>
void forward_values(const Recurrence& q, std::size_t begin, std::size_t end, std::size_t i,
                    float* state) noexcept {
  const std::size_t n = q.head_size;
  L sa[Vectors];
  for (std::size_t p = 0; p < Vectors; ++p) sa[p] = L::broadcast(0.0f);
  for (std::size_t j = 0; j < n; ++j) {
    const L a = L::broadcast(q.a[begin * q.stride + j]);
    for (std::size_t p = 0; p < Vectors; ++p)
      sa[p] = fma(L::load(state + j * n + i + p * L::width), a, sa[p]);
  }
  for (std::size_t t = begin; t < end; ++t) {
    const std::size_t at = t * q.stride;
    const float *r = q.r + at, *w = q.w + at, *k = q.k + at, *b = q.b + at;
    const float* next_a = q.a + (t + 1 < q.tokens ? at + q.stride : at);
    L v[Vectors], y[Vectors], next_sa[Vectors];
    for (std::size_t p = 0; p < Vectors; ++p) {
      sa[p].store(q.sa + at + i + p * L::width);
      v[p] = L::load(q.v + at + i + p * L::width);
      y[p] = next_sa[p] = L::broadcast(0.0f);
    }
    for (std::size_t j = 0; j < n; ++j) {
      const L wj = L::broadcast(w[j]), bj = L::broadcast(b[j]), kj = L::broadcast(k[j]),
              rj = L::broadcast(r[j]), aj = L::broadcast(next_a[j]);
      float* row = state + j * n + i;
      for (std::size_t p = 0; p < Vectors; ++p) {
        L s = L::load(row + p * L::width) * wj;
        s = fma(sa[p], bj, s);
        s = fma(v[p], kj, s);
        s.store(row + p * L::width);
        y[p] = fma(s, rj, y[p]);
        next_sa[p] = fma(s, aj, next_sa[p]);
      }
    }
    for (std::size_t p = 0; p < Vectors; ++p) {
      y[p].store(q.y + at + i + p * L::width);
      sa[p] = next_sa[p];
    }
  }
}

/// First pass backward: values [i, i + Vectors * width) of dv, D and the initial state's gradient.
/// `g` [key][value] starts as the gradient of the final state and ends as G_0 before the first
/// token.
template <class L, std::size_t Vectors>
void backward_values(const Recurrence& q, const RecurrenceGradient& d, std::size_t i) noexcept {
  const std::size_t n = q.head_size;
  L dsa[Vectors];
  for (std::size_t p = 0; p < Vectors; ++p) dsa[p] = L::broadcast(0.0f);
  float* g = d.dstate;
  for (std::size_t t = q.tokens; t-- > 0;) {
    const std::size_t at = t * q.stride;
    // After the last token G and D are zero, so that its successor's w and a may be anything.
    const std::size_t next = t + 1 < q.tokens ? at + q.stride : at;
    const float *w = q.w + next, *a = q.a + next, *r = q.r + at, *k = q.k + at, *b = q.b + at;
    L dy[Vectors], dv[Vectors], sum[Vectors];
    for (std::size_t p = 0; p < Vectors; ++p) {
      dy[p] = L::load(d.dy + at + i + p * L::width);
      dv[p] = sum[p] = L::broadcast(0.0f);
    }
    for (std::size_t j = 0; j < n; ++j) {
      const L wj = L::broadcast(w[j]), aj = L::broadcast(a[j]), rj = L::broadcast(r[j]),
              kj = L::broadcast(k[j]), bj = L::broadcast(b[j]);
      float* row = g + j * n + i;
      for (std::size_t p = 0; p < Vectors; ++p) {
        L s = L::load(row + p * L::width) * wj;
        s = fma(dsa[p], aj, s);
        s = fma(dy[p], rj, s);
        s.store(row + p * L::width);
        dv[p] = fma(s, kj, dv[p]);
        sum[p] = fma(s, bj, sum[p]);
      }
    }
    for (std::size_t p = 0; p < Vectors; ++p) {
      add_to(d.dv + at + i + p * L::width, dv[p]);
      sum[p].store(d.dsa + at + i + p * L::width);
      dsa[p] = sum[p];
    }
  }
  for (std::size_t j = 0; j < n; ++j) {  // through the first token's w and a to the initial state
    const L wj = L::broadcast(q.w[j]), aj = L::broadcast(q.a[j]);
    for (std::size_t p = 0; p < Vectors; ++p) {
      float* row = g + j * n + i + p * L::width;
      fma(dsa[p], aj, L::load(row) * wj).store(row);
    }
  }
}

/// Second pass backward: keys [j, j + Vectors * width) of dr, dw, dk, da, db.
/// `scratch`: (checkpoint_interval + 2) * N rows of Vectors * width floats.
template <class L, std::size_t Vectors>
void backward_keys(const Recurrence& q, const RecurrenceGradient& d, std::size_t j,
                   float* scratch) noexcept {
  constexpr std::size_t width = Vectors * L::width;
  const std::size_t n = q.head_size;
  const std::size_t state = n * width;
  float* g = scratch;                // [value][width]
  float* history = scratch + state;  // [token of the chunk + 1][value][width]
  for (std::size_t x = 0; x < state; ++x) g[x] = 0.0f;

  for (std::size_t chunk = checkpoints(q.tokens); chunk-- > 0;) {
    const std::size_t begin = chunk * checkpoint_interval;
    const std::size_t count =
        q.tokens - begin < checkpoint_interval ? q.tokens - begin : checkpoint_interval;
    const float* stored = q.states + chunk * n * n + j;
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t p = 0; p < Vectors; ++p)
        L::load(stored + i * n + p * L::width).store(history + i * width + p * L::width);

    for (std::size_t c = 0; c < count; ++c) {
      const std::size_t at = (begin + c) * q.stride;
      L w[Vectors], k[Vectors], b[Vectors];
      for (std::size_t p = 0; p < Vectors; ++p) {
        w[p] = L::load(q.w + at + j + p * L::width);
        k[p] = L::load(q.k + at + j + p * L::width);
        b[p] = L::load(q.b + at + j + p * L::width);
      }
      const float *v = q.v + at, *sa = q.sa + at;
      const float* from = history + c * state;
      float* to = history + (c + 1) * state;
      for (std::size_t i = 0; i < n; ++i) {
        const L vi = L::broadcast(v[i]), sai = L::broadcast(sa[i]);
        for (std::size_t p = 0; p < Vectors; ++p) {
          L s = L::load(from + i * width + p * L::width) * w[p];
          s = fma(sai, b[p], s);
          s = fma(vi, k[p], s);
          s.store(to + i * width + p * L::width);
        }
      }
    }

    for (std::size_t c = count; c-- > 0;) {
      const std::size_t t = begin + c;
      const std::size_t at = t * q.stride;
      const bool last = t + 1 == q.tokens;
      const std::size_t next = last ? at : at + q.stride;
      const float *dy = d.dy + at, *v = q.v + at, *sa = q.sa + at, *dsa = d.dsa + at;
      // After the last token G is zero, and the last token's own D must not enter in its place.
      const float* next_dsa = d.dsa + next;
      L r[Vectors], next_w[Vectors], next_a[Vectors];
      L dr[Vectors], dw[Vectors], dk[Vectors], da[Vectors], db[Vectors];
      for (std::size_t p = 0; p < Vectors; ++p) {
        const std::size_t x = j + p * L::width;
        r[p] = L::load(q.r + at + x);
        next_w[p] = L::load(q.w + next + x);
        next_a[p] = last ? L::broadcast(0.0f) : L::load(q.a + next + x);
        dr[p] = dw[p] = dk[p] = da[p] = db[p] = L::broadcast(0.0f);
      }
      const float* before = history + c * state;
      for (std::size_t i = 0; i < n; ++i) {
        const L dyi = L::broadcast(dy[i]), vi = L::broadcast(v[i]), sai = L::broadcast(sa[i]),
                dsai = L::broadcast(dsa[i]), next_dsai = L::broadcast(next_dsa[i]);
        for (std::size_t p = 0; p < Vectors; ++p) {
          float* row = g + i * width + p * L::width;
          L gi = L::load(row) * next_w[p];
          gi = fma(next_dsai, next_a[p], gi);
          gi = fma(dyi, r[p], gi);
          gi.store(row);
          const L old = L::load(before + i * width + p * L::width);
          dr[p] = fma(L::load(before + state + i * width + p * L::width), dyi, dr[p]);
          dk[p] = fma(gi, vi, dk[p]);
          db[p] = fma(gi, sai, db[p]);
          dw[p] = fma(gi, old, dw[p]);
          da[p] = fma(old, dsai, da[p]);
        }
      }
      for (std::size_t p = 0; p < Vectors; ++p) {
        const std::size_t x = at + j + p * L::width;
        add_to(d.dr + x, dr[p]);
        dw[p].store(d.dw + x);
        add_to(d.dk + x, dk[p]);
        da[p].store(d.da + x);
        db[p].store(d.db + x);
      }
    }
  }
}

/// Calls tile.operator()<L, Vectors>(x) for x = 0, Vectors * width, ... and narrower tiles for the
/// rest.
template <class L, std::size_t Vectors, class Tile>
void for_tiles(std::size_t n, Tile tile, std::size_t x = 0) {
  for (; x + Vectors * L::width <= n; x += Vectors * L::width)
    tile.template operator()<L, Vectors>(x);
  if constexpr (Vectors > 1)
    for_tiles<L, Vectors / 2>(n, tile, x);
  else if constexpr (L::width > 1)
    for_tiles<simd::Scalar, 1>(n, tile, x);
}

// As many vectors as the register file holds next to a tile's operands.
template <class L>
inline constexpr std::size_t tile_vectors = L::width == 16 ? 2 : 1;

}  // namespace detail

template <class L>
void recur_forward(const Recurrence& q, float* state) noexcept {
  const std::size_t n = q.head_size;
  for (std::size_t begin = 0; begin < q.tokens; begin += checkpoint_interval) {
    float* stored = q.states + begin / checkpoint_interval * n * n;
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) stored[i * n + j] = state[j * n + i];
    const std::size_t end =
        q.tokens - begin < checkpoint_interval ? q.tokens : begin + checkpoint_interval;
    detail::for_tiles<L, 2 * detail::tile_vectors<L>>(
        n, [&]<class T, std::size_t Vectors>(std::size_t i) {
          detail::forward_values<T, Vectors>(q, begin, end, i, state);
        });
  }
}

template <class L>
void recur_backward(const Recurrence& q, const RecurrenceGradient& d, float* scratch) noexcept {
  const std::size_t n = q.head_size;
  for (std::size_t x = 0; x < n * n; ++x) d.dstate[x] = 0.0f;
  if (q.tokens == 0) return;
  detail::for_tiles<L, 2 * detail::tile_vectors<L>>(
      n, [&]<class T, std::size_t Vectors>(std::size_t i) {
        detail::backward_values<T, Vectors>(q, d, i);
      });
  detail::for_tiles<L, detail::tile_vectors<L>>(
      n, [&]<class T, std::size_t Vectors>(std::size_t j) {
        static_assert(Vectors * T::width <= 32);
        detail::backward_keys<T, Vectors>(q, d, j, scratch);
      });
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA::RWKV_LEVEL

#endif
