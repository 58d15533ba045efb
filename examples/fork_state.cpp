// SPDX-License-Identifier: Apache-2.0
// A state is a value: copy it to fork a text, assign it back to rewind, write it to a file to go on
// tomorrow. Its size is the same after ten tokens and after a million.
//
//   fork_state MODEL PROMPT STATE_FILE
#include <rwkv/generate.hpp>
#include <rwkv/model.hpp>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::cerr << "usage: fork_state MODEL PROMPT STATE_FILE\n";
    return 2;
  }
  const auto checkpoint = rwkv::io::read_checkpoint(argv[1]);
  const rwkv::Model<> model(checkpoint);
  const auto tokenizer = rwkv::Tokenizer::from_checkpoint(checkpoint);
  rwkv::Workspace work(model.shape());
  rwkv::State state = model.initial_state();

  // Read the prompt once, all but its last token ...
  const auto tokens = tokenizer.encode(argv[2]);
  const std::span<const rwkv::Token> prompt(tokens);
  if (prompt.size() > 1) model.forward(state, prompt.first(prompt.size() - 1), work);
  model.save_state(argv[3], state);
  std::cout << "read " << prompt.size() << " tokens into " << state.bytes() << " bytes\n";

  // ... and continue it three times from the same point, the last time from the file.
  const std::string last = tokenizer.decode(prompt.last(1));
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    rwkv::State fork = seed < 3 ? state : model.load_state(argv[3]);
    std::cout << "\n--- seed " << seed << "\n" << argv[2];
    rwkv::generate(model, fork, work, tokenizer, last,
                   {.max_tokens = 80, .sampler = {.seed = seed}},
                   [](std::string_view text) { std::cout << text << std::flush; });
    std::cout << '\n';
  }
} catch (const rwkv::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
