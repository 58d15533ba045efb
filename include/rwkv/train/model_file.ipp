// SPDX-License-Identifier: Apache-2.0
// The definitions of train/model_file.hpp.
#pragma once

#include <rwkv/io/deep_embed.hpp>
#include <rwkv/io/describe.hpp>
#include <rwkv/io/float_bytes.hpp>
#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/io/stored_weights.hpp>
#include <rwkv/train/model_file.hpp>
#include <rwkv/train/read_tensor.hpp>

#include <algorithm>
#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

namespace detail {

/// The numbers in another type, C order.
inline std::vector<std::byte> converted(std::span<const float> values, DType dtype) {
  std::vector<std::byte> out(values.size() * size_of(dtype));
  io::detail::narrow_to(dtype, values, out.data());
  return out;
}

inline Eigenvalues eigenvalues_of(const io::Checkpoint& c) {
  const auto it = c.metadata.find("rwkv.eigenvalues");
  if (it == c.metadata.end() || it->second == "standard") return Eigenvalues::standard;
  if (it->second != "extended")
    fail_with(ErrorCategory::unsupported, c.source, ": rwkv.eigenvalues is \"", it->second,
              "\" (known: standard, extended)");
  return Eigenvalues::extended;
}

}  // namespace detail

RWKV_FUNCTION Parameters read_parameters(const io::Checkpoint& c) {
  Dimensions d = io::dimensions_of(c);
  if (io::norm_settings_of(c) != io::NormSettings{})
    fail_with(ErrorCategory::unsupported, c.source,
              ": only models with ln0 and the usual epsilons (1e-5, and 64e-5 per head) can be "
              "trained; this one says otherwise (config.json or metadata)");
  const bool first_value_residual = c.find("blocks.0.att.v0") != nullptr;
  if (first_value_residual && d.layers == 1) {
    const auto& shape = c.get("blocks.0.att.v1").shape;
    d.value_rank = shape.empty() ? 0 : shape.back();
  }
  SparseLayout sparse;
  sparse.blocks = io::sparse_blocks_of(c);
  if (sparse.blocks > 0) {
    const auto& shape = c.get("moba.0.ffn.key.weight").shape;
    sparse.ffn = shape.empty() ? 0 : shape[0];
    sparse.config = io::hybrid_config_of(c);
  }
  Parameters p(
      std::make_shared<const Layout>(d, detail::eigenvalues_of(c), first_value_residual, sparse));
  for (const TensorInfo& t : p.layout().tensors())
    detail::read_tensor(c, t.name, t.shape, p.values(t));
  const bool deep_residual = d.deep_rank > 0 && io::has_deep_residual(c);
  for (std::size_t i = 0; deep_residual && i < d.layers; ++i) {
    const std::span<float> table(p.block(i).ffn.s_emb, d.vocab * d.deep_rank * d.deep_rank);
    io::add_deep_residual(c, d, {p.globals().ln0.weight, p.globals().ln0.bias}, i, table, {});
    detail::refuse_not_finite(c, "blocks." + std::to_string(i) + ".ffn.s_emb_x.weight", table);
  }
  // A tensor that nothing reads belongs to another architecture, whose gradients these are not.
  if (c.tensors.size() != p.layout().tensors().size())
    for (const auto& [name, tensor] : c.tensors) {
      const std::string table = io::deep_table_of(c, name);
      if (std::none_of(
              p.layout().tensors().begin(), p.layout().tensors().end(),
              [&, &key = name](const TensorInfo& t) { return t.name == key || t.name == table; }))
        io::refuse_extra_tensor(c, name, tensor);
    }
  return p;
}

RWKV_FUNCTION void write_model(const std::filesystem::path& path, const Parameters& p, DType dtype,
                               io::Metadata metadata) {
  detail::require_intact(p, "the parameters");
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16)
    fail_with(ErrorCategory::argument, "models are not written as ",
              std::string(rwkv::name_of(dtype)));
  // What rounds to infinity from here on; a model that holds NaN is none either.
  const float limit = dtype == DType::f16    ? 65520.0f
                      : dtype == DType::bf16 ? 0x1.ffp127f
                                             : HUGE_VALF;
  const bool hybrid = p.layout().sparse().blocks > 0;
  std::vector<std::vector<std::byte>> storage;
  std::vector<io::NamedTensor> tensors;
  for (const TensorInfo& t : p.layout().tensors()) {
    for (const float v : p.values(t))
      if (!(std::abs(v) < limit))
        fail_with(ErrorCategory::argument, path.string(), ": tensor ", t.name, " contains ", v,
                  ", which ", std::string(rwkv::name_of(dtype)), " cannot hold");
    storage.push_back(detail::converted(p.values(t), dtype));
    const bool prefixed = hybrid && !t.name.starts_with("moba.");
    tensors.push_back({(prefixed ? "rwkv." : "") + t.name, dtype, t.shape, storage.back()});
  }
  if (hybrid) io::add_hybrid_config(metadata, p.layout().sparse().config);
  metadata.insert_or_assign("rwkv.eigenvalues", detail::name_of(p.layout().eigenvalues()));
  io::write_safetensors(path, tensors, metadata);
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
