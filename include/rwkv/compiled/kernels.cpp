// SPDX-License-Identifier: Apache-2.0
// Chooses the kernels, and has those for what everything is compiled for.
#include <rwkv/compiled/part.hpp>
#include <rwkv/kernels/chosen.ipp>
#include <rwkv/quant/quantise.ipp>
#include <rwkv/quant/rows.ipp>
