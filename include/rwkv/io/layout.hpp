// SPDX-License-Identifier: Apache-2.0
// The complete list of an RWKV-7 model's tensors, in the order in which a forward pass meets them.
#pragma once

#include <rwkv/io/describe.hpp>
#include <rwkv/io/stored_weights.hpp>
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
  const std::size_t c = d.embed;
  const auto add = [&](std::string name, std::vector<std::size_t> shape, Role role) {
    layout.push_back({std::move(name), std::move(shape), role});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {c}, Role::vector);
    add(name + ".bias", {c}, Role::vector);
  };
  add("emb.weight", {d.vocab, c}, Role::table);
  if (!normalised_table) norm("blocks.0.ln0");
  for (std::size_t i = 0; i < d.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + '.';
    const auto row = [&](const std::string& name) { add(block + name, {1, 1, c}, Role::vector); };
    const auto matrix = [&](const char* name, std::size_t rows, std::size_t cols) {
      add(block + name, {rows, cols}, Role::matrix);
    };
    norm(block + "ln1");
    for (const char x : {'r', 'w', 'k', 'v', 'a', 'g'}) row(std::string("att.x_") + x);
    for (const auto& [letter, rank] : {std::pair{'w', d.decay_rank}, std::pair{'a', d.icl_rank},
                                       std::pair{'v', d.value_rank}, std::pair{'g', d.gate_rank}}) {
      if (letter == 'v' && i == 0) continue;
      const std::string name = std::string("att.") + letter;
      if (letter != 'g') row(name + '0');
      add(block + name + '1', {c, rank}, Role::low_rank);
      add(block + name + '2', {rank, c}, Role::low_rank);
    }
    row("att.k_k");
    row("att.k_a");
    add(block + "att.r_k", {c / d.head_size, d.head_size}, Role::vector);
    for (const char* name : {"att.receptance.weight", "att.key.weight", "att.value.weight"})
      matrix(name, c, c);
    norm(block + "att.ln_x");
    matrix("att.output.weight", c, c);
    norm(block + "ln2");
    row("ffn.x_k");
    matrix("ffn.key.weight", d.ffn, c);
    matrix("ffn.value.weight", c, d.ffn);
  }
  norm("ln_out");
  add("head.weight", {d.vocab, c}, Role::head);
  return layout;
}

/// The tensors of a hybrid model's sparse-attention blocks as well, whose channel mix has a width
/// of its own. Throws `Error` (format) if that cannot be told.
inline void add_sparse_blocks(std::vector<LayoutEntry>& layout, const Checkpoint& checkpoint,
                              std::size_t embed) {
  for (std::size_t j = 0; j < sparse_blocks_of(checkpoint); ++j) {
    const std::string block = "moba." + std::to_string(j) + '.';
    const Tensor& key = checkpoint.get(block + "ffn.key.weight");
    const std::size_t ffn = key.shape.empty() ? 0 : key.shape[0];
    const auto add = [&](const char* name, std::vector<std::size_t> shape, Role role) {
      layout.push_back({block + name, std::move(shape), role});
    };
    add("ln1.weight", {embed}, Role::vector);
    add("ln1.bias", {embed}, Role::vector);
    for (const char* name :
         {"att.receptance.weight", "att.key.weight", "att.value.weight", "att.output.weight"})
      add(name, {embed, embed}, Role::matrix);
    add("ln2.weight", {embed}, Role::vector);
    add("ln2.bias", {embed}, Role::vector);
    add("ffn.x_k", {1, 1, embed}, Role::vector);
    add("ffn.key.weight", {ffn, embed}, Role::matrix);
    add("ffn.value.weight", {embed, ffn}, Role::matrix);
  }
}

/// Throws `Error` unless the checkpoint holds exactly the tensors of `layout`, in these shapes (a
/// vector may have any shape of its size); block 0 may have its unused v0, v1, v2.
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
    if (!known.contains(name)) refuse_extra_tensor(checkpoint, name, tensor);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
