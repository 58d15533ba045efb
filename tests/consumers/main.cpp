// SPDX-License-Identifier: Apache-2.0
#include <rwkv/core/half.hpp>

#include <cstdio>

int main() {
  const float x = rwkv::to_float(rwkv::to_half(0.1F));
  std::printf("0.1 as a half is %.9g\n", static_cast<double>(x));
  return x == 0.0999755859375F ? 0 : 1;
}
