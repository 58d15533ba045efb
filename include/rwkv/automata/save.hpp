// SPDX-License-Identifier: Apache-2.0
// Compiled automata as model files.
#pragma once

#include <rwkv/io/safetensors_writer.hpp>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// Writes a compiled automaton as safetensors, as a whole or not at all. Throws Error (io).
inline void save(const std::filesystem::path& path, const io::Checkpoint& checkpoint) {
  std::vector<io::NamedTensor> tensors;
  for (const auto& [name, tensor] : checkpoint.tensors)
    tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
  io::write_safetensors(path, tensors, checkpoint.metadata);
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
