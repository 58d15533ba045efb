// SPDX-License-Identifier: Apache-2.0
// What rwkv.wasm spends its time in: compiled for speed, the rest for size.
// clang-format off
#include <rwkv/compiled/part.hpp>  // first
// clang-format on
#include <rwkv/kernels/chosen.ipp>
