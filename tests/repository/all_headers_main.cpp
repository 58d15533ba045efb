// SPDX-License-Identifier: Apache-2.0
#include "all_headers.hpp"

std::size_t size_in_the_other_unit();

/// The link is the test; the sizes agree if both units saw the same definitions.
int main() { return size_in_the_other_unit() == sizeof(rwkv::DynamicShape) ? 0 : 1; }
