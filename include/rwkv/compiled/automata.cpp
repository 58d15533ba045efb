// SPDX-License-Identifier: Apache-2.0
// Automata as models.
// clang-format off
#include <rwkv/compiled/part.hpp>

#include <rwkv/automata/compile.ipp>
#include <rwkv/automata/permutations.ipp>
#include <rwkv/automata/recogniser.ipp>
#include <rwkv/automata/regex.ipp>
#include <rwkv/automata/spelling.ipp>
// clang-format on
#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
#include <rwkv/automata/save.ipp>
#endif
