// SPDX-License-Identifier: Apache-2.0
// A model whose weights are a constant array reads a text token by token and names the likeliest
// next token each time. Returns 0 if these, and the last logits, are what the float64 reference
// computed.
#include "board.hpp"
#include "golden.hpp"   // generated: tokens, argmax, last_logits
#include "weights.hpp"  // generated: Shape, weights

namespace {

constexpr rwkv::StaticModel model(firmware::weights);
rwkv::State<firmware::Shape> state;
rwkv::Workspace<firmware::Shape, 1> work;
static_assert(sizeof state + sizeof work < 32 * 1024, "all the memory a sequence needs");

void print(rwkv::Token token) {
  char digits[12];
  char* p = digits + sizeof digits;
  *--p = '\0';
  *--p = ' ';
  do *--p = static_cast<char>('0' + token % 10);
  while ((token /= 10) != 0);
  board::print(p);
}

}  // namespace

int main() {
  int mistakes = 0;
  std::span<const float> logits;
  for (std::size_t t = 0; t < std::size(firmware::tokens); ++t) {
    logits = model.forward(state, std::span(&firmware::tokens[t], 1), work);
    const rwkv::Token best = rwkv::argmax(logits);
    print(best);
    if (best != firmware::argmax[t]) ++mistakes;
  }
  board::print(mistakes == 0 ? "\nthe golden sequence\n" : "\nNOT the golden sequence\n");

  float error = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float difference = logits[i] - firmware::last_logits[i];
    const float magnitude = difference < 0 ? -difference : difference;
    if (!(magnitude <= error)) error = magnitude;
  }
  const bool close = error <= 1e-4F;
  board::print(close ? "logits within 1e-4\n" : "logits NOT within 1e-4\n");
  return mistakes == 0 && close ? 0 : 1;
}
