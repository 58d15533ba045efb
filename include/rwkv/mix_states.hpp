// SPDX-License-Identifier: Apache-2.0
// States between states.
//
//     const rwkv::State<>* const voices[] = {&formal, &brief};     // two tuned states, say
//     rwkv::State both = rwkv::average<rwkv::DynamicShape>(voices);
//     rwkv::State rather_formal = rwkv::interpolate(brief, formal, 0.75f);
//
// What is averaged are the numbers of the states, each by itself: in every layer the two
// token-shift rows and every entry of the matrices. The matrices are sums of what was read, so that
// a mean reads out about the mean of what its states would. The rows are the last token's; their
// mean is no token's. So this is meant for tuned states, whose rows are zero, and for states after
// similar texts. States of hybrid models have caches, which have no mean.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/state.hpp>

#include <cmath>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

inline void require_finite(float weight) {
  if (!std::isfinite(weight))
    fail_with(ErrorCategory::argument, "a state cannot be weighted by ", weight);
}

/// The state whose numbers are the sums of weight(s) * states[s] / divisor, in double.
template <class Shape, class Weight>
[[nodiscard]] State<Shape> sum_of(std::span<const State<Shape>* const> states, Weight&& weight,
                                  double divisor) {
  if (states.empty()) fail(ErrorCategory::argument, "there are no states to combine");
  for (std::size_t s = 0; s < states.size(); ++s) {
    if (states[s] == nullptr) fail_with(ErrorCategory::argument, "state ", s, " is missing");
    if (!states[s]->intact()) fail_with(ErrorCategory::argument, "state ", s, " was moved away");
    if (!(states[s]->shape() == states[0]->shape()) || states[s]->bytes() != states[0]->bytes())
      fail_with(ErrorCategory::shape, "state ", s, " has another shape than state 0");
  }
  State<Shape> result = *states[0];
  const std::span<float> values = result.values();
  bool finite = true;
  for (std::size_t i = 0; i < values.size(); ++i) {
    double sum = 0;
    for (std::size_t s = 0; s < states.size(); ++s)
      sum += weight(s) * double{states[s]->values()[i]};
    values[i] = static_cast<float>(sum / divisor);
    finite = finite && std::isfinite(values[i]);
  }
  if (!finite) fail(ErrorCategory::numeric, "the sum of these states is not finite");
  return result;
}

}  // namespace detail

/// The mean of states of one shape; of equal states it has their bits. Throws Error: (argument) for
/// no states or a null one, (shape) for states of different shapes, (numeric) for a result that is
/// not finite.
template <class Shape>
[[nodiscard]] State<Shape> average(std::span<const State<Shape>* const> states) {
  return detail::sum_of(
      states, [](std::size_t) { return 1.0; }, static_cast<double>(states.size()));
}

/// The sum of weights[s] * states[s]: a weighted mean where the weights add up to 1. Throws as
/// `average`, also (argument) for another number of weights, or one that is not finite.
template <class Shape>
[[nodiscard]] State<Shape> weighted_sum(std::span<const State<Shape>* const> states,
                                        std::span<const float> weights) {
  if (states.size() != weights.size())
    fail_with(ErrorCategory::argument, weights.size(), " weights for ", states.size(), " states");
  for (const float weight : weights) detail::require_finite(weight);
  return detail::sum_of(
      states, [&](std::size_t s) { return double{weights[s]}; }, 1.0);
}

/// (1 - t) a + t b; has the bits of a at 0 and those of b at 1. t may be outside of [0, 1]. Throws
/// Error (shape) for states of different shapes, (argument) for a t that is not finite.
template <class Shape>
[[nodiscard]] State<Shape> interpolate(const State<Shape>& a, const State<Shape>& b, float t) {
  detail::require_finite(t);
  const State<Shape>* const both[] = {&a, &b};
  State<Shape> mixed = detail::sum_of<Shape>(
      both, [t](std::size_t s) { return s == 0 ? 1 - double{t} : double{t}; }, 1.0);
  return t == 0 ? a : t == 1 ? b : mixed;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
