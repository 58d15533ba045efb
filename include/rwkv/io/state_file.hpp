// SPDX-License-Identifier: Apache-2.0
// States in files: safetensors with, per layer i and all F32,
//   blocks.<i>.att.x_prev [C] · blocks.<i>.att.wkv [H, N value, N key] · blocks.<i>.ffn.x_prev [C]
// Metadata carry the version of this layout and the fingerprint of the model the state belongs to.
// Files without metadata are accepted on the strength of their shapes. A file with only
// `blocks.<i>.att.time_state` [H, N value, N key], as state tuning writes it, is read too; its
// token-shift rows are zero.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/state.hpp>

#include <charconv>
#include <cmath>

namespace rwkv::inline RWKV_ABI::io {

inline constexpr std::string_view state_version = "1";

namespace detail {

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
template <class Shape>
std::vector<NamedTensor> state_tensors(const State<Shape>& state,
                                       std::vector<std::vector<float>>& matrices) {
  const Shape& shape = state.shape();
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

inline Metadata state_metadata(std::uint64_t fingerprint) {
  return {{"rwkv.kind", "state"},
          {"rwkv.state_version", std::string(state_version)},
          {"rwkv.fingerprint", hexadecimal(fingerprint)}};
}

}  // namespace detail

/// Writes the state to `path`, as a whole or not at all. `fingerprint` is that of the model
/// (StoredWeights::fingerprint). Throws Error (io).
template <class Shape>
void save_state(const std::filesystem::path& path, const State<Shape>& state,
                std::uint64_t fingerprint) {
  std::vector<std::vector<float>> matrices;
  write_safetensors(path, detail::state_tensors(state, matrices),
                    detail::state_metadata(fingerprint));
}

/// The state in a checkpoint that was read from a state file or a state-tuning file. Throws Error:
/// (shape) tensors of another model shape, (argument) a state made by another model, (unsupported)
/// a later version, (numeric) NaN.
template <class Shape>
[[nodiscard]] State<Shape> state_from(const Checkpoint& c, const Shape& shape,
                                      std::uint64_t fingerprint) {
  if (const auto it = c.metadata.find("rwkv.state_version");
      it != c.metadata.end() && it->second != state_version)
    fail_with(ErrorCategory::unsupported, c.source, ": state version ", it->second,
              " (this library reads version ", std::string(state_version), ")");
  if (const auto it = c.metadata.find("rwkv.fingerprint");
      it != c.metadata.end() && it->second != detail::hexadecimal(fingerprint))
    fail_with(ErrorCategory::argument, c.source,
              ": this state was made by another model (fingerprint ", it->second,
              ", the model has ", detail::hexadecimal(fingerprint), ")");
  const bool tuned = c.find("blocks.0.att.time_state") != nullptr;
  const std::size_t per_layer = tuned ? 1 : 3;
  if (c.tensors.size() != shape.layers() * per_layer)
    fail_with(ErrorCategory::shape, c.source, ": ", c.tensors.size(), " tensors where a state of ",
              shape.layers(), " layers has ", shape.layers() * per_layer);

  State<Shape> state(shape);
  for (std::size_t i = 0; i < shape.layers(); ++i) {
    const auto wkv = detail::state_values(
        c, detail::state_name(i, tuned ? "att.time_state" : "att.wkv"), state.wkv(i).size());
    detail::transpose_heads(wkv, state.wkv(i), shape.heads(), shape.head_size());
    if (tuned) continue;
    const auto att = detail::state_values(c, detail::state_name(i, "att.x_prev"), shape.embed());
    const auto ffn = detail::state_values(c, detail::state_name(i, "ffn.x_prev"), shape.embed());
    std::copy(att.begin(), att.end(), state.att_x_prev(i).begin());
    std::copy(ffn.begin(), ffn.end(), state.ffn_x_prev(i).begin());
  }
  return state;
}

}  // namespace rwkv::inline RWKV_ABI::io
