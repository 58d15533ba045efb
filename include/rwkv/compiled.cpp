// SPDX-License-Identifier: Apache-2.0
// The whole of rwkv::compiled in one translation unit, for builds without CMake: compile this file
// once, everything with -DRWKV_COMPILED, and the headers only declare. (The files below may also be
// compiled one by one, at the same time.) Training is rwkv/compiled/training.cpp, which needs
// Eigen.
#include <rwkv/compiled/amx_int8.cpp>
#include <rwkv/compiled/any_model.cpp>
#include <rwkv/compiled/automata.cpp>
#include <rwkv/compiled/avx2.cpp>
#include <rwkv/compiled/avx512.cpp>
#include <rwkv/compiled/avx512_bf16.cpp>
#include <rwkv/compiled/avx512_vnni.cpp>
#include <rwkv/compiled/avx_vnni.cpp>
#include <rwkv/compiled/chat.cpp>
#include <rwkv/compiled/convert.cpp>
#include <rwkv/compiled/dotprod.cpp>
#include <rwkv/compiled/grammar.cpp>
#include <rwkv/compiled/i8mm.cpp>
#include <rwkv/compiled/io.cpp>
#include <rwkv/compiled/kernels.cpp>
#include <rwkv/compiled/model.cpp>
#include <rwkv/compiled/speculate.cpp>
#include <rwkv/compiled/text.cpp>
