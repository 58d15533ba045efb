// SPDX-License-Identifier: Apache-2.0
// The name of the best lanes there are. Kernels are templates on a lanes type; for this one they
// choose when the program runs (kernels/dispatched.hpp). Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA {

/// Stands for `simd::Native`, or, in a program for any processor, for those of a newer instruction
/// set that the processor turns out to have. Naming it costs nothing: no intrinsics are included.
struct Chosen {};

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA
