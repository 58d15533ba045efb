// SPDX-License-Identifier: Apache-2.0
#include "../support/format_writers.hpp"
#include <rwkv/io/checkpoint.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::io::Tensor;
using test::Bytes;

namespace {

constexpr std::size_t rows = 3;
constexpr std::size_t cols = 512;

Tensor matrix(DType type, const Bytes& bytes) {
  return {type, {rows, cols}, rwkv::io::c_order({rows, cols}), bytes};
}

}  // namespace

TEST_CASE("elements of blocks are found wherever strides lead") {
  for (const DType type : {DType::q4_0, DType::q5_1, DType::q8_0, DType::q3_k, DType::q6_k}) {
    CAPTURE(rwkv::name_of(type));
    const Bytes bytes = test::encode(test::ramp(rows * cols), type);
    const auto expected = test::decode(bytes, type);
    const Tensor tensor = matrix(type, bytes);
    CHECK(tensor.contiguous());
    CHECK(tensor.values() == expected);
    CHECK(tensor.values<double>() == std::vector<double>(expected.begin(), expected.end()));
    for (const std::size_t i : {std::size_t{0}, std::size_t{255}, cols + 300, rows * cols - 1})
      CHECK(tensor.at_offset(i) == expected[i]);

    const Tensor turned = tensor.transposed();
    CHECK(!turned.contiguous());
    CHECK(turned.values() == test::transposed({"", {rows, cols}, expected}).values);

    // The same row of heads, seen as heads: rows that are parts of a block.
    Tensor heads = tensor;
    heads.shape = {rows * 8, cols / 8};
    heads.stride = rwkv::io::c_order(heads.shape);
    CHECK(heads.values() == expected);
    heads.shape = {3, cols / 8};  // ends in the middle of a block
    CHECK(heads.values() == std::vector<float>(expected.begin(), expected.begin() + 192));
  }
}
