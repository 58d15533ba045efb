// SPDX-License-Identifier: Apache-2.0
// Hidden states: the vector that the head makes logits of, after the last token of each text, and
// how alike these vectors are. (A model that was trained to predict makes rough embeddings: enough
// to see that a text is like itself.)
//
//   embeddings MODEL TEXT...
#include <rwkv/any_model.hpp>

#include <cmath>
#include <cstdio>

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fputs("usage: embeddings MODEL TEXT...\n", stderr);
    return 2;
  }
  const rwkv::Opened opened = rwkv::open(argv[1]);
  const rwkv::AnyModel& model = opened.model;
  const std::size_t channels = model.shape().embed();

  // All texts in one batch, and no logits at all.
  const auto count = static_cast<std::size_t>(argc - 2);
  std::vector<rwkv::AnyState> states(count, model.initial_state());
  std::vector<std::vector<rwkv::Token>> tokens;
  std::vector<rwkv::AnySlot> slots;
  for (std::size_t i = 0; i < count; ++i) tokens.push_back(opened.tokenizer().encode(argv[i + 2]));
  for (std::size_t i = 0; i < count; ++i) slots.push_back({&states[i], tokens[i]});
  std::vector<float> hidden(count * channels);
  auto work = model.workspace();
  model.forward(slots, rwkv::Logits::last, {{}, hidden}, work);

  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = 0; b < count; ++b) {
      double ab = 0, aa = 0, bb = 0;
      for (std::size_t i = 0; i < channels; ++i) {
        const double x = hidden[a * channels + i], y = hidden[b * channels + i];
        ab += x * y;
        aa += x * x;
        bb += y * y;
      }
      std::printf("%6.3f ", ab / std::sqrt(aa * bb));
    }
    std::printf(" %s\n", argv[a + 2]);
  }
} catch (const rwkv::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
