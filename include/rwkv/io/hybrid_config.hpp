// SPDX-License-Identifier: Apache-2.0
// The hyper-parameters of a hybrid model in its file: metadata `rwkv.hybrid.<key>`, which this
// library's files carry and published ones do not.
#pragma once

#include <rwkv/hybrid_shape.hpp>
#include <rwkv/io/checkpoint.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

inline constexpr std::string_view hybrid_metadata = "rwkv.hybrid.";

/// `config` with what the file says about itself. Throws Error (argument) for a key or value that
/// is not known.
[[nodiscard]] inline HybridConfig hybrid_config_of(const Checkpoint& c, HybridConfig config = {}) {
  for (auto it = c.metadata.lower_bound(hybrid_metadata);
       it != c.metadata.end() && it->first.starts_with(hybrid_metadata); ++it)
    config.set(std::string_view(it->first).substr(hybrid_metadata.size()), it->second,
               c.source + ": metadata");
  return config;
}

/// Adds the hyper-parameters to a file's metadata.
inline void add_hybrid_config(Metadata& metadata, const HybridConfig& config) {
  for (const auto& [key, value] : config.items())
    metadata[std::string(hybrid_metadata) + key] = value;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
