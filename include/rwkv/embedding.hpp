// SPDX-License-Identifier: Apache-2.0
// Stage 1: token -> x, normalised by ln0. The table keeps its stored type; rows are widened as they
// are read.
#pragma once

#include <rwkv/kernels/levels.hpp>
#include <rwkv/weights.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// x [C] = LN(emb[token]; ln0)
template <class L, class TableView>
void embed(const TableView& emb, const NormWeights& ln0, Token token, std::size_t n,
           float* x) noexcept {
  emb.row(token, n, x);
  kernels::normalise<L>(x, ln0.weight, ln0.bias, kernels::layer_norm_epsilon, x, n);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
