// SPDX-License-Identifier: Apache-2.0
// What the training tests share.
#pragma once

#include <rwkv/train/model_file.hpp>
#include <rwkv/train/random.hpp>

#include <string>

namespace test {

/// Largest |a - b| divided by the largest |b|.
template <class A, class B>
double relative_error(const A& a, const B& b) {
  double difference = 0.0, largest = 0.0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference =
        std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return largest == 0.0 ? difference : difference / largest;
}

/// A model in which every tensor matters: unlike a freshly initialised one, none is zero.
inline rwkv::train::Parameters random_parameters(std::shared_ptr<const rwkv::train::Layout> layout,
                                                 std::uint64_t seed) {
  rwkv::train::Parameters p(std::move(layout));
  rwkv::train::Random random(seed);
  for (const rwkv::train::TensorInfo& t : p.layout().tensors()) {
    const bool weight = t.name.ends_with(".weight"), matrix = t.shape.size() == 2;
    const bool scale = (weight && !matrix) || t.name.ends_with(".k_k") || t.name.ends_with(".k_a");
    double deviation = 0.3;
    if (matrix && !t.name.ends_with(".r_k"))  // [out, in], but the low-rank maps are [in, out]
      deviation = 1.0 / std::sqrt(static_cast<double>(t.shape[weight ? 1 : 0]));
    if (t.name.find(".x_") != std::string::npos)
      for (float& x : p.values(t)) x = static_cast<float>(random.uniform());
    else
      for (float& x : p.values(t))
        x = static_cast<float>(deviation * random.normal() + (scale ? 0.9 : 0.0));
  }
  return p;
}

/// Tokens below `vocab`.
inline std::vector<rwkv::Token> random_tokens(std::size_t count, std::size_t vocab,
                                              rwkv::train::Random& random) {
  std::vector<rwkv::Token> tokens(count);
  for (rwkv::Token& t : tokens) t = static_cast<rwkv::Token>(random.below(vocab));
  return tokens;
}

}  // namespace test
