// SPDX-License-Identifier: Apache-2.0
// Only names, shapes and metadata are read, however large the model is.
#include "common.hpp"
#include <rwkv/io/describe.hpp>
#include <rwkv/io/vocabulary_file.hpp>
#include <rwkv/memory.hpp>
#include <rwkv/text/chat_template.hpp>

#include <nlohmann/json.hpp>

#include <charconv>

namespace tool {

namespace {

using Json = nlohmann::ordered_json;

/// With the digits that tell it from other floats, and no more.
double shortest(float number) {
  char digits[32];
  const char* const end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  double value = 0;
  std::from_chars(digits, end, value);
  return value;
}

void add_dimensions(Json& j, const rwkv::io::Checkpoint& checkpoint) {
  const rwkv::Dimensions d = rwkv::io::dimensions_of(checkpoint);
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
  if (d.deep_rank > 0) j["deep_embed_rank"] = d.deep_rank;
  if (const std::size_t sparse = rwkv::io::sparse_blocks_of(checkpoint); sparse > 0) {
    j["sparse_blocks"] = sparse;
    j["sparse_ffn"] =
        rwkv::io::StoredWeights::sizes(checkpoint, {}, rwkv::io::Architecture::hybrid).sparse_ffn;
    for (const auto& [key, value] : rwkv::io::hybrid_config_of(checkpoint).items())
      j["hybrid"][key] = value;
  }
  const auto eigenvalues = checkpoint.metadata.find("rwkv.eigenvalues");
  j["eigenvalues"] = eigenvalues == checkpoint.metadata.end() ? "standard" : eigenvalues->second;
  const rwkv::io::NormSettings norms = rwkv::io::norm_settings_of(checkpoint);
  j["layer_norm_epsilon"] = shortest(norms.layer_norm_epsilon);
  j["group_norm_epsilon"] = shortest(norms.group_norm_epsilon);
}

void add_tensors(Json& j, const rwkv::io::Checkpoint& checkpoint) {
  std::map<std::string, std::size_t> types;
  for (const auto& [name, tensor] : checkpoint.tensors) ++types[std::string(name_of(tensor.dtype))];
  j["tensors"] = checkpoint.tensors.size();
  j["dtypes"] = types;
}

void add_memory(Json& j, const rwkv::io::Checkpoint& checkpoint) {
  const rwkv::MemoryNeeded memory = rwkv::memory_needed(checkpoint);
  j["parameters"] = memory.parameters;
  j["weight_bytes"] = memory.weights;
  j["weight_bytes_per_token"] = memory.bytes_per_token;
  j["mapped_bytes"] = memory.in_place;
  j["state_bytes"] = memory.state;
  j["workspace_bytes"] = memory.workspace;
  j["memory_bytes"] = memory.total();
}

void add_vocabulary(Json& j, const rwkv::io::Checkpoint& checkpoint) {
  j["vocabulary"] = false;
  try {
    const auto vocabulary = rwkv::io::vocabulary_of(checkpoint);
    if (!vocabulary) return;
    j["vocabulary"] = true;
    j["vocabulary_file"] = vocabulary->source;
    j["vocabulary_ids"] = rwkv::io::ids_in_use(vocabulary->tokens);
  } catch (const rwkv::Error& error) {
    j["vocabulary_problem"] = error.what();
  }
}

void add_chat_template(Json& j, const std::string& model, const rwkv::io::Checkpoint& checkpoint) {
  try {
    const auto choice = rwkv::chat::chat_template_of(model, checkpoint.metadata);
    if (choice.from.empty()) return;  // nothing is said
    j["chat_template"] = choice.recognised ? std::string(choice.form->name) : "unknown";
    j["chat_template_from"] = choice.from;
  } catch (const rwkv::Error& error) {
    j["chat_template_problem"] = error.what();
  }
}

void add_config(Json& j, const rwkv::io::Checkpoint& checkpoint) {
  constexpr std::string_view prefix = "config.";
  for (auto it = checkpoint.metadata.lower_bound(prefix);
       it != checkpoint.metadata.end() && it->first.starts_with(prefix); ++it)
    j["config"][it->first.substr(prefix.size())] = it->second;
}

/// What a file is that goes with a model; empty if it is something else.
std::string kind_of(const rwkv::io::Checkpoint& checkpoint) {
  if (checkpoint.find("blocks.0.att.r_k") != nullptr) return {};
  std::string kind = rwkv::io::describe(checkpoint);
  const bool known = kind.find("--adapter") != kind.npos || kind.find("--state-in") != kind.npos;
  return known ? kind : std::string();
}

}  // namespace

void run(const Info& options) {
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  Json j;
  if (const std::string kind = kind_of(checkpoint); !kind.empty()) {
    j["kind"] = kind;
    j["format"] = checkpoint.format;
    add_tensors(j, checkpoint);
  } else {
    j["architecture"] = rwkv::io::sparse_blocks_of(checkpoint) > 0 ? "rwkvx" : "rwkv7";
    j["format"] = checkpoint.format;
    add_dimensions(j, checkpoint);
    add_tensors(j, checkpoint);
    add_memory(j, checkpoint);
    add_vocabulary(j, checkpoint);
    add_chat_template(j, options.model, checkpoint);
    add_config(j, checkpoint);
  }
  if (options.json) {
    std::cout << j.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
    return;
  }
  for (const auto& [key, value] : j.items())
    std::printf("%-24s%s\n", key.c_str(),
                value.is_string()
                    ? value.get<std::string>().c_str()
                    : value.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
}

}  // namespace tool
