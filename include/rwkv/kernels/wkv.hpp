// SPDX-License-Identifier: Apache-2.0
// The recurrence, as the general diagonal-plus-rank-one step over one head of size N:
//
//   S <- S diag(w) + (S a) b^T + v k^T        S_ij <- S_ij w_j + (sum_l S_il a_l) b_j + v_i k_j
//   y  = S r                                  y_i = sum_j S_ij r_j
//
// (i = value channel, j = key channel). RWKV-7 chooses a = -kappa_hat and b = kappa_hat * icl_rate.
// Lanes run along the value index, so S lies in memory as [key][value], every sum over keys is a
// plain chain of fmas, and rows of S for 16 or more values at a time are independent of all others.
// Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_WKV) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_WKV

#ifndef RWKV_AGAIN
#include <rwkv/kernels/cortex_m.hpp>
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/kernels/operands.hpp>
#include <rwkv/simd/scalar.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

/// Values [i, i + Vectors * width) of one head over all tokens. Each token is one pass over S:
/// while S_t is being written, y_t = S_t r_t and the next token's S_t a_{t+1} are summed from
/// registers.
template <class L, std::size_t Vectors>
RWKV_INLINE void wkv_columns(const WkvTokens& t, std::size_t n, std::size_t i,
                             float* state) noexcept {
  L sa[Vectors];
  RWKV_UNROLL
  for (std::size_t q = 0; q < Vectors; ++q) sa[q] = L::broadcast(0.0f);
  for (std::size_t j = 0; j < n; ++j) {
    const L a = L::broadcast(t.a[j]);
    RWKV_UNROLL
    for (std::size_t q = 0; q < Vectors; ++q)
      sa[q] = fma(L::load(state + j * n + i + q * L::width), a, sa[q]);
  }
  for (std::size_t token = 0; token < t.count; ++token) {
    const std::size_t at = token * t.stride;
    const float* r = t.r + at;
    const float* w = t.w + at;
    const float* k = t.k + at;
    const float* b = t.b + at;
    // The last token's "next" sum is computed and dropped: one code path, the same bits for every
    // split.
    const float* next_a = t.a + (token + 1 < t.count ? at + t.stride : at);
    L v[Vectors];
    L y[Vectors];
    L next_sa[Vectors];
    RWKV_UNROLL
    for (std::size_t q = 0; q < Vectors; ++q) {
      v[q] = L::load(t.v + at + i + q * L::width);
      y[q] = L::broadcast(0.0f);
      next_sa[q] = L::broadcast(0.0f);
    }
    for (std::size_t j = 0; j < n; ++j) {
      const L wj = L::broadcast(w[j]);
      const L bj = L::broadcast(b[j]);
      const L kj = L::broadcast(k[j]);
      const L rj = L::broadcast(r[j]);
      const L aj = L::broadcast(next_a[j]);
      float* row = state + j * n + i;
      RWKV_UNROLL
      for (std::size_t q = 0; q < Vectors; ++q) {
        L s = L::load(row + q * L::width) * wj;
        s = fma(sa[q], bj, s);
        s = fma(v[q], kj, s);
        s.store(row + q * L::width);
        y[q] = fma(s, rj, y[q]);
        next_sa[q] = fma(s, aj, next_sa[q]);
      }
    }
    RWKV_UNROLL
    for (std::size_t q = 0; q < Vectors; ++q) {
      y[q].store(t.y + at + i + q * L::width);
      sa[q] = next_sa[q];
    }
  }
}

template <class L, std::size_t Vectors>
RWKV_INNER_LOOP std::size_t wkv_blocks(const WkvTokens& t, std::size_t n, std::size_t i,
                                       float* state) noexcept {
  for (; i + Vectors * L::width <= n; i += Vectors * L::width)
    wkv_columns<L, Vectors>(t, n, i, state);
  if constexpr (Vectors > 1)
    return wkv_blocks<L, Vectors / 2>(t, n, i, state);
  else
    return i;
}

}  // namespace detail

/// Advances one head's state [n key][n value] over `t.count` tokens and writes y. Head size n is
/// arbitrary. Cost: 9 n^2 operations per token.
template <class L>
void wkv(const WkvTokens& t, std::size_t n, float* state) noexcept {
#if RWKV_CORTEX_M
  if constexpr (L::width == 1)
    if (n % 8 == 0) {
      const float* vectors[] = {t.a, t.w, t.b, t.k, t.r, t.v, t.y};
      for (std::size_t token = 0; token < t.count; ++token) {
        cortex_m::wkv(vectors, n, state);
        for (const float*& vector : vectors) vector += t.stride;
      }
      return;
    }
#endif
  if (t.count == 0) return;
#if defined(RWKV_PREFER_SIZE)
  constexpr std::size_t vectors = 1;
#else
  constexpr std::size_t vectors = L::width == 16 ? 4 : 2;
#endif
  const std::size_t i = detail::wkv_blocks<L, vectors>(t, n, 0, state);
  if constexpr (L::width > 1) detail::wkv_blocks<simd::Scalar, 1>(t, n, i, state);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
