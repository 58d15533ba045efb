// SPDX-License-Identifier: Apache-2.0
// The headers without the library: what they include is found, and what they define is here.
#include <rwkv/simd/native.hpp>
#include <rwkv/tokenizer.hpp>

#include <cstdio>

int main() {
  static_assert(RWKV_HEADER_ONLY && rwkv::simd::Native::width > 0);
  const auto tokenizer = rwkv::Tokenizer::from_web_rwkv_json(R"({"1": "a", "2": "ab", "3": "b"})");
  const auto tokens = tokenizer.encode("abba");
  std::printf("abba -> %zu tokens\n", tokens.size());
  return tokens == std::vector<rwkv::Token>{2, 3, 1} ? 0 : 1;
}
