// SPDX-License-Identifier: Apache-2.0
// A JSON file of settings, a line feed and a file of tensors are an adapter for the sample model,
// or they are refused; what is accepted is merged, and kept beside blocks.
#include "../support/sample_checkpoint.hpp"
#include <rwkv/adapter.hpp>
#include <rwkv/io/read.hpp>
#include <rwkv/io/stored_weights.hpp>
#include <rwkv/quant/quantise.hpp>

#include <cstdint>

namespace {

rwkv::io::Checkpoint base_model(bool blocks) {
  auto c = test::sample_checkpoint({.layers = 1, .embed = 32, .head_size = 32, .ffn = 32});
  if (!blocks) return c;
  rwkv::Serial serial;
  for (auto& [name, t] : c.tensors) {
    if (!name.ends_with(".weight") || t.shape.size() != 2 || name == "emb.weight") continue;
    auto coded = std::make_shared<std::vector<std::byte>>(
        rwkv::quant::quantise(t.values(), t.shape[0], t.shape[1], rwkv::DType::q8_0, {}, serial));
    t.dtype = rwkv::DType::q8_0;
    t.bytes = *coded;
    c.storage.push_back(std::move(coded));
  }
  return c;
}

/// Tables of DeepEmbed in two parts.
rwkv::io::Checkpoint deep_model() {
  auto c = base_model(false);
  const auto add = [&](const char* name, std::vector<std::size_t> shape) {
    test::replace(c, std::string("blocks.0.ffn.") + name, shape,
                  std::vector<float>(shape[0] * shape[1], 0.5f));
  };
  add("s_emb.weight", {10, 4});
  add("s_emb_x.weight", {4, 32});
  add("s1", {32, 2});
  add("s2", {2, 32});
  add("s0", {1, 32});
  return c;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const rwkv::io::Checkpoint models[] = {base_model(false), base_model(true), deep_model()};
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto newline = std::find(data, data + size, '\n') - data;
  const auto settings = bytes.first(static_cast<std::size_t>(newline));
  const auto tensors = bytes.subspan(std::min(size, settings.size() + 1));
  try {
    auto file = rwkv::io::read_checkpoint(tensors, "adapter");
    if (!settings.empty()) file.metadata.merge(rwkv::io::read_adapter_config(settings, "settings"));
    const std::vector adapters{rwkv::make_adapter(std::move(file), 0.5f)};
    for (const auto& model : models) try {
        rwkv::LoadOptions options;
        options.adapters = adapters;
        const rwkv::io::StoredWeights weights(model, options);
        (void)rwkv::with_adapters(model, adapters);
      } catch (const rwkv::Error&) {
      }
  } catch (const rwkv::Error&) {
  }
  return 0;
}
