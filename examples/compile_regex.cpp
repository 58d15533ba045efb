// SPDX-License-Identifier: Apache-2.0
// compile_regex PATTERN [MODEL.safetensors]
// Prints the lines of the input that PATTERN describes from end to end. The work is done by an
// RWKV-7 model of one layer, compiled from the pattern, which never looks back; it can be saved.
#include <rwkv/automata.hpp>

#include <iostream>

namespace automata = rwkv::automata;

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: compile_regex PATTERN [MODEL.safetensors]\n";
    return 2;
  }
  try {
    const automata::Dfa dfa = automata::from_regex(argv[1]);
    const rwkv::io::Checkpoint checkpoint = automata::compile(dfa);
    if (argc > 2) automata::save(argv[2], checkpoint);
    automata::Recogniser model(checkpoint);
    std::cerr << dfa.states() << " states, " << dfa.symbols() << " classes of bytes -> "
              << model.model().weights().parameters() << " weights, "
              << model.model().shape().vocab() << " tokens, " << model.state().bytes()
              << " bytes of state\n";

    bool any = false;
    for (std::string line; std::getline(std::cin, line);) {
      model.reset();
      model.feed(line);
      if (!model.accepted()) continue;
      std::cout << line << '\n';
      any = true;
    }
    return any ? 0 : 1;
  } catch (const rwkv::Error& e) {
    std::cerr << "error: " << e.what() << '\n';
    return 2;
  }
}
