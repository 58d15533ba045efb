// SPDX-License-Identifier: Apache-2.0
// The definitions of io/state_file.hpp.
#pragma once

#include <rwkv/io/state_file.hpp>
#include <rwkv/io/state_tensors.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

RWKV_FUNCTION void save_state(const std::filesystem::path& path, const State<>& state,
                              std::uint64_t fingerprint, const Metadata& notes) {
  std::vector<std::vector<float>> matrices;
  Metadata metadata = detail::state_metadata(fingerprint);
  metadata.insert(notes.begin(), notes.end());
  write_safetensors(path, detail::state_tensors(state, matrices), metadata);
}

RWKV_FUNCTION State<> state_from(const Checkpoint& c, const DynamicShape& shape,
                                 std::uint64_t fingerprint) {
  if (const auto it = c.metadata.find("rwkv.state_version");
      it != c.metadata.end() && it->second != detail::state_version)
    fail_with(ErrorCategory::unsupported, c.source, ": state version ", it->second,
              " (this library reads version ", std::string(detail::state_version), ")");
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

  State<> state(shape);
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

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
