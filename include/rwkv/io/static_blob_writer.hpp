// SPDX-License-Identifier: Apache-2.0
// Writes a model as a blob for static_blob.hpp, and the header that goes with it.
#pragma once

#include <rwkv/io/stored_weights.hpp>
#include <rwkv/kernels/quads.hpp>
#include <rwkv/static_blob_format.hpp>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

struct StaticBlobOptions {
  /// Puts the embedding table, the tables of DeepEmbed and the head into a blob of their own, for
  /// memory that is larger and slower.
  bool tables_apart = false;
  /// Writes matrices of 8-bit codes, and those of floats with few outputs, in the order for
  /// processors without vectors (kernels/quads.hpp). Others read it, slowly.
  bool quads = false;
};

/// A model as `rwkv::StaticBlob` reads it.
struct StaticBlobs {
  std::vector<std::byte> core;
  std::vector<std::byte> tables;  ///< empty unless apart
  std::set<DType> types;          ///< of matrices and table
};

namespace detail {

class BlobWriter {
 public:
  BlobWriter(const StoredWeights& w, const StaticBlobOptions& options)
      : w_(w), quads_(options.quads) {
    const Dimensions& d = w.dimensions();
    const std::size_t of_block =
        block_tensors.size() + (d.deep_rank > 0 ? deep_embed_tensors.size() : 0);
    const std::size_t count = global_tensors.size() + d.layers * of_block;
    blobs_.core.resize(sizeof(StaticBlobHeader) + count * sizeof(StaticBlobEntry));
    std::vector<std::byte>& tables = options.tables_apart ? blobs_.tables : blobs_.core;
    const AnyTable& emb = w.emb();
    put(tables, emb.type, emb.data, bytes_of(emb.type, d.vocab * d.embed));
    norm(w.ln0());
    norm(w.ln_out());
    matrix(tables, w.head(), "head.weight");
    for (std::size_t i = 0; i < d.layers; ++i) {
      const auto write = [&](const TensorSpec& spec, const auto& from) {
        if (i == 0 && is_value_residual(spec.name)) {
          put(blobs_.core, DType::f32, nullptr, 0);
        } else if constexpr (std::is_same_v<decltype(from), const AnyMatrix&>) {
          if (spec.role == TensorRole::table) {
            blobs_.types.insert(from.type);
            put(tables, from.type, from.data, bytes_of(from.type, spec.size(d)));
          } else {
            matrix(blobs_.core, from, "blocks." + std::to_string(i) + '.' + std::string(spec.name));
          }
        } else {
          put(blobs_.core, DType::f32, from, spec.size(d) * sizeof(float));
        }
      };
      for_each_block_tensor(write, w.block(i));
      if (d.deep_rank > 0) for_each_deep_embed_tensor(write, w.block(i));
    }
    finish(count);
  }

  [[nodiscard]] StaticBlobs take() { return std::move(blobs_); }

 private:
  void put(std::vector<std::byte>& blob, DType type, const void* data, std::size_t bytes,
           std::uint32_t order = 0) {
    StaticBlobEntry e{StaticBlobEntry::absent, 0};
    if (data != nullptr) {
      constexpr std::size_t line = internal::blob_line;
      const std::size_t begin = (blob.size() + line - 1) / line * line;
      if (begin / line > (std::numeric_limits<std::uint32_t>::max)())
        fail(ErrorCategory::unsupported, "the model is too large for a blob: 256 GiB");
      e = {static_cast<std::uint32_t>(internal::traits_of(type).gguf) |
               (&blob == &blobs_.tables ? StaticBlobEntry::in_tables : 0u) | order,
           static_cast<std::uint32_t>(begin / line)};
      blob.resize(begin + bytes);
      std::memcpy(blob.data() + begin, data, bytes);
    }
    std::memcpy(blobs_.core.data() + sizeof(StaticBlobHeader) + next_++ * sizeof e, &e, sizeof e);
  }
  void norm(const NormWeights& n) {
    const std::size_t bytes = w_.dimensions().embed * sizeof(float);
    put(blobs_.core, DType::f32, n.weight, bytes);
    put(blobs_.core, DType::f32, n.bias, bytes);
  }
  void matrix(std::vector<std::byte>& blob, const AnyMatrix& m, const std::string& name) {
    if (m.low_rank != nullptr)
      fail_with(ErrorCategory::unsupported, "an adapter stands beside ", name,
                ", which is held as ", std::string(name_of(m.type)),
                ": bake it in with `rwkv convert` first");
    blobs_.types.insert(m.type);
    const std::size_t bytes = kernels::packed_bytes(m.type, m.rows, m.cols);
    const auto* data = static_cast<const std::byte*>(m.data);
    std::vector<std::byte> panels;
    if (m.by_input) {
      const std::size_t group_bytes = kernels::ByInput::group_bytes(m.cols);
      panels.resize(bytes);
      for (std::size_t at = 0; at < bytes; at += group_bytes)
        kernels::to_panels(data + at, m.cols, {0, m.cols / kernels::tile_cols}, panels.data() + at);
      data = panels.data();
    }
    if (quads_ && !is_block(m.type) && kernels::few_enough_for_quads(m.rows))
      return few_outputs(blob, m);
    if (!quads_ || !kernels::has_quads(m.type)) return put(blob, m.type, data, bytes);
    std::vector<std::byte> quads(bytes);
    kernels::pack_quads({kernels::layout_of(m.type), data, m.rows, m.cols}, quads.data());
    put(blob, m.type, quads.data(), bytes, StaticBlobEntry::in_quads);
  }

  void few_outputs(std::vector<std::byte>& blob, const AnyMatrix& m) {
    const auto pack = [&]<class T>(T) {
      std::vector<T> quads(m.cols * kernels::quad_column(m.rows));
      kernels::pack_quads(static_cast<const T*>(m.data), m.rows, m.cols, quads.data());
      put(blob, m.type, quads.data(), quads.size() * sizeof(T), StaticBlobEntry::in_quads);
    };
    switch (m.type) {
      case DType::f16:
        return pack(half{});
      case DType::bf16:
        return pack(bfloat16{});
      default:
        RWKV_ASSERT(m.type == DType::f32);
        return pack(float{});
    }
  }

  void finish(std::size_t count) {
    const Dimensions& d = w_.dimensions();
    blobs_.types.insert(w_.emb().type);
    StaticBlobHeader h{};
    std::copy(std::begin(h.right_magic), std::end(h.right_magic), h.magic);
    h.version = h.right_version;
    h.layout = std::uint32_t{kernels::panel_layout};
    h.bytes = blobs_.core.size();
    h.table_bytes = blobs_.tables.size();
    h.fingerprint = w_.fingerprint();
    const std::size_t dimensions[] = {d.layers,     d.embed,    d.head_size,  d.ffn,      d.vocab,
                                      d.decay_rank, d.icl_rank, d.value_rank, d.gate_rank};
    for (std::size_t i = 0; i < std::size(dimensions); ++i)
      h.dimensions[i] = static_cast<std::uint32_t>(dimensions[i]);
    h.layer_norm_epsilon = w_.norms().layer_norm_epsilon;
    h.group_norm_epsilon = w_.norms().group_norm_epsilon;
    h.flags = (w_.eigenvalues() == Eigenvalues::extended ? h.extended_eigenvalues : 0u) |
              (w_.norms().normalised_table ? h.normalised_table : 0u);
    h.tensors = static_cast<std::uint32_t>(count);
    h.deep_rank = static_cast<std::uint32_t>(d.deep_rank);
    h.checksum =
        internal::blob_checksum(h, std::span(blobs_.core).subspan(sizeof h), blobs_.tables);
    std::memcpy(blobs_.core.data(), &h, sizeof h);
  }

  const StoredWeights& w_;
  const bool quads_;
  StaticBlobs blobs_;
  std::size_t next_ = 0;
};

}  // namespace detail

/// The model as it is held: every tensor in its type. Throws Error (unsupported) where adapters
/// stand beside matrices of blocks. Time and memory O(bytes).
[[nodiscard]] inline StaticBlobs static_blob(const StoredWeights& w,
                                             const StaticBlobOptions& options = {}) {
  return detail::BlobWriter(w, options).take();
}

/// C++ source that names the Shape and the Weights of such a blob in namespace `name`.
[[nodiscard]] inline std::string static_blob_header(const StoredWeights& w,
                                                    const StaticBlobs& blobs,
                                                    const std::string& name) {
  const Dimensions& d = w.dimensions();
  std::string out =
      "// Written by `rwkv export`. Do not edit.\n#pragma once\n\n#include "
      "<rwkv/static_blob.hpp>\n\nnamespace " +
      name + " {\n\nusing Shape = rwkv::Shape<";
  const std::size_t dims[] = {d.layers,     d.embed,    d.head_size,  d.ffn,      d.vocab,
                              d.decay_rank, d.icl_rank, d.value_rank, d.gate_rank};
  for (std::size_t i = 0; i < std::size(dims); ++i)
    out += (i ? ", " : "") + std::to_string(dims[i]);
  if (d.deep_rank > 0) out += ", " + std::to_string(d.deep_rank);
  out += ">;\nusing Weights = rwkv::StaticBlob<Shape";
  for (const DType type : blobs.types) out += ", rwkv::DType::" + std::string(name_of(type));
  out += ">;\ninline constexpr std::uint64_t fingerprint = " + std::to_string(w.fingerprint()) +
         "u;\n\n}  // namespace " + name + "\n";
  return out;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
