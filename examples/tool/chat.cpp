// SPDX-License-Identifier: Apache-2.0
// A conversation is a state. Before each turn the state is copied: undoing a turn is going back to
// the copy, asking for another answer is going back and sampling again. Nothing is ever read twice.
#include "common.hpp"
#include <rwkv/generate.hpp>
#include <rwkv/text/chat.hpp>

namespace tool {

namespace {

/// Where the conversation stood before a turn, and what the user said then.
struct Turn {
  rwkv::State<> before;
  std::string overrun;  // of the last answer: consumed by the state, but not shown
  std::string said;
};

}  // namespace

void run(const Chat& options) {
  rwkv::ThreadPool pool(options.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  const auto model = load(checkpoint, pool, load_options(options));
  const auto tokenizer = tokenizer_for(options.vocab, checkpoint, model.shape().vocab());
  const auto think = options.think == "on"     ? rwkv::chat::Think::open
                     : options.think == "fast" ? rwkv::chat::Think::skip
                                               : rwkv::chat::Think::unsaid;
  rwkv::Workspace work(model.shape());
  rwkv::GenerateOptions generate;
  generate.max_tokens = options.tokens;
  generate.any_vocabulary = !options.vocab.empty();  // there was a warning
  generate.sampler = sampler_options(options.sampling);
  generate.stop_strings = rwkv::chat::stop_strings();

  rwkv::State fresh(model.shape());
  if (!options.state_in.empty()) fresh = model.load_state(options.state_in);
  rwkv::State state = fresh;
  std::string overrun;
  std::vector<Turn> turns;

  const auto answer = [&] {
    generate.cancelled = cancelled_by_interrupt();
    const std::string text = std::string(turns.size() > 1 ? rwkv::chat::separator : "") +
                             rwkv::chat::turn(turns.back().said, think);
    const std::string prompt(rwkv::chat::remainder(text, overrun));
    // What the template began in the assistant's name belongs to the answer.
    const std::size_t begun = text.rfind("Assistant:") + std::string_view("Assistant:").size();
    print(std::string_view(text).substr(begun));
    const auto result =
        rwkv::generate(model, state, work, tokenizer, prompt, generate, print, pool);
    overrun = result.overrun;
    generate.sampler.seed += 1;  // another answer for another turn, the same for the same seed
    print("\n");
  };
  const auto rewind = [&] {
    state = turns.back().before;
    overrun = turns.back().overrun;
  };

  const bool terminal = isatty(STDIN_FILENO) == 1;
  for (std::string line; (terminal ? print("\nUser: ") : true) && std::getline(std::cin, line);) {
    if (line == "/quit") break;
    if (line == "/reset") {
      state = fresh;
      overrun.clear();
      turns.clear();
    } else if (line == "/undo" || line == "/regenerate") {
      if (turns.empty()) {
        std::fputs("there is no turn to go back to\n", stderr);
        continue;
      }
      rewind();
      if (line == "/undo")
        turns.pop_back();
      else
        answer();
    } else if (rwkv::chat::clean(line).empty()) {
      continue;
    } else {
      turns.push_back({state, overrun, line});
      answer();
    }
  }
}

}  // namespace tool
