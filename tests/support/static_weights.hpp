// SPDX-License-Identifier: Apache-2.0
// The constant object of a static model, filled at run time from a loaded model.
#pragma once

#include <rwkv/io/stored_weights.hpp>
#include <rwkv/static_model.hpp>

#include <cstring>
#include <memory>

namespace test {

namespace detail {

template <class T, std::size_t N>
void copy(T (&to)[N], const void* from) {
  std::memcpy(to, from, sizeof to);
}

template <class Norm>
void copy(Norm& to, const rwkv::NormWeights& from) {
  copy(to.weight, from.weight);
  copy(to.bias, from.bias);
}

template <class T, std::size_t N>
void copy(T (&to)[N], const rwkv::AnyMatrix& from) {
  RWKV_ASSERT(from.type == rwkv::dtype_of<T>);
  copy(to, from.data);
}

}  // namespace detail

/// The model must have Shape's dimensions and all its matrices and its table in elements of T.
template <class Shape, class T>
std::unique_ptr<rwkv::StaticWeights<Shape, T>> static_weights(const rwkv::io::StoredWeights& from) {
  RWKV_ASSERT(from.dimensions() == Shape{}.dimensions());
  auto to = std::make_unique<rwkv::StaticWeights<Shape, T>>();
  detail::copy(to->emb, from.emb().data);
  if (!from.norms().normalised_table) detail::copy(to->ln0, from.ln0());
  for (std::size_t i = 0; i < Shape{}.layers(); ++i) {
    const auto copy = [](const rwkv::TensorSpec&, auto& member, const auto& tensor) {
      detail::copy(member, tensor);
    };
    rwkv::for_each_block_tensor<false>(copy, to->blocks[i], from.block(i));
    if constexpr (Shape{}.deep_rank() > 0)
      rwkv::for_each_deep_embed_tensor(copy, to->blocks[i], from.block(i));
    if (i > 0) rwkv::for_each_value_residual_tensor(copy, to->residuals[i - 1], from.block(i));
  }
  detail::copy(to->ln_out, from.ln_out());
  detail::copy(to->head, from.head());
  to->eigenvalues = from.eigenvalues();
  to->layer_norm_epsilon = from.norms().layer_norm_epsilon;
  to->group_norm_epsilon = from.norms().group_norm_epsilon;
  to->normalised_table = from.norms().normalised_table;
  return to;
}

}  // namespace test
