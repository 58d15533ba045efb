// SPDX-License-Identifier: Apache-2.0
// Parameters from and to model files, under the official names and shapes.
#pragma once

#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/io/stored_weights.hpp>
#include <rwkv/train/parameters.hpp>

namespace rwkv::inline RWKV_ABI::train {

namespace detail {

/// Copies the tensor called `name` into `to`; throws `Error` naming file and tensor if it does not
/// fit.
inline void read_tensor(const io::Checkpoint& c, const std::string& name,
                        const std::vector<std::size_t>& shape, std::span<float> to) {
  const io::Tensor& t = c.get(name);
  if (squeezed(t.shape) != squeezed(shape) || !is_float(t.dtype))
    fail_with(ErrorCategory::shape, c.source, ": tensor ", name, " has shape ",
              io::to_string(t.shape), " and type ", std::string(name_of(t.dtype)),
              " where floats of shape ", io::to_string(shape), " were expected");
  const std::vector<float> values = t.values<float>();
  for (const float v : values)
    if (!std::isfinite(v))
      fail_with(ErrorCategory::numeric, c.source, ": tensor ", name,
                " contains a number that is not finite");
  std::copy(values.begin(), values.end(), to.begin());
}

/// The numbers in another type, C order.
inline std::vector<std::byte> converted(std::span<const float> values, DType dtype) {
  std::vector<std::byte> out(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* to = out.data() + i * size_of(dtype);
    const auto store = [to](auto value) { std::memcpy(to, &value, sizeof value); };
    switch (dtype) {
      case DType::f16:
        store(to_half(values[i]));
        break;
      case DType::bf16:
        store(to_bfloat16(values[i]));
        break;
      default:
        store(values[i]);
    }
  }
  return out;
}

inline const char* name_of(Eigenvalues e) {
  return e == Eigenvalues::extended ? "extended" : "standard";
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

/// Trainable parameters from an opened model file of any element type. Throws `Error` (format,
/// shape, unsupported, numeric) naming the file and the tensor.
[[nodiscard]] inline Parameters read_parameters(const io::Checkpoint& c) {
  Dimensions d = io::dimensions_of(c);
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
  // A tensor that nothing reads belongs to another architecture, whose gradients these are not.
  if (c.tensors.size() != p.layout().tensors().size())
    for (const auto& [name, tensor] : c.tensors)
      if (std::none_of(p.layout().tensors().begin(), p.layout().tensors().end(),
                       [&key = name](const TensorInfo& t) { return t.name == key; }))
        fail_with(ErrorCategory::unsupported, c.source, ": tensor ", name, " ",
                  io::to_string(tensor.shape), " is not part of RWKV-7; is this a variant of it?");
  return p;
}

/// Writes a model file: safetensors, official names and shapes (of a hybrid model with the prefixes
/// of the published ones, and its hyper-parameters), `dtype` f32, f16 or bf16 (rounded
/// to nearest), atomically. `metadata` is added to what the library itself needs to know about the
/// model. Throws `Error` (argument) for another type or when a number does not fit f16, (io) when
/// the file cannot be written.
inline void write_model(const std::filesystem::path& path, const Parameters& p,
                        DType dtype = DType::f32, io::Metadata metadata = {}) {
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16)
    fail_with(ErrorCategory::argument, "models are not written as ",
              std::string(rwkv::name_of(dtype)));
  const bool hybrid = p.layout().sparse().blocks > 0;
  std::vector<std::vector<std::byte>> storage;
  std::vector<io::NamedTensor> tensors;
  for (const TensorInfo& t : p.layout().tensors()) {
    if (dtype == DType::f16)
      for (const float v : p.values(t))
        if (std::abs(v) >= 65520.0f)
          fail_with(ErrorCategory::argument, path.string(), ": tensor ", t.name, " contains ", v,
                    ", which f16 cannot hold");
    storage.push_back(detail::converted(p.values(t), dtype));
    const bool prefixed = hybrid && !t.name.starts_with("moba.");
    tensors.push_back({(prefixed ? "rwkv." : "") + t.name, dtype, t.shape, storage.back()});
  }
  if (hybrid) io::add_hybrid_config(metadata, p.layout().sparse().config);
  metadata.insert_or_assign("rwkv.eigenvalues", detail::name_of(p.layout().eigenvalues()));
  io::write_safetensors(path, tensors, metadata);
}

}  // namespace rwkv::inline RWKV_ABI::train
