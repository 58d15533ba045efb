// SPDX-License-Identifier: Apache-2.0
// Checkpoints whose tensors are views of a mapped file.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/mapped_file.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// Makes `checkpoint` keep `file` open.
inline void keep_open(Checkpoint& checkpoint, std::shared_ptr<const MappedFile> file) {
  checkpoint.release = [file, others = std::move(checkpoint.release)](auto range) {
    file->release(range);
    if (others) others(range);
  };
  if (file->mapped())
    checkpoint.check = [file, others = std::move(checkpoint.check)] {
      file->check();
      if (others) others();
    };
  checkpoint.storage.push_back(std::move(file));
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
