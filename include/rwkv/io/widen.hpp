// SPDX-License-Identifier: Apache-2.0
// Weights in floats of 8 bits become 16 or 32 bits when a file is read: no kernel knows them.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/untrusted.hpp>

#include <array>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// What programs call the scale of "<stem>.weight".
inline constexpr std::array<std::string_view, 3> scale_names{".weight_scale", ".scale_weight",
                                                             ".weight_scale_inv"};

/// What its inputs are multiplied with where these have 8 bits too, which they have not here.
inline constexpr std::array<std::string_view, 2> input_scale_names{".input_scale", ".scale_input"};

using StoredTensors = std::map<std::string, Tensor, std::less<>>;

/// The first of `names` behind the stem of the weight `stored`, or the end of `tensors`.
template <std::size_t N>
[[nodiscard]] StoredTensors::const_iterator find_beside(
    const StoredTensors& tensors, std::string_view stored,
    const std::array<std::string_view, N>& names) {
  constexpr std::string_view weight = ".weight";
  if (stored.ends_with(weight)) {
    const std::string stem(stored.substr(0, stored.size() - weight.size()));
    for (const std::string_view name : names)
      if (const auto it = tensors.find(stem + std::string(name)); it != tensors.end()) return it;
  }
  return tensors.end();
}

/// `tensor`, which is one of floats of 8 bits, as bf16, which holds them exactly; or, if there is a
/// scale, times that as f32. The scale is one number, or one per row.
[[nodiscard]] inline Tensor widened(Checkpoint& checkpoint, std::string_view name,
                                    const Tensor& tensor, const Tensor* scale) {
  const std::vector<float> values = tensor.values<float>();
  const auto keep = [&]<class T>(std::shared_ptr<std::vector<T>> numbers) {
    Tensor wide{dtype_of<T>, tensor.shape, c_order(tensor.shape),
                std::as_bytes(std::span(*numbers))};
    checkpoint.storage.push_back(std::move(numbers));
    return wide;
  };
  if (scale == nullptr) {
    auto narrow = std::make_shared<std::vector<bfloat16>>();
    narrow->reserve(values.size());
    for (const float value : values) narrow->push_back(to_bfloat16(value));
    return keep(std::move(narrow));
  }
  const std::size_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  if (!is_float(scale->dtype) || (scale->size() != 1 && scale->size() != rows))
    refuse_tensor(ErrorCategory::unsupported, checkpoint.source, name, " of shape ",
                  to_string(tensor.shape), " has scales of shape ", to_string(scale->shape),
                  " and type ", std::string(name_of(scale->dtype)),
                  "; one float, or one per row, is supported");
  const std::vector<float> scales = scale->values<float>();
  auto wide = std::make_shared<std::vector<float>>(values);
  for (std::size_t i = 0; i < wide->size(); ++i)
    (*wide)[i] *= scales[scales.size() == 1 ? 0 : i / (values.size() / rows)];
  return keep(std::move(wide));
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
