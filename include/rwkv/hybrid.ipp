// SPDX-License-Identifier: Apache-2.0
// The definitions of hybrid.hpp.
#pragma once

#include <rwkv/hybrid.hpp>
#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/sparse_block.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION HybridModel::HybridModel(const io::Checkpoint& checkpoint,
                                       const std::optional<HybridConfig>& config,
                                       const LoadOptions& options, ExecutorRef exec)
    : weights_(std::make_shared<const io::StoredWeights>(checkpoint, options, exec,
                                                         io::Architecture::hybrid)),
      shape_(weights_->dimensions(), weights_->sparse_blocks(), weights_->sparse_ffn(),
             config ? *config : io::hybrid_config_of(checkpoint), checkpoint.source) {}

RWKV_FUNCTION std::span<const float> HybridModel::forward(HybridState& state,
                                                          std::span<const Token> tokens,
                                                          HybridWorkspace& work,
                                                          ExecutorRef exec) const {
  const HybridSlot slot{&state, tokens};
  forward(std::span(&slot, 1), Logits::last, work.logits(), work, exec);
  return work.logits();
}

RWKV_FUNCTION void HybridModel::forward(std::span<const HybridSlot> slots, Logits which,
                                        const Outputs& out, HybridWorkspace& work,
                                        ExecutorRef exec) const {
  const io::StoredWeights& all = weights();
  detail::check_batch(shape_, slots, which, out, work);
  check_calls(slots, work.rows());
  all.check_file();
  for (const HybridSlot& slot : slots) slot.state->reserve(slot.tokens.size());
  detail::forward<simd::Chosen>(all, slots, which, out, work, exec, [&](const detail::Pass& pass) {
    // As many sparse blocks as fit: blocks left over do not run (see HybridShape::interval).
    const std::size_t interval = shape_.interval();
    const std::size_t sparse = shape_.sparse_blocks();
    for (std::size_t i = 0; i < (sparse == 0 ? 1 : sparse) * interval; ++i) {
      if (!exec.proceed()) return false;
      block<simd::Chosen>(all.block(i), all.eigenvalues(), i, pass, work, exec);
      if (sparse != 0 && (i + 1) % interval == 0)
        sparse_block<simd::Chosen>(all.sparse_block(i / interval), i / interval, pass, work, exec);
    }
    return true;
  });
}

RWKV_FUNCTION void HybridModel::check_calls(std::span<const HybridSlot> slots,
                                            std::size_t rows) const {
  if (config().semantics != HybridSemantics::package) return;
  std::size_t tokens = 0;
  for (const HybridSlot& slot : slots) tokens += slot.tokens.size();
  if (tokens > rows)
    fail_with(ErrorCategory::argument, "the package's semantics need all ", tokens,
              " tokens in one pass; the workspace has ", rows, " rows");
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
