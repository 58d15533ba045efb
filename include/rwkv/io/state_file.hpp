// SPDX-License-Identifier: Apache-2.0
// States in files, and as the bytes of such files. This library writes safetensors with, per layer i and all F32,
//   blocks.<i>.att.x_prev [C] · blocks.<i>.att.wkv [H, N value, N key] · blocks.<i>.ffn.x_prev [C]
// whose metadata carry the version of this layout and the fingerprint of the model the state
// belongs to. Files without metadata are accepted on the strength of their shapes. Also read are
//   tuned states      only `blocks.<i>.att.time_state` [H, N value, N key], behind any prefix;
//                     web-rwkv's have [H, N key, N value] (see StateOptions). The token-shift rows
//                     are zero
//   ChatRWKV's lists  tensors 0, 1, 2, ... 3 L - 1: per layer, the row of the time mix [C], the
//                     matrices [H, N value, N key], the row of the channel mix [C]
//   rwkv.cpp's        nothing but float32: per layer the row of the channel mix, that of the time
//                     mix, and [H, N value, N key]
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/state.hpp>

#if !defined(RWKV_NO_FILES)
#include <filesystem>
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// How a state file that this library did not write is to be read.
struct StateOptions {
  /// Whether the matrices are [H, N key, N value], as web-rwkv has them. Unset: a tuned state is if
  /// its file is safetensors called *.st, which web-rwkv's converter writes. Nothing in the numbers
  /// tells.
  std::optional<bool> transposed = {};
};

/// The bytes of the file of a state: what `save_state` writes. `fingerprint` is that of the model
/// (StoredWeights::fingerprint); `notes` are further metadata. Throws Error (numeric) for a state
/// with numbers that are not finite, which could not be read again.
[[nodiscard]] RWKV_FUNCTION std::vector<std::byte> state_to_bytes(const State<>& state,
                                                                  std::uint64_t fingerprint,
                                                                  const Metadata& notes = {});

/// The state in a checkpoint that was read from a file of tensors. Throws Error: (shape) tensors of
/// another model shape, (argument) a state made by another model, or options for a state that this
/// library wrote, (unsupported) a later version, (numeric) NaN.
[[nodiscard]] RWKV_FUNCTION State<> state_from(const Checkpoint& c, const DynamicShape& shape,
                                               std::uint64_t fingerprint,
                                               const StateOptions& options = {});

/// The state in the bytes of a file of any of these kinds, which `source` names in messages. Throws
/// Error as above, and (format).
[[nodiscard]] RWKV_FUNCTION State<> state_from_bytes(std::span<const std::byte> bytes,
                                                     const DynamicShape& shape,
                                                     std::uint64_t fingerprint,
                                                     const StateOptions& options,
                                                     const std::string& source);

#if !defined(RWKV_NO_FILES)
/// Writes the state to `path`, as a whole or not at all. Throws Error (io), and (numeric) as above.
RWKV_FUNCTION void save_state(const std::filesystem::path& path, const State<>& state,
                              std::uint64_t fingerprint, const Metadata& notes = {});

/// The state in a file of any of these kinds. Throws Error as above, and (io, format).
[[nodiscard]] RWKV_FUNCTION State<> read_state(const std::filesystem::path& path,
                                               const DynamicShape& shape, std::uint64_t fingerprint,
                                               const StateOptions& options = {});
#endif

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/state_file.ipp>
#endif
