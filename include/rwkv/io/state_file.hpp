// SPDX-License-Identifier: Apache-2.0
// States in files: safetensors with, per layer i and all F32,
//   blocks.<i>.att.x_prev [C] · blocks.<i>.att.wkv [H, N value, N key] · blocks.<i>.ffn.x_prev [C]
// Metadata carry the version of this layout and the fingerprint of the model the state belongs to.
// Files without metadata are accepted on the strength of their shapes. A file with only
// `blocks.<i>.att.time_state` [H, N value, N key], as state tuning writes it, is read too; its
// token-shift rows are zero.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/state.hpp>

#include <filesystem>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Writes the state to `path`, as a whole or not at all. `fingerprint` is that of the model
/// (StoredWeights::fingerprint); `notes` are further metadata. Throws Error (io).
RWKV_FUNCTION void save_state(const std::filesystem::path& path, const State<>& state,
                              std::uint64_t fingerprint, const Metadata& notes = {});

/// The state in a checkpoint that was read from a state file or a state-tuning file. Throws Error:
/// (shape) tensors of another model shape, (argument) a state made by another model, (unsupported)
/// a later version, (numeric) NaN.
[[nodiscard]] RWKV_FUNCTION State<> state_from(const Checkpoint& c, const DynamicShape& shape,
                                               std::uint64_t fingerprint);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/state_file.ipp>
#endif
