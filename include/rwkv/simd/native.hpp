// SPDX-License-Identifier: Apache-2.0
// `simd::Native`: the widest lanes type that this translation unit may use. Decided before xsimd is
// included, because xsimd does not compile without a vector unit. Define RWKV_NO_SIMD to do without
// xsimd.
#pragma once

#if !defined(RWKV_NO_SIMD) && (defined(__SSE2__) || defined(_M_X64) || defined(__ARM_NEON))
#include <rwkv/simd/xsimd.hpp>
namespace rwkv::inline RWKV_ABI::simd {
using Native = Vector;
}
#else
#include <rwkv/simd/scalar.hpp>
namespace rwkv::inline RWKV_ABI::simd {
using Native = Scalar;
}
#endif
