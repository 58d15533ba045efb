// SPDX-License-Identifier: Apache-2.0
// The whole library where there is a C library (newlib) but no system: a model from memory. Only
// compiled, by the compiler for a Cortex-M.
#include <rwkv/generate.hpp>
#include <rwkv/model.hpp>

#include <cstdio>

extern "C" const std::byte model_file[], model_file_end[];

int main() {
  const rwkv::Model<> model(
      rwkv::io::read_checkpoint(std::span(model_file, model_file_end), "flash"));
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 1);
  rwkv::generate(model, state, work, rwkv::Tokenizer::bytes(), "Once", {.max_tokens = 5},
                 [](std::string_view piece) {
                   std::printf("%.*s", static_cast<int>(piece.size()), piece.data());
                 });
}
