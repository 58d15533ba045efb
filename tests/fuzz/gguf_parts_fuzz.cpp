// SPDX-License-Identifier: Apache-2.0
// A GGUF model in two parts: the first two bytes say where the rest is cut.
#include "reader.hpp"
#include <rwkv/io/gguf.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t cut = data[0] + 256u * data[1];
  return fuzz::run(data + 2, size - 2, [cut](std::span<const std::byte> bytes) {
    const std::size_t first = std::min(cut, bytes.size());
    const rwkv::io::ModelPart parts[] = {{bytes.first(first), "file"},
                                         {bytes.subspan(first), "file"}};
    return rwkv::io::read_gguf(parts);
  });
}
