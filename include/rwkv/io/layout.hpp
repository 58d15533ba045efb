// SPDX-License-Identifier: Apache-2.0
// The complete list of an RWKV-7 model's tensors, in the order in which a forward pass meets them.
#pragma once

#include <rwkv/io/deep_embed.hpp>
#include <rwkv/io/describe.hpp>
#include <rwkv/io/dimensions.hpp>
#include <rwkv/io/tensor_entry.hpp>
#include <rwkv/io/untrusted.hpp>
#include <rwkv/io/weight_types.hpp>

#include <set>
#include <string_view>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

struct LayoutEntry {
  std::string name;                ///< official
  std::vector<std::size_t> shape;  ///< official
  Role role;
};

/// The type for the tensor `entry`, stored as `stored` so far, of a model "in `target`".
[[nodiscard]] inline DType weight_type(const LayoutEntry& entry, DType stored, DType target) {
  return weight_type(entry.role, entry.name, entry.shape.back(), stored, target);
}

/// All tensors of a model. Block 0 has no v0, v1, v2: nothing uses them. Without ln0 if the table
/// is normalised already.
[[nodiscard]] inline std::vector<LayoutEntry> layout_of(const Dimensions& d,
                                                        bool normalised_table = false) {
  std::vector<LayoutEntry> layout;
  const auto add = [&](const std::string& prefix, const TensorSpec& spec) {
    layout.push_back({prefix + std::string(spec.name), shape_of(spec, d), spec.role});
  };
  for (const TensorSpec& global : global_tensors) {
    if (global.name == "ln_out.weight")
      for (std::size_t i = 0; i < d.layers; ++i) {
        const std::string block = "blocks." + std::to_string(i) + '.';
        for (const TensorSpec& spec : block_tensors)
          if (i > 0 || !is_value_residual(spec.name)) add(block, spec);
        if (d.deep_rank > 0)
          for (const TensorSpec& spec : deep_embed_tensors) add(block, spec);
      }
    if (!normalised_table || !global.name.starts_with("blocks.0.ln0.")) add({}, global);
  }
  return layout;
}

/// The tensors of a hybrid model's sparse-attention blocks as well, whose channel mix has a width
/// of its own. Throws `Error` (format) if that cannot be told.
inline void add_sparse_blocks(std::vector<LayoutEntry>& layout, const Checkpoint& checkpoint,
                              std::size_t embed) {
  for (std::size_t j = 0; j < sparse_blocks_of(checkpoint); ++j) {
    const std::string block = "moba." + std::to_string(j) + '.';
    const Tensor& key = checkpoint.get(block + "ffn.key.weight");
    Dimensions d;
    d.embed = embed;
    d.ffn = key.shape.empty() ? 0 : key.shape[0];
    for_each_sparse_block_tensor([&](const TensorSpec& spec) {
      layout.push_back({block + std::string(spec.name), shape_of(spec, d), spec.role});
    });
  }
}

/// Throws `Error` unless the checkpoint holds exactly the tensors of `layout`, in these shapes (a
/// vector may have any shape of its size); block 0 may have its unused v0, v1, v2, and tables of
/// DeepEmbed may have a second part (io/deep_embed.hpp).
inline void check_layout(const Checkpoint& checkpoint, std::span<const LayoutEntry> layout) {
  std::set<std::string_view> known{"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"};
  for (const LayoutEntry& entry : layout) {
    known.insert(entry.name);
    const Tensor& tensor = checkpoint.get(entry.name);
    const bool fits = entry.role == Role::vector
                          ? detail::element_count(entry.shape) == tensor.size()
                          : tensor.shape == entry.shape;
    if (!fits)
      detail::refuse_tensor(ErrorCategory::format, checkpoint.source, entry.name, " has shape ",
                            to_string(tensor.shape), " where ", to_string(entry.shape),
                            " was expected");
    if (!is_float(tensor.dtype) && !is_block(tensor.dtype))
      detail::refuse_tensor(ErrorCategory::unsupported, checkpoint.source, entry.name,
                            " has elements of type ", std::string(name_of(tensor.dtype)));
  }
  for (const auto& [name, tensor] : checkpoint.tensors)
    if (!known.contains(name) && !known.contains(deep_table_of(checkpoint, name)))
      refuse_extra_tensor(checkpoint, name, tensor);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
