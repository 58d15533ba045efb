// SPDX-License-Identifier: Apache-2.0
// firmware < BLOB: the sketch of the Arduino library on a host, with a blob from standard input.
#include "model.hpp"
#include "rwkv_static.hpp"

#include <cstdio>

int main() {
  alignas(64) static std::byte blob[4 << 20];
  const std::size_t size = std::fread(blob, 1, sizeof blob, stdin);
  const char* why = nullptr;
  const auto weights = model::Weights::from(std::span<const std::byte>(blob, size), &why);
  if (!weights) {
    std::puts(why);
    return 1;
  }
  const rwkv::StaticModel tales(*weights);
  static rwkv::State<model::Shape> state;
  static rwkv::Workspace<model::Shape, 1> work;
  rwkv::Token token = '\n';
  for (int i = 0; i < 40; ++i) {
    token = rwkv::argmax(tales.forward(state, std::span<const rwkv::Token>(&token, 1), work));
    std::putchar(static_cast<int>(token));
  }
}
