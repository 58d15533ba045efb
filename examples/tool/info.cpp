// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"

#include <nlohmann/json.hpp>

namespace tool {

namespace {

template <class Model>
nlohmann::ordered_json describe(const rwkv::io::Checkpoint& checkpoint, const Model& model,
                                std::size_t state_bytes) {
  constexpr bool hybrid = std::is_same_v<Model, rwkv::HybridModel>;
  const auto& weights = model.weights();
  const rwkv::Dimensions d = weights.dimensions();
  std::map<std::string, std::size_t> types;
  for (const auto& [name, tensor] : checkpoint.tensors) ++types[std::string(name_of(tensor.dtype))];

  nlohmann::ordered_json j;
  j["architecture"] = hybrid ? "rwkvx" : "rwkv7";
  j["format"] = checkpoint.format;
  j["layers"] = d.layers;
  j["embed"] = d.embed;
  j["heads"] = d.embed / d.head_size;
  j["head_size"] = d.head_size;
  j["ffn"] = d.ffn;
  j["vocab"] = d.vocab;
  j["decay_rank"] = d.decay_rank;
  j["icl_rank"] = d.icl_rank;
  j["value_rank"] = d.value_rank;
  j["gate_rank"] = d.gate_rank;
  if constexpr (hybrid) {
    j["sparse_blocks"] = model.shape().sparse_blocks();
    j["sparse_ffn"] = model.shape().sparse_ffn();
    for (const auto& [key, value] : model.config().items()) j["hybrid"][key] = value;
  }
  j["eigenvalues"] = weights.eigenvalues() == rwkv::Eigenvalues::extended ? "extended" : "standard";
  j["tensors"] = checkpoint.tensors.size();
  j["dtypes"] = types;
  j["parameters"] = weights.parameters();
  j["weight_bytes"] = weights.bytes();
  j["weight_bytes_per_token"] = weights.bytes_per_token();
  j["state_bytes"] = state_bytes;
  j["vocabulary"] = checkpoint.vocabulary.has_value();
  return j;
}

}  // namespace

void run(const Info& options) {
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  rwkv::ThreadPool pool;
  nlohmann::ordered_json j;
  with_model(checkpoint, {}, pool, {}, [&](const auto& model, const auto& state, const auto&) {
    j = describe(checkpoint, model, state.bytes());
  });
  if (options.json) {
    std::cout << j.dump(2) << '\n';
    return;
  }
  for (const auto& [key, value] : j.items())
    std::printf("%-24s%s\n", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
}

}  // namespace tool
