// SPDX-License-Identifier: Apache-2.0
#include <rwkv/model.hpp>

#include <algorithm>
#include <cstdio>

int main(int argc, char** argv) {
  static_assert(!RWKV_HEADER_ONLY, "the definitions are in the library");
  const auto model = rwkv::load(argc > 1 ? argv[1] : "golden_l2_c32_f32.model.safetensors");
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape());
  const rwkv::Token tokens[] = {19, 15, 6};
  const auto logits = model.forward(state, tokens, work);
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  std::printf("19 15 6 -> %td\n", best);
  return best == 35 ? 0 : 1;
}
