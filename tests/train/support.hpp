// SPDX-License-Identifier: Apache-2.0
// What the training tests share.
#pragma once

#include <rwkv/train/model_file.hpp>

#include <fstream>
#include <iterator>
#include <string>

namespace test {

/// A safetensors file in memory.
inline rwkv::io::Checkpoint read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  auto bytes = std::make_shared<std::vector<char>>(std::istreambuf_iterator<char>(in),
                                                   std::istreambuf_iterator<char>());
  auto checkpoint = rwkv::io::read_safetensors(std::as_bytes(std::span(*bytes)), path);
  checkpoint.storage.push_back(bytes);
  return checkpoint;
}

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

}  // namespace test
