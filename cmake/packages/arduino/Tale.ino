// SPDX-License-Identifier: Apache-2.0
// Tells a tale over the serial line, a byte at a time. model.hpp and model.bin:
//   rwkv export tales.safetensors --type q8_0 --format blob --name model --out model.hpp
// Core and board must compile C++20 (build.extra_flags=-std=gnu++20).
#include <rwkv_static.hpp>

#include "model.hpp"

RWKV_EMBED(model_blob, "model.bin");  // into flash; where the assembler does not find it: its full path

static rwkv::State<model::Shape> state;
static rwkv::Workspace<model::Shape, 1> work;
static rwkv::StaticSampler<> sampler({.temperature = 0.8f, .seed = 1});

void setup() { Serial.begin(115200); }

void loop() {
  const char* why = "";
  const auto weights = model::Weights::from(RWKV_EMBEDDED(model_blob), &why);
  if (!weights) {
    Serial.println(why);
    delay(1000);
    return;
  }
  const rwkv::StaticModel tales(*weights);
  state.reset();
  Serial.print("Once upon a time");
  const auto result = rwkv::generate(tales, state, work, rwkv::ByteTokenizer(), "Once upon a time",
                                     sampler, {.max_tokens = 400, .stop_tokens = {}},
                                     [](std::string_view piece) {
                                       for (const char c : piece) Serial.write(c);
                                     });
  Serial.println(result.problem == nullptr ? "" : result.problem);
}
