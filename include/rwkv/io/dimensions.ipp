// SPDX-License-Identifier: Apache-2.0
// The definitions of io/dimensions.hpp.
#pragma once

#include <rwkv/io/describe.hpp>
#include <rwkv/io/dimensions.hpp>
#include <rwkv/io/model_settings.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

RWKV_FUNCTION Dimensions dimensions_of(const Checkpoint& c) {
  const auto matrix = [&](const std::string& name) -> const Tensor& {
    const Tensor& t = c.get(name);
    if (t.shape.size() != 2 || t.shape[0] == 0 || t.shape[1] == 0)
      fail_with(ErrorCategory::format, c.source, ": tensor ", name, " has shape ",
                to_string(t.shape), " where a matrix was expected");
    return t;
  };
  if (c.find("blocks.0.att.r_k") == nullptr)
    fail_with(ErrorCategory::unsupported, c.source, ": not an RWKV-7 model: ", describe(c));
  Dimensions d;
  d.vocab = matrix("emb.weight").shape[0];
  d.embed = matrix("emb.weight").shape[1];
  d.head_size = matrix("blocks.0.att.r_k").shape[1];
  d.ffn = matrix("blocks.0.ffn.key.weight").shape[0];
  d.decay_rank = matrix("blocks.0.att.w1").shape[1];
  d.icl_rank = matrix("blocks.0.att.a1").shape[1];
  d.gate_rank = matrix("blocks.0.att.g1").shape[1];
  if (c.find("blocks.0.ffn.s1") != nullptr) d.deep_rank = matrix("blocks.0.ffn.s1").shape[1];
  const auto exists = [&](std::size_t layer) {  // as soon as any of its tensors does
    const std::string prefix = "blocks." + std::to_string(layer) + ".";
    const auto it = c.tensors.lower_bound(prefix);
    return it != c.tensors.end() && it->first.starts_with(prefix);
  };
  while (exists(d.layers)) ++d.layers;
  if (d.layers > 1) d.value_rank = matrix("blocks.1.att.v1").shape[1];
  if (d.embed % d.head_size != 0)
    fail_with(ErrorCategory::format, c.source, ": ", d.embed,
              " channels cannot be divided into heads of ", d.head_size);
  for (std::size_t i = 0; i < d.layers; ++i) {  // nothing but its size is looked at later
    const std::string name = "blocks." + std::to_string(i) + ".att.r_k";
    if (const Tensor* r_k = c.find(name); r_k != nullptr && r_k->shape.size() == 2)
      check_shape(c, name, *r_k, {d.embed / d.head_size, d.head_size});
  }
  if (d.vocab > 0xffffffffu)
    fail_with(ErrorCategory::unsupported, c.source, ": a vocabulary of ", d.vocab, " tokens");
  if (d.deep_rank > 0x4000)  // whose square many numbers hold
    fail_with(ErrorCategory::unsupported, c.source, ": a DeepEmbed of ", d.deep_rank, " ranks");
  check_stated_dimensions(c, d);
  return d;
}

RWKV_FUNCTION std::size_t sparse_blocks_of(const Checkpoint& c) {
  std::size_t blocks = 0;
  for (;; ++blocks) {
    const std::string prefix = "moba." + std::to_string(blocks) + ".";
    const auto it = c.tensors.lower_bound(prefix);
    if (it == c.tensors.end() || !it->first.starts_with(prefix)) return blocks;
  }
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
