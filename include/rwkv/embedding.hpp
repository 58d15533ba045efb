// SPDX-License-Identifier: Apache-2.0
// Stage 1: token -> x, normalised by ln0. The table keeps its stored type; rows are widened as they
// are read.
#pragma once

#include <rwkv/kernels/dispatched.hpp>
#include <rwkv/weights.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// x [C] = LN(emb[token]; ln0), or the row as it is where the table is normalised already.
template <class L, class TableView>
void embed(const TableView& emb, const NormWeights& ln0, Token token, std::size_t n,
           float* x) noexcept {
  emb.row(token, n, x);
  if (ln0.weight != nullptr) kernels::normalise<L>(x, ln0.weight, ln0.bias, ln0.epsilon, x, n);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
