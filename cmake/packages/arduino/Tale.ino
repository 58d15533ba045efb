// SPDX-License-Identifier: Apache-2.0
// Tells a tale over the serial line, a byte at a time. model.hpp and model.bin:
//   rwkv export tales.safetensors --type q8_0 --format blob --name model --out model.hpp
// Core and board must compile C++20 (build.extra_flags=-std=gnu++20).
#include <rwkv_static.hpp>

#include "model.hpp"

RWKV_EMBED(model_blob, "model.bin");  // into flash; where the assembler does not find it: its full path

static rwkv::State<model::Shape> state;
static rwkv::Workspace<model::Shape, 1> work;
static const char* why = "";
static rwkv::Token token = '\n';

void setup() {
  Serial.begin(115200);
  if (!model::Weights::from(RWKV_EMBEDDED(model_blob), &why)) Serial.println(why);
}

void loop() {
  const auto weights = model::Weights::from(RWKV_EMBEDDED(model_blob), &why);
  if (!weights) return;
  const rwkv::StaticModel tales(*weights);
  token = rwkv::argmax(tales.forward(state, std::span<const rwkv::Token>(&token, 1), work));
  Serial.write(static_cast<char>(token));
}
