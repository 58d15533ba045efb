// SPDX-License-Identifier: Apache-2.0
// Grammars and the constraints they make.
#include <rwkv/compiled/part.hpp>
#include <rwkv/grammar.ipp>
