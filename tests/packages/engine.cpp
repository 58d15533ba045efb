// SPDX-License-Identifier: Apache-2.0
// engine MODEL TYPE: a greedy tale of the single header.
#include "rwkv.hpp"

#include <cstdio>
#include <cstring>

int main(int, char** argv) {
  rwkv::OpenOptions options;
  if (std::strlen(argv[2]) > 0) options.load = rwkv::quantised(*rwkv::type_named(argv[2]));
  // As the firmware's program is compiled: without FMA.
  rwkv::simd::use_level(rwkv::simd::Level::compiled);
  const rwkv::Opened tales = rwkv::open(argv[1], options);
  rwkv::AnyState state = tales.model.initial_state();
  rwkv::AnyWorkspace work = tales.model.workspace();
  rwkv::GenerateOptions how{.max_tokens = 40};
  how.sampler.temperature = how.sampler.presence_penalty = how.sampler.frequency_penalty = 0;
  how.stop_tokens.clear();
  const auto text = rwkv::generate(tales.model, state, work, tales.tokenizer(), "\n", how);
  std::fwrite(text.text.data(), 1, text.text.size(), stdout);
}
