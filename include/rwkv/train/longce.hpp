// SPDX-License-Identifier: Apache-2.0
// LongCE: predictions that profit from a long context weigh more. A token's weight is
// min(most, exp(loss with a short context - loss with all of it)).
//
//   const auto weights = rwkv::train::longce_weights(objective, parameters, tokens);
//   sample.weights = weights;    // of the parameters as they are now
#pragma once

#include <rwkv/train/objective.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

struct LongCe {
  std::size_t context = 4000;  ///< tokens before the first target of a window
  std::size_t targets = 4000;  ///< predictions of a window
  double most = 10.0;          ///< largest weight
};

/// Weights for the tokens.size() - 1 predictions of a text. The short contexts are windows: the
/// predictions [w, w + targets) see the tokens from w - context on; those of the first window see
/// everything and weigh 1. An `Objective` divides by the sum of the weights. Throws `Error`
/// (argument) for fewer than two tokens, ids past the vocabulary, or windows without targets. Costs
/// about 1 + (context + targets) / targets forward passes over the text.
[[nodiscard]] RWKV_FUNCTION std::vector<float> longce_weights(Objective& objective,
                                                              const Parameters& parameters,
                                                              std::span<const Token> tokens,
                                                              const LongCe& options = {});

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/longce.ipp>
#endif
