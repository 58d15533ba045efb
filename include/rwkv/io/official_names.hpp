// SPDX-License-Identifier: Apache-2.0
// Where tensors of every format end up: under the official RWKV-7 name and in the official shape,
// as views. Vectors are [1, 1, C] or [C], matrices [out, in], low-rank maps w1 [C, D] and
// w2 [D, C].
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/untrusted.hpp>
#include <rwkv/tensors.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// What has to be done to a tensor of another format.
struct OfficialName {
  std::string name;
  bool transposed = false;  ///< the last two dimensions are exchanged
  bool fused = false;       ///< `name` + "x_r" ... "x_g" lie one after the other
};

/// "blk.12.rest" with prefix "blk." -> {"12", "rest"}.
[[nodiscard]] inline std::optional<std::pair<std::string_view, std::string_view>> split_block(
    std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const auto dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos) return std::nullopt;
  const auto number = name.substr(0, dot);
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!std::all_of(number.begin(), number.end(), digit)) return std::nullopt;
  return std::pair(number, name.substr(dot + 1));
}

/// True for "att.w1" ... "att.g2", "ffn.s1" and "ffn.s2", the low-rank matrices within a block.
[[nodiscard]] constexpr bool is_low_rank(std::string_view name) noexcept {
  const TensorSpec* const spec = find_block_tensor(name);
  return spec != nullptr && spec->role == TensorRole::low_rank;
}

/// The second part of a table of DeepEmbed (io/deep_embed.hpp), which is none of a model's tensors.
inline constexpr std::string_view deep_residual_name = "ffn.s_emb_x.weight";

/// A tensor with at most one dimension that is not 1, as [1, 1, C]; others as they are.
[[nodiscard]] inline Tensor as_row(Tensor tensor) {
  std::size_t length = 1;
  std::size_t stride = 1;
  for (std::size_t d = 0; d < tensor.shape.size(); ++d) {
    if (tensor.shape[d] == 1) continue;
    if (length != 1) return tensor;
    length = tensor.shape[d];
    stride = tensor.stride[d];
  }
  tensor.shape = {1, 1, length};
  tensor.stride = {length * stride, length * stride, stride};
  return tensor;
}

/// A matrix without the dimensions of 1 that some programs leave around it. An `r_k` that is left
/// as one row says nothing about its heads: it has one dimension then.
[[nodiscard]] inline Tensor as_matrix(Tensor tensor, bool heads) {
  const std::size_t least = heads && tensor.shape.size() > 2 ? 1 : 2;
  while (tensor.shape.size() > least && tensor.shape.front() == 1) {
    tensor.shape.erase(tensor.shape.begin());
    tensor.stride.erase(tensor.stride.begin());
  }
  while (tensor.shape.size() > 2 && tensor.shape.back() == 1) {
    tensor.shape.pop_back();
    tensor.stride.pop_back();
  }
  return tensor;
}

/// The part at `index` of the first dimension.
[[nodiscard]] inline Tensor part_of(const Tensor& tensor, std::size_t index) {
  Tensor part = tensor;
  part.shape.erase(part.shape.begin());
  part.stride.erase(part.stride.begin());
  std::size_t reach = 1;
  for (std::size_t d = 0; d < part.shape.size(); ++d)
    reach += part.shape[d] == 0 ? 0 : (part.shape[d] - 1) * part.stride[d];
  if (part.size() == 0) return part;
  part.bytes = tensor.bytes.subspan(bytes_of(tensor.dtype, index * tensor.stride[0]),
                                    bytes_of(tensor.dtype, reach));
  return part;
}

/// Puts `tensor` into `checkpoint` under its official name and in its official shape.
inline void add_official(Checkpoint& checkpoint, const OfficialName& official,
                         const Tensor& stored) {
  const auto block = split_block(official.name, "blocks.");
  const auto any_block = block ? block : split_block(official.name, "moba.");
  const TensorSpec* const spec = any_block ? find_block_tensor(any_block->second) : nullptr;
  const bool matrix = official.fused || official.name == "emb.weight" ||
                      official.name == "head.weight" || (spec != nullptr && spec->rank == 2) ||
                      (block && block->second == deep_residual_name);
  const Tensor tensor = matrix && stored.shape.size() > 2
                            ? as_matrix(stored, block && block->second == "att.r_k")
                            : stored;
  if (official.fused) {
    constexpr std::string_view order = "rwkvag";
    if (tensor.shape.size() < 2 || tensor.shape[0] != order.size())
      refuse_tensor(ErrorCategory::format, checkpoint.source, official.name + "x_rwkvag",
                    " has shape ", to_string(tensor.shape), ", not [6, ...]");
    for (std::size_t i = 0; i < order.size(); ++i)
      add_official(checkpoint, {official.name + "x_" + order[i]}, part_of(tensor, i));
    return;
  }
  if (official.transposed && tensor.shape.size() != 2)
    refuse_tensor(ErrorCategory::format, checkpoint.source, official.name, " has shape ",
                  to_string(tensor.shape), " and is no matrix");
  const bool vector = block && spec != nullptr && spec->rank == 3;
  const auto [entry, fresh] = checkpoint.tensors.try_emplace(official.name);
  if (!fresh)
    refuse_tensor(ErrorCategory::format, checkpoint.source, official.name, " occurs twice");
  entry->second = official.transposed ? tensor.transposed() : vector ? as_row(tensor) : tensor;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
