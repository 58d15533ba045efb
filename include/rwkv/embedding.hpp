// SPDX-License-Identifier: Apache-2.0
// Stage 1: token -> x, normalised by ln0. The table keeps its stored type; rows are widened as they
// are read.
#pragma once

#include <rwkv/kernels/dispatched.hpp>
#include <rwkv/weights.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Row `token` of `n` numbers, from wherever the executor has brought it.
template <class TableView, class Exec>
void read_row(TableView table, Token token, std::size_t n, Exec& exec, float* to) {
  if constexpr (Fetching<Exec> && requires { table.bytes_of_row(token, n); }) {
    const auto row = table.bytes_of_row(token, n);
    exec.ahead(row);
    table.data = exec.here(row);
    token = 0;
  }
  table.row(token, n, to);
}

}  // namespace detail

/// x [C] = LN(emb[token]; ln0), or the row as it is where the table is normalised already.
template <class L, class TableView, class Exec>
void embed(const TableView& emb, const NormWeights& ln0, Token token, std::size_t n, Exec& exec,
           float* x) {
  detail::read_row(emb, token, n, exec, x);
  if (ln0.weight != nullptr) kernels::normalise<L>(x, ln0.weight, ln0.bias, ln0.epsilon, x, n);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
