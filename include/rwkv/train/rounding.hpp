// SPDX-License-Identifier: Apache-2.0
// Training for int8. A model converted to q8_0 multiplies rounded weights with rounded inputs; the
// forward pass can do the same, so that training makes up for it. Gradients pass through the
// rounding as if it were not there (the straight-through estimator), and those of inputs through
// the step as well: how far inputs are from what they are rounded to is in proportion to the
// largest of their block, which so learns not to be larger than it is worth (cf. learned step
// sizes, arXiv 1902.08153). Weights need no such thing: their rounding is the same for all inputs.
#pragma once

#include <rwkv/io/layout.hpp>
#include <rwkv/kernels/quantise_row.hpp>
#include <rwkv/quant/q8_0.hpp>
#include <rwkv/train/parameters.hpp>

#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// Rounds rows of a product's inputs as kernels/quantise_row.hpp does. Rows that are no whole
/// blocks meet 16-bit weights and stay as they are.
inline void round_inputs(Precision precision, float* x, std::size_t rows, std::size_t cols) {
  constexpr std::size_t n = kernels::tile_cols;
  if (precision == Precision::exact || cols % n != 0) return;
  alignas(alignment) std::byte memory[kernels::QuantisedActivations::bytes_for(n)];
  const kernels::QuantisedActivations one{memory, sizeof memory, n};
  for (float* const end = x + rows * cols; x < end; x += n) {
    kernels::compiled::row_to_codes(x, one, 0);
    for (std::size_t i = 0; i < n; ++i)
      x[i] = static_cast<float>(one.codes(0)[i]) * one.steps(0)[0];
  }
}

/// The backward pass: rounds x, and turns dx from the gradient of the rounded inputs q into that of
/// x. Of a block only the largest input x_m gets another one, through the step |x_m| / 127:
///   dx_m += sum_i dx_i (q_i - x_i) / x_m
inline void round_inputs_backward(Precision precision, float* x, float* dx, std::size_t rows,
                                  std::size_t cols) {
  constexpr std::size_t n = kernels::tile_cols;
  if (precision == Precision::exact || cols % n != 0) return;
  for (float* const end = x + rows * cols; x < end; x += n, dx += n) {
    float before[n];
    std::copy_n(x, n, before);
    round_inputs(precision, x, 1, n);
    std::size_t largest = 0;
    float along = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
      if (std::abs(before[i]) > std::abs(before[largest])) largest = i;
      along += dx[i] * (x[i] - before[i]);
    }
    if (before[largest] != 0.0f) dx[largest] += along / before[largest];
  }
}

/// to = from, with all matrices that become q8_0 in a conversion rounded to it. Not for hybrids.
inline void round_weights(const Parameters& from, Parameters& to) {
  std::copy(from.values().begin(), from.values().end(), to.values().begin());
  const auto entries = io::layout_of(from.shape().dimensions());
  for (const TensorInfo& t : from.layout().tensors()) {
    const auto entry = std::find_if(entries.begin(), entries.end(),
                                    [&](const auto& e) { return e.name == t.name; });
    if (entry == entries.end() || io::weight_type(*entry, DType::f32, DType::q8_0) != DType::q8_0)
      continue;
    for (float *x = to.values(t).data(), *end = x + t.size; x < end; x += quant::Q8_0::elements) {
      std::byte block[quant::Q8_0::bytes];
      quant::Q8_0::encode(x, nullptr, block);
      quant::Q8_0::decode(block, x);
    }
  }
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
