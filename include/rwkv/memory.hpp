// SPDX-License-Identifier: Apache-2.0
// How much memory a model will take, before it is loaded.
//
//   const auto checkpoint = rwkv::io::read_checkpoint("model.gguf");  // reads names and shapes
//   if (rwkv::memory_needed(checkpoint).total() > there_is) return;
#pragma once

#include <rwkv/io/stored_weights.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// In bytes, exactly as the objects will report them.
struct MemoryNeeded {
  std::size_t weights = 0;   ///< StoredWeights::bytes
  std::size_t in_place = 0;  ///< of these: an embedding table that is used where it lies, in a file
                             ///< that is mapped or in the program's memory
  std::size_t bytes_per_token = 0;  ///< StoredWeights::bytes_per_token: what decoding reads
  std::size_t parameters = 0;       ///< numbers in the model
  std::size_t state = 0;      ///< State::bytes, per sequence; of a hybrid before its caches grow
  std::size_t workspace = 0;  ///< Workspace::bytes, per thread that runs the model

  /// For one sequence, without what is used in place.
  [[nodiscard]] std::size_t total() const noexcept {
    return weights - in_place + state + workspace;
  }
};

/// What the model in `checkpoint`, RWKV-7 or RWKV-X, will take when it is loaded with `options` and
/// run with a workspace of `rows` rows. Reads no element of any tensor, and checks their names,
/// shapes and types on the way. Throws Error as loading would.
[[nodiscard]] RWKV_FUNCTION MemoryNeeded memory_needed(const io::Checkpoint& checkpoint,
                                                       const LoadOptions& options = {},
                                                       std::size_t rows = 128);

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/memory.ipp>
#endif
