// SPDX-License-Identifier: Apache-2.0
// The dimensions of a model, read off the shapes of its tensors.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/shape.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// The dimensions of an RWKV-7 checkpoint, from its tensor shapes. Throws Error (format,
/// unsupported), also if the file states others.
[[nodiscard]] RWKV_FUNCTION Dimensions dimensions_of(const Checkpoint& c);

/// How many sparse-attention blocks a checkpoint has: `moba.0.`, `moba.1.`, ... 0 for RWKV-7.
[[nodiscard]] RWKV_FUNCTION std::size_t sparse_blocks_of(const Checkpoint& c);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/dimensions.ipp>
#endif
