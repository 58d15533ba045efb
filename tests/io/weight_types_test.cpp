// SPDX-License-Identifier: Apache-2.0
#include <rwkv/io/weight_types.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::io::LayoutEntry;
using rwkv::io::Role;
using rwkv::io::weight_type;

namespace {
const LayoutEntry matrix{"blocks.1.ffn.key.weight", {1024, 256}, Role::matrix};
const LayoutEntry first_output{"blocks.0.att.output.weight", {256, 256}, Role::matrix};
const LayoutEntry head{"head.weight", {1000, 256}, Role::head};
const LayoutEntry table{"emb.weight", {1000, 256}, Role::table};
const LayoutEntry decay{"blocks.0.att.w1", {64, 256}, Role::low_rank};
const LayoutEntry gate{"blocks.0.att.g2", {256, 64}, Role::low_rank};
const LayoutEntry vector{"ln_out.weight", {256}, Role::vector};

LayoutEntry with_columns(LayoutEntry entry, std::size_t cols) {
  entry.shape.back() = cols;
  return entry;
}
}  // namespace

TEST_CASE("float models are of one type but for what llama.cpp keeps in f32") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const LayoutEntry& entry : {matrix, first_output, head, table, gate})
      CHECK(weight_type(entry, DType::f32, type) == type);
    for (const LayoutEntry& entry : {decay, vector})
      CHECK(weight_type(entry, DType::bf16, type) == DType::f32);
  }
}

TEST_CASE("small and sensitive tensors stay precise in models of blocks") {
  for (const DType type : {DType::q4_0, DType::q4_k, DType::q2_k, DType::q8_0, DType::iq4_nl}) {
    CHECK(weight_type(matrix, DType::f32, type) == type);
    CHECK(weight_type(first_output, DType::f32, type) == DType::f16);
    CHECK(weight_type(first_output, DType::bf16, type) == DType::bf16);
    CHECK(weight_type(gate, DType::bf16, type) == DType::bf16);
    CHECK(weight_type(gate, DType::q8_0, type) == DType::f16);
    CHECK(weight_type(decay, DType::f16, type) == DType::f32);
    CHECK(weight_type(vector, DType::f16, type) == DType::f32);
    const DType fine = type == DType::q8_0 ? DType::q8_0 : DType::q6_k;
    CHECK(weight_type(head, DType::f32, type) == fine);
    CHECK(weight_type(table, DType::f32, type) == fine);
  }
  CHECK(weight_type(head, DType::f32, DType::q6_k) == DType::q6_k);
}

TEST_CASE("rows that are no whole blocks get a type that they are whole blocks of") {
  constexpr std::pair<DType, DType> smaller[] = {
      {DType::q2_k, DType::iq4_nl}, {DType::q3_k, DType::iq4_nl}, {DType::q4_k, DType::q5_0},
      {DType::q5_k, DType::q5_1},   {DType::q6_k, DType::q8_0},   {DType::q4_0, DType::q4_0}};
  for (const auto& [type, fallback] : smaller) {
    CHECK(weight_type(with_columns(matrix, 96), DType::f32, type) == fallback);
    CHECK(weight_type(with_columns(head, 96), DType::f32, type) == DType::q8_0);
    CHECK(weight_type(with_columns(matrix, 80), DType::f32, type) == DType::f16);
    CHECK(weight_type(with_columns(matrix, 80), DType::bf16, type) == DType::bf16);
    CHECK(weight_type(with_columns(table, 80), DType::f32, type) == DType::f16);
  }
}
