// SPDX-License-Identifier: Apache-2.0
// The shortest useful program: load a model, give it a text, print what it continues with.
//
//   hello MODEL [PROMPT] [VOCABULARY]
#include <rwkv/generate.hpp>
#include <rwkv/model.hpp>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: hello MODEL [PROMPT] [VOCABULARY]\n";
    return 2;
  }
  const auto checkpoint = rwkv::io::read_checkpoint(argv[1]);
  const rwkv::Model<> model(checkpoint);
  const auto tokenizer = argc > 3 ? rwkv::Tokenizer::from_vocab_file(argv[3])
                                  : rwkv::Tokenizer::from_checkpoint(checkpoint);
  rwkv::State state = model.initial_state();
  rwkv::Workspace work(model.shape());

  const std::string prompt = argc > 2 ? argv[2] : "Once upon a time";
  std::cout << prompt;
  rwkv::generate(model, state, work, tokenizer, prompt, {.max_tokens = 200},
                 [](std::string_view text) { std::cout << text << std::flush; });
  std::cout << '\n';
} catch (const rwkv::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
