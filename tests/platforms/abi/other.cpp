// SPDX-License-Identifier: Apache-2.0
#include "shared.hpp"

#define RWKV_TEXT_OF(name) #name
#define RWKV_TEXT(name) RWKV_TEXT_OF(name)

namespace other {

void fail() { (void)rwkv::Tokenizer::from_vocab_text("no vocabulary", "elsewhere"); }

std::vector<rwkv::Token> read(const rwkv::Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text);
}

void change(const rwkv::io::Checkpoint& checkpoint, rwkv::State<>& state) {
  const auto values = checkpoint.get("x").values<float>();
  for (std::size_t i = 0; i < values.size(); ++i) state.att_x_prev(0)[i] = 2 * values[i];
}

const char* instructions() { return RWKV_TEXT(RWKV_ISA); }

}  // namespace other
