// SPDX-License-Identifier: Apache-2.0
// The official initialisation of RWKV-7, and of sparse blocks in the same spirit.
#pragma once

#include <rwkv/train/parameters.hpp>

#include <memory>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// A fresh model, reproducible from the seed. The official code divides by layers - 1 and cannot
/// initialise a single layer; here that layer counts as the first one. Time O(parameters * embed).
[[nodiscard]] RWKV_FUNCTION Parameters initialise(std::shared_ptr<const Layout> layout,
                                                  std::uint64_t seed);

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/initialise.ipp>
#endif
