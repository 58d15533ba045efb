// SPDX-License-Identifier: Apache-2.0
// Every translation unit of rwkv/compiled/ begins with this.
#pragma once

#if !defined(RWKV_COMPILED)
#define RWKV_COMPILED
#endif
#define RWKV_COMPILING
#include <rwkv/core/config.hpp>
