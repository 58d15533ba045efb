// SPDX-License-Identifier: Apache-2.0
// Reverses digits: "12345" is answered with "54321". "?" asks what the last answer took.
//
//   rwkv export examples/models/reverse/reverse.safetensors --type q8_0 --format blob
//       --order quads --name reverse --out reverse.hpp --vocabulary reverse.vocabulary
#include "reverse.hpp"

#include "board.hpp"
#include <rwkv/static_fixed_state.hpp>
#include <rwkv/static_generate.hpp>

extern "C" const std::byte reverse_blob[], reverse_blob_end[];  // weights.cpp
extern "C" const std::byte reverse_vocabulary[], reverse_vocabulary_end[];

namespace {

#ifdef REVERSE_FIXED  // everything in integers
constinit rwkv::FixedState<reverse::Shape> state;
constinit rwkv::FixedWorkspace<reverse::Shape> work;
#else
constinit rwkv::State<reverse::Shape> state;
constinit rwkv::Workspace<reverse::Shape, 1> work;
#endif
constinit rwkv::GreedySampler sampler;
constinit char line[64];
static_assert(sizeof state + sizeof work + sizeof sampler + sizeof line <= 12 * 1024,
              "4 KB of 16 are left for the stack");

}  // namespace

int main() {
  const char* why = nullptr;
  const auto weights = reverse::Weights::from(RWKV_EMBEDDED(reverse_blob), &why);
  const auto tokenizer = rwkv::StaticTokenizer::from(RWKV_EMBEDDED(reverse_vocabulary), &why);
  if (!weights || !tokenizer) {
    board::write(why);
    return 1;
  }
  const rwkv::StaticModel model(*weights);
  board::Stopwatch watch;
  std::size_t tokens = 0;
  for (std::string_view digits; board::read_line(line, digits) && !digits.empty();) {
    if (digits == "?") {
      board::report(watch, tokens, std::as_bytes(state.values()));
      continue;
    }
    const std::size_t count = digits.size();
    if (count == sizeof line) continue;  // no room for the question
    line[count] = '=';
    state.reset();
    watch.start();
    const auto result = rwkv::generate(
        model, state, work, *tokenizer, {line, count + 1}, sampler, {.max_tokens = count + 1},
        [](std::string_view text) { board::write(text); }, watch);
    tokens = result.prompt_tokens + result.tokens;
    if (result.problem != nullptr) board::write(result.problem);
    board::write("\n");
  }
  return 0;
}
