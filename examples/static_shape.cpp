// SPDX-License-Identifier: Apache-2.0
// Constant dimensions: the model of models/tiny, which reverses strings of up to eight digits, as a
// constant of the program. No file is read, nothing is allocated; sizeof is all the memory there
// is. The build writes tiny_weights.hpp with `rwkv export`; firmware does the same, without the
// printf.
//
//   static_shape DIGITS
#include "tiny_weights.hpp"
#include <rwkv/static_model.hpp>

#include <cstdio>

constexpr rwkv::StaticModel model(tiny::weights);
static rwkv::State<tiny::Shape> state;
static rwkv::Workspace<tiny::Shape, 1> work;  // one row: a token at a time

static_assert(sizeof(state) + sizeof(work) < 16 * 1024);

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: static_shape DIGITS\n", stderr);
    return 2;
  }
  const auto feed = [](rwkv::Token token) {
    return model.forward(state, std::span(&token, 1), work);
  };
  for (const char* c = argv[1]; *c != '\0'; ++c) {
    if (*c < '0' || *c > '9') {
      std::fprintf(stderr, "error: \"%c\" is not a digit\n", *c);
      return 1;
    }
    feed(static_cast<rwkv::Token>(*c - '0'));  // tokens 0 ... 9 are the digits
  }
  constexpr rwkv::Token equals = 10;
  constexpr rwkv::Token end = 11;
  rwkv::Token token = rwkv::argmax(feed(equals));
  for (int digits = 0; token != end && digits < 100; ++digits) {
    std::putchar('0' + static_cast<char>(token));
    token = rwkv::argmax(feed(token));
  }
  std::printf("\n%zu bytes of weights, %zu of state, %zu of workspace\n", sizeof(tiny::weights),
              sizeof(state), sizeof(work));
}
