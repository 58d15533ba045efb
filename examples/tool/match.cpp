// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/automata.hpp>

namespace tool {

void run(const Match& options) {
  rwkv::automata::Recogniser model(rwkv::io::read_checkpoint(options.model));
  std::ifstream file;
  if (options.file != "-") file = open_file(options.file);
  std::istream& in = options.file == "-" ? std::cin : file;
  for (std::string line; std::getline(in, line);) {
    model.reset();
    model.feed(line);
    if (model.accepted() && !print(line += '\n')) return;
  }
  if (in.bad()) rwkv::fail_with(rwkv::ErrorCategory::io, options.file, ": cannot be read");
}

}  // namespace tool
