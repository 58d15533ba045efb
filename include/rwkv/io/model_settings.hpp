// SPDX-License-Identifier: Apache-2.0
// What a file says about the mathematics of its model besides the tensors: config.json, GGUF's
// metadata, safetensors' metadata. Every number is honoured or refused, none ignored.
//
// The readers put what they find into `Checkpoint::metadata`: GGUF under its own keys, config.json
// as "config.<key>" (io/model_config.hpp). `to_official_names` turns it into this library's keys,
// which all that computes or writes models goes by:
//   rwkv.layer_norm_epsilon, rwkv.group_norm_epsilon   numbers; absent: 1e-5 and 64e-5
//   rwkv.embedding_norm                                "none": the table is normalised already
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/kernels/operands.hpp>
#include <rwkv/shape.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

inline constexpr std::string_view layer_norm_key = "rwkv.layer_norm_epsilon";
inline constexpr std::string_view group_norm_key = "rwkv.group_norm_epsilon";
inline constexpr std::string_view embedding_norm_key = "rwkv.embedding_norm";

/// What `c`, which has official names, says about the mathematics, put under this library's keys;
/// and what it leaves out, filled in as it is meant: a head that is the table, norms without
/// biases, the heads of an r_k in one dimension. `fla`: the file has fla's names, whose norm per
/// head has an epsilon of head size times norm_eps. Throws `Error` (unsupported) for a setting that
/// makes another model of it, (format) for contradictions.
RWKV_FUNCTION void state_settings(Checkpoint& c, bool fla);

/// The settings of the norms.
struct NormSettings {
  float layer_norm_epsilon = kernels::layer_norm_epsilon;
  float group_norm_epsilon = kernels::group_norm_epsilon;
  bool normalised_table = false;  ///< there is no ln0

  friend bool operator==(const NormSettings&, const NormSettings&) = default;
};

/// The settings under this library's keys. Throws `Error` (format, unsupported).
[[nodiscard]] RWKV_FUNCTION NormSettings norm_settings_of(const Checkpoint& c);

/// Adds the settings that are not those of official models.
RWKV_FUNCTION void add_norm_settings(Metadata& metadata, const NormSettings& settings);

/// Metadata in which a model says which matrices should be left 16 bits where others become blocks:
/// official names with commas between them. Converted models say so again.
inline constexpr std::string_view keep_key = "rwkv.keep";

/// Those names.
[[nodiscard]] RWKV_FUNCTION std::vector<std::string> kept_matrices(const Metadata& metadata);

/// Throws `Error` (format), with both numbers, if `c` states other dimensions than the tensors'.
RWKV_FUNCTION void check_stated_dimensions(const Checkpoint& c, const Dimensions& d);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/model_settings.ipp>
#endif
