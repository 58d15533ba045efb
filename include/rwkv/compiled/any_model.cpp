// SPDX-License-Identifier: Apache-2.0
// Models of either architecture.
// clang-format off
#include <rwkv/compiled/part.hpp>  // first
// clang-format on
#include <rwkv/any_model.ipp>
