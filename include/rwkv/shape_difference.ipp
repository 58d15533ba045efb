// SPDX-License-Identifier: Apache-2.0
// The definitions of shape_difference.hpp.
#pragma once

#include <rwkv/shape_difference.hpp>

namespace rwkv::inline RWKV_ABI {

RWKV_FUNCTION std::string shape_difference(const Dimensions& is, const Dimensions& expected) {
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

}  // namespace rwkv::inline RWKV_ABI
