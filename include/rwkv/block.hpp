// SPDX-License-Identifier: Apache-2.0
// One block:  x = x + TimeMix(LN(x; ln1));  x = x + ChannelMix(LN(x; ln2))
#pragma once

#include <rwkv/channel_mix.hpp>
#include <rwkv/time_mix.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

template <class L, class Matrix, class Work, class Exec>
void block(const BlockWeights<Matrix>& p, Eigenvalues eigenvalues, std::size_t layer,
           const detail::Pass& pass, Work& work, Exec& exec) {
  detail::layer_norm<L>(p.ln1, pass, work, exec);
  time_mix<L>(p.att, eigenvalues, layer, pass, work, exec);
  detail::layer_norm<L>(p.ln2, pass, work, exec);
  channel_mix<L>(p.ffn, layer, pass, work, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
