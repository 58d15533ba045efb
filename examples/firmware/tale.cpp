// SPDX-License-Identifier: Apache-2.0
// Tells tales: each line that comes in is the beginning of one. "#50" makes the next ones
// 50 tokens long, "?" asks what the last one took.
//
//   rwkv export examples/models/tales/tales.safetensors --type q8_0 --format blob
//       --order quads --name tales --out tales.hpp
#include "board.hpp"
#include "tales.hpp"
#include <rwkv/static_compact_state.hpp>
#include <rwkv/static_fixed_state.hpp>
#include <rwkv/static_generate.hpp>
#include <rwkv/static_memory.hpp>

extern "C" const std::byte tales_blob[], tales_blob_end[];  // weights.cpp

namespace {

#if defined(TALE_FIXED)  // everything in integers
using State = rwkv::FixedState<tales::Shape>;
using Workspace = rwkv::FixedWorkspace<tales::Shape>;
#elif defined(TALE_COMPACT)  // the state in 16 bits
using State = rwkv::CompactState<tales::Shape>;
using Workspace = rwkv::CompactWorkspace<tales::Shape>;
#else
using State = rwkv::State<tales::Shape>;
using Workspace = rwkv::Workspace<tales::Shape, 1>;
#endif

// All the RAM there is beside the stack. No constructor has to run.
constinit State state;
constinit Workspace work;
#ifdef TALE_GREEDY  // always the likeliest token
constinit rwkv::GreedySampler sampler;
#else
constinit rwkv::StaticSampler<> sampler({.seed = 1});
#endif
constinit char line[128];
constexpr auto memory = rwkv::static_memory<State, Workspace>();
static_assert(memory.total() + sizeof line <= 120 * 1024);

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
  std::size_t length = 200;
  for (std::string_view prompt; board::read_line(line, prompt) && !prompt.empty();) {
    if (prompt == "?") {
      board::report(watch, tokens, std::as_bytes(state.values()));
      continue;
    }
    if (prompt[0] == '#') {
      length = 0;
      for (const char digit : prompt.substr(1))
        length = length * 10 + static_cast<std::size_t>(digit - '0') % 10;
      continue;
    }
    board::write(prompt);
    state.reset();
#ifndef TALE_GREEDY
    sampler = rwkv::StaticSampler<>({.seed = 1});
#endif
    watch.start();
    const auto result = rwkv::generate(
        model, state, work, rwkv::ByteTokenizer(), prompt, sampler,
        {.max_tokens = length, .leading_token = 0},
        [](std::string_view text) { board::write(text); }, watch);
    tokens = result.prompt_tokens + result.tokens;
    board::write(result.problem != nullptr ? result.problem : "\n");
  }
  return 0;
}
