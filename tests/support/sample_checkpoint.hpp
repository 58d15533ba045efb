// SPDX-License-Identifier: Apache-2.0
// The sample model as a checkpoint in memory, ready to be spoilt.
#pragma once

#include "support/numbers.hpp"
#include "support/sample_model.hpp"
#include <rwkv/io/checkpoint.hpp>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace test {

/// A tensor in C order that keeps its bytes alive in `storage`.
template <class T>
rwkv::io::Tensor tensor(std::vector<std::size_t> shape, const std::vector<T>& values,
                        std::vector<std::shared_ptr<const void>>& storage) {
  auto bytes = std::make_shared<std::vector<T>>(values);
  rwkv::io::Tensor t{rwkv::dtype_of<T>, std::move(shape), {}, std::as_bytes(std::span(*bytes))};
  t.stride = rwkv::io::c_order(t.shape);
  storage.push_back(std::move(bytes));
  return t;
}

/// All tensors in elements of T (float, half or bfloat16).
template <class T = float>
rwkv::io::Checkpoint sample_checkpoint(const SampleSizes& sizes = {}, unsigned seed = 1) {
  rwkv::io::Checkpoint c;
  c.source = "sample";
  for (const SampleTensor& sample : sample_model(sizes, seed)) {
    std::vector<T> values;
    for (const float f : sample.values) values.push_back(narrow<T>(f));
    c.tensors[sample.name] = tensor(sample.shape, values, c.storage);
  }
  return c;
}

/// Replaces a tensor by one of another shape and other values.
template <class T>
void replace(rwkv::io::Checkpoint& c, const std::string& name, std::vector<std::size_t> shape,
             const std::vector<T>& values) {
  c.tensors[name] = tensor(std::move(shape), values, c.storage);
}

}  // namespace test
