// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/core/parse.hpp>

namespace tool {

std::vector<rwkv::Adapter> read_adapters(const std::vector<std::string>& named) {
  std::vector<rwkv::Adapter> adapters;
  for (const std::string& text : named) {
    std::string path = text;
    float scale = 1;
    // What is behind the last colon is a scale, unless the whole is the name of a file.
    std::error_code ignored;
    const auto colon = text.rfind(':');
    if (colon != std::string::npos && !std::filesystem::exists(text, ignored)) {
      const auto given = rwkv::internal::parse<float>(std::string_view(text).substr(colon + 1));
      if (!given)
        rwkv::fail_with(rwkv::ErrorCategory::argument, "--adapter ", text, ": \"",
                        text.substr(colon + 1), "\" is no scale (FILE:SCALE, as in lora.pth:0.5)");
      scale = *given;
      path.resize(colon);
    }
    adapters.push_back(rwkv::read_adapter(path, scale));
  }
  return adapters;
}

}  // namespace tool
