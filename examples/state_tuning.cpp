// SPDX-License-Identifier: Apache-2.0
// Another voice for the same model: only the initial state is trained, on a few kilobytes of text;
// the weights stay as they are, and inference costs nothing more. The result is a small file that
// any program can start from.
//
//   state_tuning MODEL TEXT STATE.safetensors [PROMPT [STEPS]]    (a model of bytes, such as
//                                                                  models/tales)
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/model.hpp>
#include <rwkv/train.hpp>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::cerr << "usage: state_tuning MODEL TEXT STATE.safetensors [PROMPT [STEPS]]\n";
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto tokenizer = rwkv::Tokenizer::bytes();

  const std::uint64_t steps = argc > 5 ? std::strtoull(argv[5], nullptr, 10) : 150;
  rwkv::train::Trainer trainer(rwkv::train::read_parameters(rwkv::io::read_checkpoint(argv[1])),
                               rwkv::train::TextWindows(tokenizer.encode(text), 256, 1),
                               {.mode = rwkv::train::Mode::state,
                                .batch = 8,
                                .schedule = {.initial = 0.1, .final = 0.01, .steps = steps},
                                .optimizer = {.weight_decay = 0}});
  rwkv::ThreadPool pool;
  while (trainer.steps() < steps) {
    const auto report = trainer.step(pool);
    if (report.step % 25 == 0)
      std::cerr << "step " << report.step << "  loss " << report.loss << '\n';
  }
  trainer.write_state(argv[3]);

  // The same prompt, from the empty state and from the tuned one.
  const auto model = rwkv::load(argv[1]);
  rwkv::Workspace work(model.shape());
  const std::string prompt = argc > 4 ? argv[4] : "The ";
  for (const bool tuned : {false, true}) {
    rwkv::State state = tuned ? model.load_state(argv[3]) : model.initial_state();
    std::cout << (tuned ? "\n--- tuned\n" : "--- as it was\n") << prompt;
    rwkv::generate(
        model, state, work, tokenizer, prompt,
        {.max_tokens = 300, .sampler = {.temperature = 0.7f, .seed = 1}, .stop_tokens = {}},
        [](std::string_view piece) { std::cout << piece << std::flush; }, pool);
    std::cout << '\n';
  }
} catch (const rwkv::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
