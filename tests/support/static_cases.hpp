// SPDX-License-Identifier: Apache-2.0
// The golden models of tests/data as types: their dimensions and element types as constants.
#pragma once

#include "support/golden.hpp"

#include <filesystem>
#include <string>

namespace test {

struct F32 {
  static constexpr const char* name = "golden_l2_c32_f32";
  using Shape = rwkv::Shape<2, 32, 16, 56, 40, 8, 6, 3, 10>;
  using Element = float;
};
struct ExtendedF16 {
  static constexpr const char* name = "golden_l2_c32_extended_f16";
  using Shape = rwkv::Shape<2, 32, 16, 44, 29, 7, 5, 2, 9>;
  using Element = rwkv::half;
};
struct Bf16 {
  static constexpr const char* name = "golden_l3_c48_bf16";
  using Shape = rwkv::Shape<3, 48, 16, 52, 33, 12, 7, 5, 13>;
  using Element = rwkv::bfloat16;
};

struct Deep {
  static constexpr const char* name = "golden_l2_c32_deep_f32";
  using Shape = rwkv::Shape<2, 32, 16, 64, 20, 8, 6, 3, 10, 8>;
  using Element = float;
};

/// The model of a case, as a checkpoint.
template <class Case>
rwkv::io::Checkpoint checkpoint_of() {
  return golden::read(std::filesystem::path(RWKV_TEST_DATA) /
                      (std::string(Case::name) + ".model.safetensors"));
}

/// The case's golden tokens.
template <class Case>
std::vector<rwkv::Token> tokens_of() {
  return golden::tokens(golden::read(std::filesystem::path(RWKV_TEST_DATA) /
                                     (std::string(Case::name) + ".golden.safetensors")),
                        "tokens");
}

}  // namespace test
