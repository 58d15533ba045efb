// SPDX-License-Identifier: Apache-2.0
// Two shapes that should be one, in a sentence.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/shape.hpp>

#include <string>

namespace rwkv::inline RWKV_ABI {

/// "3 layers where 2 were expected": the first dimension in which they differ.
[[nodiscard]] RWKV_FUNCTION std::string shape_difference(const Dimensions& is,
                                                         const Dimensions& expected);

template <std::size_t... D>
[[nodiscard]] std::string shape_difference(const Shape<D...>& is, const Shape<D...>& expected) {
  return shape_difference(is.dimensions(), expected.dimensions());
}

namespace internal {

/// Throws Error (argument, shape) if `state` does not fit a model of `shape`. Sentences call it
/// `name`, with a number behind it unless that is `dynamic`.
template <class Shape, class State>
void check_state(const Shape& shape, const State& state, const char* name,
                 std::size_t number = dynamic) {
  if (state.intact() && state.shape() == shape) return;
  const std::string which = name + (number == dynamic ? "" : std::to_string(number));
  if (!state.intact()) fail_with(ErrorCategory::argument, which, " was moved away");
  fail_with(ErrorCategory::shape, which,
            " belongs to a model of another shape: ", shape_difference(state.shape(), shape));
}

}  // namespace internal

}  // namespace rwkv::inline RWKV_ABI

#if RWKV_HEADER_ONLY
#include <rwkv/shape_difference.ipp>
#endif
