// SPDX-License-Identifier: Apache-2.0
// Says which lines match a regular expression that a model was compiled from: dates like
// 2024-02-29. "?" asks what the last line took.
//
//   rwkv export examples/models/automata/date.safetensors --format blob --name date --out date.hpp
#include "board.hpp"
#include "date.hpp"
#include <rwkv/automata/static_recogniser.hpp>

extern "C" const std::byte date_blob[], date_blob_end[];  // weights.cpp

namespace {

constinit rwkv::State<date::Shape> state;
constinit rwkv::Workspace<date::Shape, 1> work;
constinit char line[128];
static_assert(sizeof state + sizeof work + sizeof line <= 24 * 1024);

}  // namespace

int main() {
  const char* why = nullptr;
  const auto weights = date::Weights::from(RWKV_EMBEDDED(date_blob), &why);
  if (!weights) {
    board::write(why);
    return 1;
  }
  const rwkv::StaticModel model(*weights);
  const rwkv::automata::StaticRecogniser recogniser(model, date::spelling);
  board::Stopwatch watch;
  std::size_t tokens = 0;
  for (std::string_view text; board::read_line(line, text) && !text.empty();) {
    if (text == "?") {
      board::report(watch, tokens, std::as_bytes(state.values()));
      continue;
    }
    watch.start();
    recogniser.reset(state, work, watch);
    const bool fine = recogniser.feed(text, state, work, watch);
    tokens = recogniser.tokens_of(text);
    board::write(text);
    board::write(!fine                         ? ": not in the alphabet\n"
                 : recogniser.label(work) == 1 ? ": yes\n"
                                               : ": no\n");
  }
  return 0;
}
