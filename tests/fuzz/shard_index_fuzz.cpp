// SPDX-License-Identifier: Apache-2.0
// The index of a model in several files: whatever it says, it names files beside it.
#include "reader.hpp"
#include <rwkv/io/shards.hpp>

#include <stdexcept>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    for (const auto& [tensor, file] : rwkv::io::detail::read_shard_index(bytes, "file"))
      if (file.empty() || file == ".." || file.find_first_of("/\\") != std::string::npos)
        throw std::logic_error("a file elsewhere: " + file);
    return rwkv::io::Checkpoint{};
  });
}
