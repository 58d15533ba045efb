// SPDX-License-Identifier: Apache-2.0
// A model whose weights are a constant array, or a blob that is linked in, reads a text token by
// token and names the likeliest next token each time. Returns 0 if these, and the last logits, are
// what the float64 reference computed (or, of quantised models, the model on a computer).
#include "board.hpp"
#include "golden.hpp"   // generated: tokens, argmax, last_logits, tolerance
#include "weights.hpp"  // generated: Shape, and weights or Weights

namespace {

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

template <class Weights>
int run(const Weights& weights) {
  const rwkv::StaticModel model(weights);
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
  const bool close = error <= firmware::tolerance;
  board::print(close ? "logits as they should be\n" : "logits NOT as they should be\n");
  return mistakes == 0 && close ? 0 : 1;
}

}  // namespace

int main() {
#if defined(FIRMWARE_BLOB)
  const char* why = nullptr;
  const auto weights = firmware::Weights::from(RWKV_EMBEDDED(firmware_blob), &why);
  if (!weights) {
    board::print(why);
    return 1;
  }
  if (weights->fingerprint() != firmware::fingerprint || !weights->intact()) return 2;
  return run(*weights);
#else
  return run(firmware::weights);
#endif
}
