// SPDX-License-Identifier: Apache-2.0
// The kernels for the best instruction set that the processor has: kernels/dispatched.hpp for
// simd::Chosen.
#pragma once

#include <rwkv/kernels/dispatched.hpp>

#if RWKV_HEADER_ONLY
#include <rwkv/kernels/chosen.ipp>
#endif
