// SPDX-License-Identifier: Apache-2.0
// What a file is, when it is not the RWKV-7 model that somebody wanted: for messages.
#pragma once

#include <rwkv/io/checkpoint.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// What `c`, which has official names and is no RWKV-7 model, is instead, and what to do with it:
/// "a tuned state; give it with --state-in beside its model". Time O(tensors).
[[nodiscard]] RWKV_FUNCTION std::string describe(const Checkpoint& c);

/// Throws `Error` (unsupported): the tensor `name` of an RWKV-7 model is none that this library
/// computes with. Says which variant has such tensors, if that is known.
[[noreturn]] RWKV_FUNCTION void refuse_extra_tensor(const Checkpoint& c, std::string_view name,
                                                    const Tensor& tensor);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/describe.ipp>
#endif
