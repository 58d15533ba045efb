// SPDX-License-Identifier: Apache-2.0
// Two shapes that should be one, in a sentence.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/shape.hpp>

#include <string>

namespace rwkv::inline RWKV_ABI {

/// "3 layers where 2 were expected": the first dimension in which they differ.
[[nodiscard]] inline std::string shape_difference(const Dimensions& is,
                                                  const Dimensions& expected) {
  struct Field {
    std::size_t Dimensions::*member;
    const char* name;
  };
  constexpr Field fields[] = {{&Dimensions::layers, " layers"},
                              {&Dimensions::embed, " channels"},
                              {&Dimensions::head_size, " channels per head"},
                              {&Dimensions::ffn, " channels of the ffn"},
                              {&Dimensions::vocab, " tokens"},
                              {&Dimensions::decay_rank, " ranks of the decay"},
                              {&Dimensions::icl_rank, " ranks of the learning rate"},
                              {&Dimensions::value_rank, " ranks of the value"},
                              {&Dimensions::gate_rank, " ranks of the gate"},
                              {&Dimensions::deep_rank, " ranks of DeepEmbed"}};
  for (const Field& f : fields)
    if (is.*f.member != expected.*f.member)
      return std::to_string(is.*f.member) + f.name + " where " +
             std::to_string(expected.*f.member) + " were expected";
  return "no difference";
}

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
