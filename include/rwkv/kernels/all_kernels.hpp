// SPDX-License-Identifier: Apache-2.0
// The kernels that are compiled for every instruction set (kernels/isa_namespace.hpp): they are
// read again whenever this list is, each after those it uses.
// clang-format off
#include <rwkv/kernels/math.hpp>
#include <rwkv/kernels/elementwise.hpp>
#include <rwkv/kernels/norm.hpp>
#include <rwkv/kernels/head_row.hpp>
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/matmul_of_listed.hpp>
#include <rwkv/kernels/quantised_tile.hpp>
#include <rwkv/kernels/quantised_matmul.hpp>
#include <rwkv/kernels/quantised_by_input.hpp>
#include <rwkv/kernels/quantise_row.hpp>
#include <rwkv/kernels/multiply.hpp>
#include <rwkv/kernels/wkv.hpp>
#include <rwkv/kernels/attention_kernels.hpp>
// clang-format on
