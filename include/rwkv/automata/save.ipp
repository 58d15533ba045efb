// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/save.hpp.
#pragma once

#include <rwkv/automata/save.hpp>
#include <rwkv/io/safetensors_writer.hpp>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

RWKV_FUNCTION void save(const std::filesystem::path& path, const io::Checkpoint& checkpoint) {
  std::vector<io::NamedTensor> tensors;
  for (const auto& [name, tensor] : checkpoint.tensors)
    tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
  io::write_safetensors(path, tensors, checkpoint.metadata);
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
