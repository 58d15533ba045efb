// SPDX-License-Identifier: Apache-2.0
#include "reader.hpp"
#include <rwkv/io/read.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz::run(data, size, [](auto bytes) { return rwkv::io::read_checkpoint(bytes, "file"); });
}
