// SPDX-License-Identifier: Apache-2.0
// The definitions of grammar.hpp.
#pragma once

#include <rwkv/grammar.hpp>
