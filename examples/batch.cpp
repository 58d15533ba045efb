// SPDX-License-Identifier: Apache-2.0
// Many sequences in one batch: prompts of different lengths are read together, then all sequences
// decode together, so that the weights are streamed once per step for all of them. Each result is
// what the sequence would get alone.
//
//   batch MODEL PROMPT...
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/model.hpp>
#include <rwkv/tokenizer.hpp>

#include <algorithm>
#include <iostream>

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::cerr << "usage: batch MODEL PROMPT...\n";
    return 2;
  }
  const auto checkpoint = rwkv::io::read_checkpoint(argv[1]);
  const rwkv::Model<> model(checkpoint);
  const auto tokenizer = rwkv::Tokenizer::from_checkpoint(checkpoint);
  rwkv::ThreadPool pool;
  rwkv::Workspace work(model.shape(), 256);

  const auto count = static_cast<std::size_t>(argc - 2);
  std::vector<rwkv::State<>> states(count, model.initial_state());
  std::vector<std::vector<rwkv::Token>> next(
      count);  // what each sequence appends in the coming step
  std::vector<std::string> texts(argv + 2, argv + argc);
  for (std::size_t s = 0; s < count; ++s) next[s] = tokenizer.encode(texts[s]);

  const std::size_t vocab = model.shape().vocab();
  std::vector<float> logits(count * vocab);
  std::vector<rwkv::Slot<>> slots(count);
  for (int step = 0; step < 60; ++step) {
    for (std::size_t s = 0; s < count; ++s) slots[s] = {&states[s], next[s]};
    model.forward(slots, rwkv::Logits::last, logits, work, pool);
    for (std::size_t s = 0; s < count; ++s) {
      const auto row = logits.begin() + static_cast<std::ptrdiff_t>(s * vocab);
      const auto best = std::max_element(row, row + static_cast<std::ptrdiff_t>(vocab));
      next[s] = {static_cast<rwkv::Token>(best - row)};
      texts[s] += tokenizer.decode(next[s]);
    }
  }
  for (const std::string& text : texts) std::cout << text << "\n\n";
} catch (const rwkv::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
