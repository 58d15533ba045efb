// SPDX-License-Identifier: Apache-2.0
// The symmetric group: a model that multiplies permutations and says the product. From five points
// on this word problem is NC1-complete: transformers and diagonal state space models of constant
// depth are believed unable to solve it.
#pragma once

#include <rwkv/automata/spelling.hpp>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// Where each of n points goes.
using Permutation = std::vector<std::size_t>;

[[nodiscard]] constexpr std::size_t factorial(std::size_t n) noexcept {
  return n < 2 ? 1 : n * factorial(n - 1);
}

/// The permutation of this rank in lexicographic order; rank 0 is the identity. Throws Error
/// (argument) unless rank < n! and n <= 12.
[[nodiscard]] inline Permutation permutation(std::size_t n, std::size_t rank) {
  if (n > 12 || rank >= factorial(n))  // 13! does not fit 32 bits
    fail_with(ErrorCategory::argument, "no permutation of ", n, " points has rank ", rank);
  Permutation left(n);
  for (std::size_t i = 0; i < n; ++i) left[i] = i;
  Permutation p;
  for (std::size_t i = n; i-- > 0;) {
    const auto chosen = left.begin() + static_cast<std::ptrdiff_t>(rank / factorial(i));
    rank %= factorial(i);
    p.push_back(*chosen);
    left.erase(chosen);
  }
  return p;
}

/// The number of permutations before `p` in lexicographic order.
[[nodiscard]] inline std::size_t rank_of(const Permutation& p) {
  std::size_t rank = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    std::size_t smaller = 0;
    for (std::size_t j = i + 1; j < p.size(); ++j) smaller += p[j] < p[i] ? 1u : 0u;
    rank += smaller * factorial(p.size() - 1 - i);
  }
  return rank;
}

/// `p`, then `g`: x -> g(p(x)). Throws Error (argument) if p goes where g has no point.
[[nodiscard]] inline Permutation then(const Permutation& p, const Permutation& g) {
  Permutation both(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] >= g.size())
      fail_with(ErrorCategory::argument, "point ", p[i], " is not among the ", g.size(),
                " points of a permutation");
    both[i] = g[p[i]];
  }
  return both;
}

/// An RWKV-7 model of one layer (extended eigenvalues) that tracks a product in S_n: symbol and
/// label r both mean the permutation of rank r, and after symbols g, h, ... the largest logit is
/// that of g, then h, then ... Exact for words of any length; see `compile`. Its recurrent state
/// holds the permutation matrix. Throws Error (argument) unless 2 <= n <= 7.
[[nodiscard]] RWKV_FUNCTION io::Checkpoint compile_permutations(std::size_t n);

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/automata/permutations.ipp>
#endif
