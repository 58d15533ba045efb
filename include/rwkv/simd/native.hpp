// SPDX-License-Identifier: Apache-2.0
// `simd::Native`: the widest lanes type that this translation unit may use. Decided before xsimd is
// included, because xsimd does not compile without a vector unit. Define RWKV_NO_XSIMD to do without
// xsimd, RWKV_NO_SIMD to do without vectors.
#pragma once

#include <rwkv/simd/chosen.hpp>

#if !defined(RWKV_NO_SIMD) && !defined(RWKV_NO_XSIMD) && \
    (defined(__SSE2__) || defined(_M_X64) || defined(__ARM_NEON))
#include <rwkv/simd/xsimd.hpp>
namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {
using Native = Vector;
}
#else
#include <rwkv/simd/gnu_lanes.hpp>
namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {
#if RWKV_GNU_VECTORS && !defined(RWKV_NO_SIMD)
using Native = GnuLanes;
#else
using Native = Scalar;
#endif
}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

/// The lanes of code that is not chosen at run time, where the kernels around it are.
template <class L>
struct CompiledFor {
  using Lanes = L;
};
template <>
struct CompiledFor<Chosen> {
  using Lanes = Native;
};

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
