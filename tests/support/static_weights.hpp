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
    const auto& [ln1, att, ln2, ffn] = from.block(i);
    auto& b = to->blocks[i];
    detail::copy(b.ln1, ln1);
    detail::copy(b.x_r, att.x_r);
    detail::copy(b.x_w, att.x_w);
    detail::copy(b.x_k, att.x_k);
    detail::copy(b.x_v, att.x_v);
    detail::copy(b.x_a, att.x_a);
    detail::copy(b.x_g, att.x_g);
    detail::copy(b.w0, att.w0);
    detail::copy(b.a0, att.a0);
    detail::copy(b.k_k, att.k_k);
    detail::copy(b.k_a, att.k_a);
    detail::copy(b.r_k, att.r_k);
    detail::copy(b.w1, att.w1);
    detail::copy(b.w2, att.w2);
    detail::copy(b.a1, att.a1);
    detail::copy(b.a2, att.a2);
    detail::copy(b.g1, att.g1);
    detail::copy(b.g2, att.g2);
    detail::copy(b.receptance, att.receptance);
    detail::copy(b.key, att.key);
    detail::copy(b.value, att.value);
    detail::copy(b.output, att.output);
    detail::copy(b.ln_x, att.ln_x);
    detail::copy(b.ln2, ln2);
    detail::copy(b.ffn_x_k, ffn.x_k);
    detail::copy(b.ffn_key, ffn.key);
    detail::copy(b.ffn_value, ffn.value);
    if (i == 0) continue;
    auto& v = to->residuals[i - 1];
    detail::copy(v.v0, att.v0);
    detail::copy(v.v1, att.v1);
    detail::copy(v.v2, att.v2);
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
