// SPDX-License-Identifier: Apache-2.0
// How a kernel is compiled for several instruction sets: its header is read once for what the
// translation unit is compiled for, into namespace `kernels::compiled`, and again by
// kernels/read_per_isa.hpp, with RWKV_AGAIN defined, for each of the others, into a namespace of
// that name. Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

#define RWKV_COMPILED_LEVEL compiled::inline RWKV_FLAGS
#define RWKV_LEVEL RWKV_COMPILED_LEVEL
