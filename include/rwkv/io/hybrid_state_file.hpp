// SPDX-License-Identifier: Apache-2.0
// States of hybrid models in files: what state_file.hpp writes for the RWKV-7 blocks, metadata
// `rwkv.hybrid.<key>` with the hyper-parameters, and per sparse block j, all F32,
//   moba.<j>.k_cache [entries, C] · moba.<j>.v_cache [entries, C] · moba.<j>.ffn.x_prev [C]
// and, while the paper's observation window is open, moba.<j>.votes [heads, entries before it].
// Nothing is lost, whatever type the cache has.
#pragma once

#include <rwkv/hybrid_state.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/io/state_file.hpp>

#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// Keys and values of all entries, [entries][C] each.
[[nodiscard]] RWKV_FUNCTION std::pair<std::vector<float>, std::vector<float>> cache_values(
    const KvCache& cache);

}  // namespace detail

/// The bytes of the file of a state: what `save_state` writes.
[[nodiscard]] RWKV_FUNCTION std::vector<std::byte> state_to_bytes(const HybridState& state,
                                                                  std::uint64_t fingerprint,
                                                                  const Metadata& notes = {});

#if !defined(RWKV_NO_FILES)
/// Writes the state to `path`, as a whole or not at all. Throws Error (io).
RWKV_FUNCTION void save_state(const std::filesystem::path& path, const HybridState& state,
                              std::uint64_t fingerprint, const Metadata& notes = {});
#endif

/// The state in a checkpoint that was read from a state file. Throws Error: (shape) tensors of
/// another model shape, (argument) a state made by another model or with other hyper-parameters,
/// (unsupported) a later version, (numeric) NaN. A state of the RWKV-7 blocks alone, as state
/// tuning writes it, comes with empty caches.
[[nodiscard]] RWKV_FUNCTION HybridState hybrid_state_from(const Checkpoint& c,
                                                          const HybridShape& shape,
                                                          std::uint64_t fingerprint,
                                                          const StateOptions& options = {});

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/hybrid_state_file.ipp>
#endif
