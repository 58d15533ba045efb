// SPDX-License-Identifier: Apache-2.0
// A config.json beside a small model: it is refused with a sentence, or the model runs as it says.
#include "../support/format_writers.hpp"
#include <rwkv/io/model_config.hpp>
#include <rwkv/io/names.hpp>
#include <rwkv/io/stored_weights.hpp>

#include <stdexcept>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const test::Bytes official = test::to_safetensors(test::sample_model());
  static const test::Bytes fla =
      test::to_safetensors(test::with_fla_names(test::sample_model(), false));
  try {
    const auto config = rwkv::io::read_model_config(std::as_bytes(std::span(data, size)), "file");
    for (const test::Bytes* bytes : {&official, &fla}) {
      auto checkpoint = rwkv::io::read_safetensors(*bytes, "file");
      checkpoint.metadata.insert(config.begin(), config.end());
      const rwkv::io::StoredWeights weights(rwkv::io::to_official_names(std::move(checkpoint)));
      const auto& norms = weights.norms();
      if (!(norms.layer_norm_epsilon > 0) || !(norms.group_norm_epsilon > 0) ||
          norms.normalised_table)
        throw std::logic_error("settings that nobody can have stated");
    }
  } catch (const rwkv::Error& error) {
    if (!std::string_view(error.what()).starts_with("file: "))
      throw std::logic_error("a sentence without the file");
  }
  return 0;
}
