// SPDX-License-Identifier: Apache-2.0
// Tells tales: each line that comes in is the beginning of one. "?" asks what the last one took.
#include "board.hpp"
#include "tales.hpp"  // rwkv export examples/models/tales/tales.safetensors --type q8_0
                      //   --format blob --name tales --out tales.hpp
#include <rwkv/static_generate.hpp>

RWKV_EMBED(tales_blob, "tales.bin");

#ifndef TALE_TOKENS
#define TALE_TOKENS 200
#endif

namespace {

// All the RAM there is beside the stack. Zeros but for the sampler: no constructor has to run.
constinit rwkv::State<tales::Shape> state;
constinit rwkv::Workspace<tales::Shape, 1> work;
constinit rwkv::StaticSampler<> sampler({.seed = 1});
constinit char line[128];
constexpr std::size_t ram = sizeof state + sizeof work + sizeof sampler + sizeof line;
static_assert(ram <= 160 * 1024);

}  // namespace

int main() {
  const char* why = nullptr;
  const auto weights = tales::Weights::from(RWKV_EMBEDDED(tales_blob), &why);
  if (!weights) {
    board::write(why);
    return 1;
  }
  const rwkv::StaticModel model(*weights);
  board::Stopwatch watch;
  std::size_t tokens = 0;
  for (std::string_view prompt; board::read_line(line, prompt) && !prompt.empty();) {
    if (prompt == "?") {
      board::report(watch, tokens, ram);
      continue;
    }
    board::write(prompt);
    state.reset();
    sampler = rwkv::StaticSampler<>({.seed = 1});
    watch.start();
    const auto result = rwkv::generate(
        model, state, work, rwkv::ByteTokenizer(), prompt, sampler,
        {.max_tokens = TALE_TOKENS, .leading_token = 0},
        [](std::string_view text) { board::write(text); }, watch);
    tokens = result.prompt_tokens + result.tokens;
    board::write(result.problem != nullptr ? result.problem : "\n");
  }
  return 0;
}
