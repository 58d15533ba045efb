// SPDX-License-Identifier: Apache-2.0
// A random model whose matrices are of any type, blocks too.
#pragma once

#include "sample_checkpoint.hpp"
#include "temporary_directory.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/model.hpp>

namespace test {

/// Rows of whole blocks of every type.
inline constexpr SampleSizes wide_sample{.layers = 2,
                                         .embed = 256,
                                         .head_size = 64,
                                         .ffn = 512,
                                         .vocab = 40,
                                         .decay = 32,
                                         .icl = 32,
                                         .value = 32,
                                         .gate = 32};

/// A model with weights of `type`; its matrices are small enough for logits that leave a choice.
inline rwkv::Model<> model_of_type(rwkv::DType type, const SampleSizes& sizes = wide_sample,
                                   unsigned seed = 1) {
  rwkv::io::Checkpoint checkpoint;
  checkpoint.source = "sample";
  for (SampleTensor& sample : sample_model(sizes, seed)) {
    if (sample.values.size() > 4 * sizes.embed)
      for (float& value : sample.values) value *= sample.name == "head.weight" ? 0.25f : 0.0625f;
    checkpoint.tensors[sample.name] = tensor(sample.shape, sample.values, checkpoint.storage);
  }
  const TemporaryDirectory directory;
  rwkv::convert(checkpoint, directory / "m.gguf", {.type = type, .self_test = false});
  return rwkv::Model<>(rwkv::io::read_checkpoint(directory / "m.gguf"));
}

}  // namespace test
