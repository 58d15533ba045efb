// SPDX-License-Identifier: Apache-2.0
// Compiled automata as model files.
#pragma once

#include <rwkv/io/checkpoint.hpp>

#include <filesystem>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// Writes a compiled automaton as safetensors, as a whole or not at all. Tensors that are strided
/// views are written as f32. Throws Error (io).
RWKV_FUNCTION void save(const std::filesystem::path& path, const io::Checkpoint& checkpoint);

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/automata/save.ipp>
#endif
