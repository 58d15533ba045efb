// SPDX-License-Identifier: Apache-2.0
#include <rwkv/tokenizer.hpp>

int main() {
  const auto tokens = rwkv::Tokenizer::bytes().encode("hello");
  return tokens.size() == 5 ? 0 : 1;
}
