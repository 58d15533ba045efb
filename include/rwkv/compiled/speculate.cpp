// SPDX-License-Identifier: Apache-2.0
// Several tokens per pass, and the way back.
#include <rwkv/compiled/part.hpp>
#include <rwkv/history.ipp>
#include <rwkv/speculate.ipp>
