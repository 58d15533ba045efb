// SPDX-License-Identifier: Apache-2.0
// The definitions of train/longce.hpp.
#pragma once

#include <rwkv/train/longce.hpp>

#include <algorithm>
#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

namespace detail {

/// Cross-entropy in nats of tokens[t + 1] after tokens[0 ... t].
inline std::vector<double> token_losses(Objective& objective, const Parameters& parameters,
                                        std::span<const Token> tokens) {
  const std::size_t predictions = tokens.size() - 1;
  const std::size_t vocab = parameters.shape().vocab();
  const std::vector<float> logits = objective.logits(parameters, tokens.first(predictions));
  std::vector<double> losses(predictions);
  for (std::size_t t = 0; t < predictions; ++t) {
    const auto row = std::span(logits).subspan(t * vocab, vocab);
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0.0;
    for (const float logit : row) sum += std::exp(logit - largest);
    losses[t] = std::log(sum) + largest - static_cast<double>(row[tokens[t + 1]]);
  }
  return losses;
}

}  // namespace detail

RWKV_FUNCTION std::vector<float> longce_weights(Objective& objective, const Parameters& parameters,
                                                std::span<const Token> tokens,
                                                const LongCe& options) {
  detail::require_layout(parameters, objective.layout(), "the parameters");
  if (!(options.most >= 0))
    fail_with(ErrorCategory::argument, "most is ", options.most, ", not a number from 0 up");
  if (tokens.size() < 2)
    fail_with(ErrorCategory::argument, tokens.size(), " tokens; a prediction needs two");
  if (options.targets == 0) fail(ErrorCategory::argument, "LongCE windows need targets");
  if (tokens.back() >= parameters.shape().vocab())
    fail_with(ErrorCategory::argument, "token ", tokens.back(), " is past the vocabulary of ",
              parameters.shape().vocab());
  const std::vector<double> full = detail::token_losses(objective, parameters, tokens);
  std::vector<float> weights(full.size(), 1.0f);
  for (std::size_t w = options.targets; w < full.size(); w += options.targets) {
    const std::size_t first = w > options.context ? w - options.context : 0;
    const std::size_t end = (std::min)(w + options.targets, full.size());
    const auto part =
        detail::token_losses(objective, parameters, tokens.subspan(first, end + 1 - first));
    for (std::size_t t = w; t < end; ++t)
      weights[t] =
          static_cast<float>((std::min)(options.most, std::exp(part[t - first] - full[t])));
  }
  return weights;
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
