// SPDX-License-Identifier: Apache-2.0
// The definition of memory.hpp.
#pragma once

#include <rwkv/hybrid_state.hpp>
#include <rwkv/hybrid_workspace.hpp>
#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/memory.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION MemoryNeeded memory_needed(const io::Checkpoint& checkpoint,
                                         const LoadOptions& options, std::size_t rows) {
  const io::WeightSizes w = io::StoredWeights::sizes(checkpoint, options, io::Architecture::hybrid);
  MemoryNeeded needed{w.bytes, w.in_place, w.bytes_per_token, w.parameters, 0, 0};
  const Dimensions d = io::dimensions_of(checkpoint);
  if (const std::size_t sparse = io::sparse_blocks_of(checkpoint); sparse > 0) {
    const HybridShape shape(d, sparse, w.sparse_ffn, io::hybrid_config_of(checkpoint),
                            checkpoint.source);
    needed.state = HybridState(shape).bytes();
    needed.workspace = HybridWorkspace::bytes_for(shape, rows);
  } else {
    needed.state = State<>::bytes_for(DynamicShape(d));
    needed.workspace = Workspace<>::bytes_for(DynamicShape(d), rows);
  }
  return needed;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
