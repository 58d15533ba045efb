// SPDX-License-Identifier: Apache-2.0
// A small random RWKV-7 model as named tensors, to be written in every format. All values are
// multiples of 1/64 below 2, which f16 and bf16 hold exactly, so every copy must read back equal.
#pragma once

#include <rwkv/io/checkpoint.hpp>

#include <functional>
#include <random>
#include <string>
#include <vector>

namespace test {

struct SampleTensor {
  std::string name;
  std::vector<std::size_t> shape;
  std::vector<float> values;
};

struct SampleSizes {
  std::size_t layers = 2, embed = 8, head_size = 4, ffn = 12, vocab = 10;
  std::size_t decay = 3, icl = 2, value = 5, gate = 7;
};

/// Official names and shapes; block 0 has no v0, v1, v2.
[[nodiscard]] inline std::vector<SampleTensor> sample_model(const SampleSizes& sizes = {},
                                                            unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<SampleTensor> model;
  const auto add = [&](const std::string& name, std::vector<std::size_t> shape) {
    SampleTensor tensor{name, std::move(shape), {}};
    std::size_t count = 1;
    for (const std::size_t d : tensor.shape) count *= d;
    for (std::size_t i = 0; i < count; ++i)
      tensor.values.push_back((static_cast<float>(random() % 255) - 127) / 64);
    model.push_back(std::move(tensor));
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {sizes.embed});
    add(name + ".bias", {sizes.embed});
  };
  const std::size_t c = sizes.embed;
  add("emb.weight", {sizes.vocab, c});
  for (std::size_t i = 0; i < sizes.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + '.';
    if (i == 0) norm(block + "ln0");
    norm(block + "ln1");
    norm(block + "ln2");
    for (const char x : {'r', 'w', 'k', 'v', 'a', 'g'}) add(block + "att.x_" + x, {1, 1, c});
    const auto low_rank = [&](char letter, std::size_t rank) {
      const std::string name = block + "att." + letter;
      if (letter != 'g') add(name + '0', {1, 1, c});
      add(name + '1', {c, rank});
      add(name + '2', {rank, c});
    };
    low_rank('w', sizes.decay);
    low_rank('a', sizes.icl);
    if (i > 0) low_rank('v', sizes.value);
    low_rank('g', sizes.gate);
    add(block + "att.k_k", {1, 1, c});
    add(block + "att.k_a", {1, 1, c});
    add(block + "att.r_k", {c / sizes.head_size, sizes.head_size});
    for (const char* name : {"receptance", "key", "value", "output"})
      add(block + "att." + name + ".weight", {c, c});
    norm(block + "att.ln_x");
    add(block + "ffn.x_k", {1, 1, c});
    add(block + "ffn.key.weight", {sizes.ffn, c});
    add(block + "ffn.value.weight", {c, sizes.ffn});
  }
  norm("ln_out");
  add("head.weight", {sizes.vocab, c});
  return model;
}

/// The tensor of that name; it must exist.
[[nodiscard]] inline const SampleTensor& find(const std::vector<SampleTensor>& model,
                                              const std::string& name) {
  for (const SampleTensor& tensor : model)
    if (tensor.name == name) return tensor;
  throw std::logic_error("no " + name + " in the sample");
}

/// A matrix with rows and columns exchanged.
[[nodiscard]] inline SampleTensor transposed(const SampleTensor& tensor) {
  const std::size_t rank = tensor.shape.size();
  const std::size_t rows = tensor.shape[rank - 2];
  const std::size_t cols = tensor.shape[rank - 1];
  SampleTensor out = tensor;
  std::swap(out.shape[rank - 2], out.shape[rank - 1]);
  for (std::size_t first = 0; first < tensor.values.size(); first += rows * cols)
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c)
        out.values[first + c * rows + r] = tensor.values[first + r * cols + c];
  return out;
}

/// True for "...att.w1" ... "...att.g2".
[[nodiscard]] inline bool low_rank(const std::string& name) {
  const std::size_t n = name.size();
  return n > 7 && name.compare(n - 7, 5, ".att.") == 0 &&
         (name[n - 1] == '1' || name[n - 1] == '2');
}

/// "" when both hold the same names, shapes and values; otherwise the first difference.
[[nodiscard]] inline std::string difference(const rwkv::io::Checkpoint& checkpoint,
                                            const std::vector<SampleTensor>& model) {
  for (const SampleTensor& expected : model) {
    const rwkv::io::Tensor* tensor = checkpoint.find(expected.name);
    if (tensor == nullptr) return expected.name + " is missing";
    if (tensor->shape != expected.shape)
      return expected.name + " has shape " + rwkv::io::to_string(tensor->shape);
    if (tensor->values() != expected.values) return expected.name + " has other values";
  }
  if (checkpoint.tensors.size() != model.size())
    return std::to_string(checkpoint.tensors.size()) + " tensors";
  return "";
}

}  // namespace test
