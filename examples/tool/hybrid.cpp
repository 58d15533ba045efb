// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"

#include <nlohmann/json.hpp>

namespace tool {

rwkv::HybridConfig hybrid_config(const rwkv::io::Checkpoint& checkpoint, const Hybrid& given) {
  rwkv::HybridConfig config = rwkv::io::hybrid_config_of(checkpoint);
  if (given.semantics.empty() && given.config.empty()) return config;
  if (rwkv::io::sparse_blocks_of(checkpoint) == 0)
    rwkv::fail_with(
        rwkv::ErrorCategory::argument, checkpoint.source,
        ": --hybrid-semantics and --hybrid-config are for RWKV-X models; this one has no "
        "sparse-attention blocks");
  if (!given.config.empty()) {
    const auto json = nlohmann::json::parse(given.config, nullptr, false);
    if (!json.is_object())
      rwkv::fail_with(rwkv::ErrorCategory::argument, "--hybrid-config: \"",
                      given.config.substr(0, 60), "\" is no JSON object");
    for (const auto& [key, value] : json.items())
      config.set(key, value.is_string() ? value.get<std::string>() : value.dump(),
                 "--hybrid-config");
  }
  if (!given.semantics.empty()) config.set("semantics", given.semantics, "--hybrid-semantics");
  return config;
}

}  // namespace tool
