// SPDX-License-Identifier: Apache-2.0
// How much memory a model will take, before it is loaded.
//
//   const auto checkpoint = rwkv::io::read_checkpoint("model.gguf");  // reads names and shapes
//   if (rwkv::memory_needed(checkpoint).total() > there_is) return;
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/io/stored_weights.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// How a model will be run.
struct MemoryPlan {
  std::size_t rows = 128;      ///< of each workspace: tokens that are computed together
  std::size_t workspaces = 1;  ///< threads that run the model, each with its own sequences
  std::size_t sequences = 1;   ///< states
  /// What each state is ready to take without allocating (HybridState::reserve). RWKV-7's need
  /// nothing for it.
  std::size_t tokens = 0;
};

/// In bytes, exactly as the objects will report them; SIZE_MAX where it is more than that.
struct MemoryNeeded {
  std::size_t weights = 0;  ///< StoredWeights::bytes
  std::size_t in_place =
      0;  ///< of these: tables (the embedding's, DeepEmbed's) that are used where
          ///< they lie, in a file that is mapped or in the program's memory
  std::size_t bytes_per_token = 0;  ///< StoredWeights::bytes_per_token: what decoding reads
  std::size_t parameters = 0;       ///< numbers in the model
  std::size_t state = 0;      ///< State::bytes, per sequence; of a hybrid with the plan's tokens
  std::size_t workspace = 0;  ///< Workspace::bytes, per thread that runs the model
  /// The one allocation for the weights that are not used in place (LoadOptions::memory): these,
  /// and what aligns them to cache lines.
  std::size_t allocated = 0;
  std::size_t sequences = 1;   ///< the plan's
  std::size_t workspaces = 1;  ///< the plan's

  /// For all sequences and workspaces, without what is used in place.
  [[nodiscard]] std::size_t total() const noexcept {
    return sum_or_most(weights - in_place, sum_or_most(product_or_most(sequences, state),
                                                       product_or_most(workspaces, workspace)));
  }
};

/// What the model in `checkpoint`, RWKV-7 or RWKV-X, will take when it is loaded with `options` and
/// run as planned. Reads no element of any tensor, and checks their names, shapes and types on the
/// way. Throws Error as loading would.
[[nodiscard]] RWKV_FUNCTION MemoryNeeded memory_needed(const io::Checkpoint& checkpoint,
                                                       const LoadOptions& options,
                                                       const MemoryPlan& plan);

/// The same for one sequence and one workspace of `rows` rows.
[[nodiscard]] inline MemoryNeeded memory_needed(const io::Checkpoint& checkpoint,
                                                const LoadOptions& options = {},
                                                std::size_t rows = 128) {
  return memory_needed(checkpoint, options, MemoryPlan{.rows = rows});
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/memory.ipp>
#endif
