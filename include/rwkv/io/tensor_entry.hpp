// SPDX-License-Identifier: Apache-2.0
// A tensor as files have it: its shape, and its line in the directory of one that is being written.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/tensors.hpp>

#include <string>
#include <vector>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// The official shape of a tensor.
[[nodiscard]] inline std::vector<std::size_t> shape_of(const TensorSpec& spec,
                                                       const Dimensions& d) {
  std::vector<std::size_t> shape;
  for (std::size_t i = 0; i < spec.rank; ++i) shape.push_back(extent_of(spec.axes[i], d));
  return shape;
}

struct TensorEntry {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::size_t> shape;  ///< slowest dimension first; rows are whole blocks of dtype
};

/// Bytes of its data. The product of the dimensions must fit.
[[nodiscard]] inline std::size_t bytes_of(const TensorEntry& tensor) noexcept {
  std::size_t elements = 1;
  for (const std::size_t d : tensor.shape) elements *= d;
  return rwkv::bytes_of(tensor.dtype, elements);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
