// SPDX-License-Identifier: Apache-2.0
// A small random RWKV-X model as a checkpoint under official names, with attention that is neither
// flat nor decided by one key.
#pragma once

#include "support/sample_checkpoint.hpp"

namespace test {

inline const SampleSizes hybrid_sizes{
    .layers = 3, .embed = 128, .head_size = 32, .ffn = 96, .vocab = 40};

/// Tensors of sparse blocks 0 ... count - 1, behind the names' "moba.".
[[nodiscard]] inline std::vector<SampleTensor> sample_sparse_blocks(std::size_t count,
                                                                    std::size_t embed,
                                                                    std::size_t ffn,
                                                                    unsigned seed = 7) {
  std::mt19937 random(seed);
  std::vector<SampleTensor> blocks;
  const auto add = [&](const std::string& name, std::vector<std::size_t> shape, float middle,
                       float spread) {
    SampleTensor t{name, std::move(shape), {}};
    std::size_t n = 1;
    for (const std::size_t d : t.shape) n *= d;
    for (std::size_t i = 0; i < n; ++i)
      t.values.push_back(middle + spread * (static_cast<float>(random() % 2001) / 1000 - 1));
    blocks.push_back(std::move(t));
  };
  for (std::size_t j = 0; j < count; ++j) {
    const std::string block = "moba." + std::to_string(j) + '.';
    for (const char* norm : {"ln1", "ln2"}) {
      add(block + norm + ".weight", {embed}, 1.0f, 0.3f);
      add(block + norm + ".bias", {embed}, 0.0f, 0.3f);
    }
    for (const char* name : {"receptance", "key", "value", "output"})
      add(block + "att." + name + ".weight", {embed, embed}, 0.0f, 0.2f);
    add(block + "ffn.x_k", {1, 1, embed}, 0.5f, 0.5f);
    add(block + "ffn.key.weight", {ffn, embed}, 0.0f, 0.1f);
    add(block + "ffn.value.weight", {embed, ffn}, 0.0f, 0.1f);
  }
  return blocks;
}

[[nodiscard]] inline rwkv::io::Checkpoint sample_hybrid(std::size_t sparse_blocks = 2,
                                                        const SampleSizes& sizes = hybrid_sizes,
                                                        std::size_t sparse_ffn = 160) {
  rwkv::io::Checkpoint c = sample_checkpoint(sizes);
  for (const SampleTensor& t : sample_sparse_blocks(sparse_blocks, sizes.embed, sparse_ffn))
    c.tensors[t.name] = tensor(t.shape, t.values, c.storage);
  return c;
}

}  // namespace test
