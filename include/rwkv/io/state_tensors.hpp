// SPDX-License-Identifier: Apache-2.0
// A state's numbers as the tensors of a file (io/state_file.hpp), and back.
#pragma once

#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/state.hpp>

#include <charconv>
#include <cmath>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

inline constexpr std::string_view state_version = "1";

inline std::string hexadecimal(std::uint64_t number) {
  char text[17] = {};
  std::to_chars(text, text + 16, number, 16);
  return text;
}

/// The tensor's numbers in C order, if there are `n` and all are finite.
inline std::vector<float> state_values(const Checkpoint& c, const std::string& name,
                                       std::size_t n) {
  const Tensor& t = c.get(name);
  if (t.size() != n || !is_float(t.dtype))
    fail_with(ErrorCategory::shape, c.source, ": tensor ", name, " has shape ", to_string(t.shape),
              " and type ", std::string(name_of(t.dtype)), " where the model needs ", n, " floats");
  auto values = t.values<float>();
  for (const float v : values)
    if (!std::isfinite(v))
      fail_with(ErrorCategory::numeric, c.source, ": tensor ", name,
                " contains a number that is not finite");
  return values;
}

/// Between [H][N value][N key] of files and [H][N key][N value] of memory; its own inverse.
template <class From, class To>
void transpose_heads(const From& from, To&& to, std::size_t heads, std::size_t n) {
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) to[(h * n + j) * n + i] = from[(h * n + i) * n + j];
}

inline std::string state_name(std::size_t layer, const char* what) {
  return "blocks." + std::to_string(layer) + "." + what;
}

/// The state's tensors; matrices are transposed into `matrices`, which must outlive the result.
inline std::vector<NamedTensor> state_tensors(const State<>& state,
                                              std::vector<std::vector<float>>& matrices) {
  const DynamicShape& shape = state.shape();
  const std::size_t n = shape.head_size();
  matrices.resize(shape.layers());
  std::vector<NamedTensor> tensors;
  for (std::size_t i = 0; i < shape.layers(); ++i) {
    matrices[i].resize(state.wkv(i).size());
    transpose_heads(state.wkv(i), matrices[i], shape.heads(), n);
    tensors.push_back(
        named_tensor(state_name(i, "att.x_prev"), {shape.embed()}, state.att_x_prev(i)));
    tensors.push_back(named_tensor(state_name(i, "att.wkv"), {shape.heads(), n, n},
                                   std::span<const float>(matrices[i])));
    tensors.push_back(
        named_tensor(state_name(i, "ffn.x_prev"), {shape.embed()}, state.ffn_x_prev(i)));
  }
  return tensors;
}

/// Throws Error (numeric) for a state whose file `state_values` would refuse to read: all numbers
/// are floats.
inline void require_finite(std::span<const NamedTensor> tensors) {
  for (const NamedTensor& t : tensors)
    for (std::size_t at = 0; at < t.bytes.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, t.bytes.data() + at, sizeof value);
      if (!std::isfinite(value))
        fail_with(ErrorCategory::numeric, "the state has ", value, " in ", t.name,
                  ": what is not finite is not saved");
    }
}

inline Metadata state_metadata(std::uint64_t fingerprint) {
  return {{"rwkv.kind", "state"},
          {"rwkv.state_version", std::string(state_version)},
          {"rwkv.fingerprint", hexadecimal(fingerprint)}};
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
