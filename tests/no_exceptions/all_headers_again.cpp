// SPDX-License-Identifier: Apache-2.0
#include "all_headers.hpp"

std::size_t size_in_the_other_unit();
std::size_t size_in_the_other_unit() { return sizeof(rwkv::DynamicShape); }
