// SPDX-License-Identifier: Apache-2.0
// config.json, which stands beside models in the form of Hugging Face, as metadata.
#pragma once

#include <rwkv/io/checkpoint.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// The scalars of a config.json as text, by "config." and their key: numbers in their shortest
/// form, true and false. A null counts as absent; an object or array that is not empty is "{...}"
/// or "[...]". Throws `Error` (format) if `json` is no JSON object. Time and memory O(json).
[[nodiscard]] RWKV_FUNCTION Metadata read_model_config(std::span<const std::byte> json,
                                                       const std::string& source);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/model_config.ipp>
#endif
