// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"

namespace tool {

void run(const Tokenize& options) {
  const auto tokenizer = [&] {
    if (!options.vocab.empty()) return rwkv::Tokenizer::from_vocab_file(options.vocab);
    return rwkv::Tokenizer::from_checkpoint(rwkv::io::read_checkpoint(options.model));
  }();
  const std::string input = read_all("-");
  std::string out;
  if (options.decode) {
    out = tokenizer.decode(parse_tokens(input, "standard input"));
  } else {
    for (const rwkv::Token token : tokenizer.encode(input)) {
      if (!out.empty()) out += ' ';
      out += std::to_string(token);
    }
    out += '\n';
  }
  print(out);
}

}  // namespace tool
