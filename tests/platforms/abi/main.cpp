// SPDX-License-Identifier: Apache-2.0
// Built with other -m flags than other.cpp: types are the same, kernels are not.
#include "shared.hpp"

#include <array>
#include <cstdio>
#include <cstring>

#define RWKV_TEXT_OF(name) #name
#define RWKV_TEXT(name) RWKV_TEXT_OF(name)

int main() {
  try {
    other::fail();
    std::puts("nothing was thrown");
    return 1;
  } catch (const rwkv::Error& error) {
    if (error.category() != rwkv::ErrorCategory::format) return 2;
  }
  if (other::read(rwkv::Tokenizer::bytes(), "ab") != std::vector<rwkv::Token>{'a', 'b'}) return 3;

  const std::array<float, 2> numbers{3, 4};
  rwkv::io::Checkpoint checkpoint;
  checkpoint.tensors["x"] = {rwkv::DType::f32, {2}, {1}, std::as_bytes(std::span(numbers))};
  rwkv::State<> state(rwkv::DynamicShape({.layers = 1, .embed = 2, .head_size = 2}));
  other::change(checkpoint, state);
  if (state.att_x_prev(0)[1] != 8) return 4;

  if (std::strcmp(other::instructions(), RWKV_TEXT(RWKV_ISA)) == 0) {
    std::puts("both files name their kernels alike; were they built with different flags?");
    return 5;
  }
  std::puts("errors, tokenizers, checkpoints and states cross object files; kernels do not");
  return 0;
}
