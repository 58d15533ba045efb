// SPDX-License-Identifier: Apache-2.0
// One sparse block of RWKV-X:  x = x + Attention(LN(x; ln1));  x = x + ChannelMix(LN(x; ln2))
#pragma once

#include <rwkv/channel_mix.hpp>
#include <rwkv/sparse_attention.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Sparse block `index`; its channel mix is the one of RWKV-7, with a state row of its own.
template <class L, class Matrix, class Work, class Exec>
void sparse_block(const SparseBlockWeights<Matrix>& p, std::size_t index, const detail::Pass& pass,
                  Work& work, Exec& exec) {
  detail::layer_norm<L>(p.ln1, pass, work, exec);
  sparse_attention<L>(p.att, index, pass, work, exec);
  detail::layer_norm<L>(p.ln2, pass, work, exec);
  channel_mix<L>(p.ffn, work.shape().layers() + index, pass, work, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
