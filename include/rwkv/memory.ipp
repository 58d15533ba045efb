// SPDX-License-Identifier: Apache-2.0
// The definition of memory.hpp.
#pragma once

#include <rwkv/hybrid_state.hpp>
#include <rwkv/hybrid_workspace.hpp>
#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/memory.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION MemoryNeeded memory_needed(const io::Checkpoint& checkpoint,
                                         const LoadOptions& options, const MemoryPlan& plan) {
  const io::WeightSizes w = io::StoredWeights::sizes(checkpoint, options, io::Architecture::hybrid);
  MemoryNeeded needed{.weights = w.bytes,
                      .in_place = w.in_place,
                      .bytes_per_token = w.bytes_per_token,
                      .parameters = w.parameters,
                      .allocated = w.allocated,
                      .sequences = plan.sequences,
                      .workspaces = plan.workspaces};
  const Dimensions d = io::dimensions_of(checkpoint);
  if (const std::size_t sparse = io::sparse_blocks_of(checkpoint); sparse > 0) {
    const HybridShape shape(d, sparse, w.sparse_ffn, io::hybrid_config_of(checkpoint),
                            checkpoint.source);
    needed.state = HybridState::bytes_for(shape, plan.tokens);
    needed.workspace = HybridWorkspace::bytes_for(shape, plan.rows);
  } else {
    needed.state = State<>::bytes_for(DynamicShape(d));
    needed.workspace = Workspace<>::bytes_for(DynamicShape(d), plan.rows);
  }
  return needed;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
