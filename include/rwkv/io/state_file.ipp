// SPDX-License-Identifier: Apache-2.0
// The definitions of io/state_file.hpp.
#pragma once

#include <rwkv/io/read.hpp>
#include <rwkv/io/state_file.hpp>
#include <rwkv/io/state_tensors.hpp>
#include <rwkv/shape_difference.hpp>

#if !defined(RWKV_NO_FILES)
#include <rwkv/io/keep_open.hpp>
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

RWKV_FUNCTION std::vector<std::byte> state_to_bytes(const State<>& state, std::uint64_t fingerprint,
                                                    const Metadata& notes) {
  internal::check_state(state.shape(), state, "the state");
  std::vector<std::vector<float>> matrices;
  Metadata metadata = detail::state_metadata(fingerprint);
  metadata.insert(notes.begin(), notes.end());
  const std::vector<NamedTensor> tensors = detail::state_tensors(state, matrices);
  detail::require_finite(tensors);
  return serialize_safetensors(tensors, metadata);
}

namespace detail {

/// What stands before "blocks.0.<what>" in the names of a file; nothing if there is no such name.
[[nodiscard]] inline std::optional<std::string> state_prefix(const Checkpoint& c,
                                                             const char* what) {
  const std::string first = state_name(0, what);
  for (const auto& [name, tensor] : c.tensors)
    if (name.ends_with(first) &&
        (name.size() == first.size() || name[name.size() - first.size() - 1] == '.'))
      return name.substr(0, name.size() - first.size());
  return std::nullopt;
}

[[nodiscard]] inline bool says_rwkv(const Metadata& metadata) {
  const auto it = metadata.lower_bound("rwkv.");
  return it != metadata.end() && it->first.starts_with("rwkv.");
}

inline void require_tensors(const Checkpoint& c, const DynamicShape& shape, std::size_t per_layer) {
  if (c.tensors.size() != shape.layers() * per_layer)
    fail_with(ErrorCategory::shape, c.source, ": ", c.tensors.size(), " tensors where a state of ",
              shape.layers(), " layers has ", shape.layers() * per_layer,
              c.find("emb.weight") != nullptr ? "; this is a model" : "");
}

/// A layer's matrices as they are in memory.
template <class From>
void put_matrices(const From& from, bool transposed, State<>& state, std::size_t layer) {
  if (transposed)
    std::copy(from.begin(), from.end(), state.wkv(layer).begin());
  else
    transpose_heads(from, state.wkv(layer), state.shape().heads(), state.shape().head_size());
}

/// The three parts of a layer, under the names that `name` gives for "att.x_prev", "att.wkv" and
/// "ffn.x_prev".
template <class Name>
void put_layer(const Checkpoint& c, State<>& state, std::size_t layer, bool transposed, Name name) {
  const DynamicShape& shape = state.shape();
  put_matrices(state_values(c, name("att.wkv"), state.wkv(layer).size()), transposed, state, layer);
  const auto att = state_values(c, name("att.x_prev"), shape.embed());
  const auto ffn = state_values(c, name("ffn.x_prev"), shape.embed());
  std::copy(att.begin(), att.end(), state.att_x_prev(layer).begin());
  std::copy(ffn.begin(), ffn.end(), state.ffn_x_prev(layer).begin());
}

/// Nothing but numbers? A file of just their size is, also if its first byte is that of an index.
[[nodiscard]] inline bool is_raw_state(std::span<const std::byte> bytes,
                                       const DynamicShape& shape) noexcept {
  return !has_known_format(bytes) ||
         (bytes.size() == State<>::bytes_for(shape) && bytes[0] == std::byte{'{'});
}

/// rwkv.cpp's state, of which only the size can be checked.
[[nodiscard]] inline State<> raw_state(std::span<const std::byte> bytes, const DynamicShape& shape,
                                       const std::string& source, bool transposed) {
  if (bytes.size() != State<>::bytes_for(shape))
    fail_with(ErrorCategory::shape, source, ": this is no file of tensors, and for a state of ",
              "rwkv.cpp, nothing but float32, it should have ", State<>::bytes_for(shape),
              " bytes for this model, not ", bytes.size());
  State<> state(shape);
  std::size_t at = 0;
  const auto take = [&](std::span<float> to) {
    std::memcpy(to.data(), bytes.data() + at, to.size_bytes());
    at += to.size_bytes();
    for (const float v : to)
      if (!std::isfinite(v))
        fail_with(ErrorCategory::numeric, source, ": contains a number that is not finite");
  };
  std::vector<float> matrices(state.wkv(0).size());
  for (std::size_t i = 0; i < shape.layers(); ++i) {
    take(state.ffn_x_prev(i));
    take(state.att_x_prev(i));
    take(matrices);
    put_matrices(matrices, transposed, state, i);
  }
  return state;
}

}  // namespace detail

RWKV_FUNCTION State<> state_from(const Checkpoint& c, const DynamicShape& shape,
                                 std::uint64_t fingerprint, const StateOptions& options) {
  if (const auto it = c.metadata.find("rwkv.state_version"); it != c.metadata.end()) {
    if (it->second != detail::state_version)
      fail_with(ErrorCategory::unsupported, c.source, ": state version ", it->second,
                " (this library reads version ", std::string(detail::state_version), ")");
    if (options.transposed.value_or(false))
      fail_with(ErrorCategory::argument, c.source,
                ": this library wrote this state, and does not write transposed ones");
  }
  if (const auto it = c.tensors.lower_bound("moba.");
      it != c.tensors.end() && it->first.starts_with("moba."))
    fail_with(ErrorCategory::argument, c.source, ": this is a state of an RWKV-X model (it has ",
              it->first, "): rwkv::HybridModel reads it");
  if (const auto it = c.metadata.find("rwkv.fingerprint");
      it != c.metadata.end() && it->second != detail::hexadecimal(fingerprint))
    fail_with(ErrorCategory::argument, c.source,
              ": this state was made by another model (fingerprint ", it->second,
              ", the model has ", detail::hexadecimal(fingerprint), ")");

  State<> state(shape);
  if (const auto prefix = detail::state_prefix(c, "att.time_state")) {
    const bool web_rwkv =
        c.format == "safetensors" && c.source.ends_with(".st") && !detail::says_rwkv(c.metadata);
    detail::require_tensors(c, shape, 1);
    for (std::size_t i = 0; i < shape.layers(); ++i)
      detail::put_matrices(
          detail::state_values(c, *prefix + detail::state_name(i, "att.time_state"),
                               state.wkv(i).size()),
          options.transposed.value_or(web_rwkv), state, i);
    return state;
  }
  const bool transposed = options.transposed.value_or(false);
  detail::require_tensors(c, shape, 3);
  if (c.find("0") != nullptr) {
    for (std::size_t i = 0; i < shape.layers(); ++i)
      detail::put_layer(c, state, i, transposed, [&](std::string_view part) {
        return std::to_string(3 * i + (part == "att.x_prev" ? 0 : part == "att.wkv" ? 1 : 2));
      });
    return state;
  }
  const std::string prefix = detail::state_prefix(c, "att.wkv").value_or("");
  for (std::size_t i = 0; i < shape.layers(); ++i)
    detail::put_layer(c, state, i, transposed,
                      [&](const char* part) { return prefix + detail::state_name(i, part); });
  return state;
}

RWKV_FUNCTION State<> state_from_bytes(std::span<const std::byte> bytes, const DynamicShape& shape,
                                       std::uint64_t fingerprint, const StateOptions& options,
                                       const std::string& source) {
  if (detail::is_raw_state(bytes, shape))
    return detail::raw_state(bytes, shape, source, options.transposed.value_or(false));
  return state_from(read_checkpoint(bytes, source), shape, fingerprint, options);
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION void save_state(const std::filesystem::path& path, const State<>& state,
                              std::uint64_t fingerprint, const Metadata& notes) {
  internal::check_state(state.shape(), state, "the state");
  std::vector<std::vector<float>> matrices;
  Metadata metadata = detail::state_metadata(fingerprint);
  metadata.insert(notes.begin(), notes.end());
  const std::vector<NamedTensor> tensors = detail::state_tensors(state, matrices);
  detail::require_finite(tensors);
  write_safetensors(path, tensors, metadata);
}

RWKV_FUNCTION State<> read_state(const std::filesystem::path& path, const DynamicShape& shape,
                                 std::uint64_t fingerprint, const StateOptions& options) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored)) {
    const MappedFile file(path);
    if (detail::is_raw_state(file.bytes(), shape))
      return detail::raw_state(file.bytes(), shape, path.string(),
                               options.transposed.value_or(false));
  }
  return state_from(read_checkpoint(path), shape, fingerprint, options);
}
#endif

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
