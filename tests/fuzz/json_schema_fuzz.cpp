// SPDX-License-Identifier: Apache-2.0
// The first byte chooses the options, and whether it is a schema or a list of tools.
#include "grammar.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz::compile_and_write(data, size, [](std::string_view text) {
    const unsigned how = text.empty() ? 0u : static_cast<unsigned char>(text[0]);
    if (!text.empty()) text.remove_prefix(1);
    rwkv::JsonOptions options;
    options.whitespace = how & 1 ? 0 : 3;
    options.ordered = (how & 2) != 0;
    options.formats = (how & 4) != 0;
    options.spelling = static_cast<rwkv::JsonSpelling>((how >> 3) % 3);
    if ((how & 128) != 0) return rwkv::Grammar::from_tools(text, options, "file");
    return rwkv::Grammar::from_json_schema(text, options, "file");
  });
}
