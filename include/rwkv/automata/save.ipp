// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/save.hpp.
#pragma once

#include <rwkv/automata/save.hpp>
#include <rwkv/io/safetensors_writer.hpp>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

RWKV_FUNCTION void save(const std::filesystem::path& path, const io::Checkpoint& checkpoint) {
  std::vector<io::NamedTensor> tensors;
  std::vector<std::vector<float>> gathered;  // of views
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (tensor.contiguous() && tensor.bytes.size() == bytes_of(tensor.dtype, tensor.size())) {
      tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
    } else {
      gathered.push_back(tensor.values<float>());
      tensors.push_back(io::named_tensor<float>(name, tensor.shape, gathered.back()));
    }
  }
  io::write_safetensors(path, tensors, checkpoint.metadata);
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
