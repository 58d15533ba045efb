// SPDX-License-Identifier: Apache-2.0
#include "grammar.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz::compile_and_write(
      data, size, [](std::string_view text) { return rwkv::Grammar::from_gbnf(text, "file"); });
}
