// SPDX-License-Identifier: Apache-2.0
#include "../support/executors.hpp"
#include "../support/format_writers.hpp"
#include <rwkv/io/narrow.hpp>

#include <doctest/doctest.h>

#include <limits>

using rwkv::DType;
using rwkv::Error;
using rwkv::io::Tensor;
using test::Bytes;

namespace {

constexpr DType targets[] = {DType::f32,  DType::f16,  DType::bf16, DType::q4_0,  DType::q4_1,
                             DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k,  DType::q3_k,
                             DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};

Tensor view(const Bytes& bytes, DType type, const std::vector<std::size_t>& shape) {
  return {type, shape, rwkv::io::c_order(shape), bytes};
}

Bytes narrowed(const Tensor& tensor, DType type, std::size_t threads = 1) {
  Bytes out;
  test::Backwards exec(threads);
  rwkv::io::narrow(
      tensor, type, {.source = "file", .name = "t"}, exec,
      [&](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); });
  return out;
}

}  // namespace

TEST_CASE("every type from every type, as if all at once") {
  const auto values = test::ramp(6 * 256);
  for (const DType from : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::q6_k}) {
    const Bytes stored = test::encode(values, from);
    const Tensor tensor = view(stored, from, {6, 256});
    for (const DType to : targets) {
      CAPTURE(rwkv::name_of(to));
      const Bytes expected = from == to ? stored : test::encode(tensor.values(), to);
      CHECK(narrowed(tensor, to) == expected);
      CHECK(narrowed(tensor, to, 5) == expected);
    }
  }
}

TEST_CASE("transposed tensors are gathered") {
  const auto values = test::ramp(64 * 32);
  const Bytes stored = test::encode(values, DType::f16);
  const Tensor tensor = view(stored, DType::f16, {64, 32}).transposed();
  for (const DType to : {DType::f16, DType::f32, DType::q4_0})
    CHECK(narrowed(tensor, to, 3) == test::encode(tensor.values(), to));
  const Bytes blocks = test::encode(values, DType::q8_0);
  const Tensor turned = view(blocks, DType::q8_0, {64, 32}).transposed();
  for (const DType to : {DType::q8_0, DType::bf16})
    CHECK(narrowed(turned, to) == test::encode(turned.values(), to));
}

TEST_CASE("vectors, scalars and nothing") {
  const Bytes row = test::encode({1, 2, 3}, DType::f32);
  CHECK(narrowed(view(row, DType::f32, {1, 1, 3}), DType::f16) ==
        test::encode({1, 2, 3}, DType::f16));
  CHECK(narrowed(view(row, DType::f32, {}), DType::bf16) == test::encode({1}, DType::bf16));
  CHECK(narrowed(view({}, DType::f32, {0, 32}), DType::q4_0).empty());
}

TEST_CASE("a matrix of several pieces") {
  std::vector<float> values(4 * 1024);  // again and again
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i * 2654435761u % 4096) / 2048 - 1;
  const auto repeated = [&](DType type) {
    const Bytes once = test::encode(values, type);
    Bytes all(1250 * once.size());
    for (std::size_t at = 0; at < all.size(); at += once.size())
      std::copy(once.begin(), once.end(), all.data() + at);
    return all;
  };
  const Bytes stored = repeated(DType::f32);
  const Tensor tensor = view(stored, DType::f32, {5000, 1024});
  CHECK(narrowed(tensor, DType::bf16, 3) == repeated(DType::bf16));
  CHECK(narrowed(tensor, DType::q8_0, 3) == repeated(DType::q8_0));
}

TEST_CASE("numbers that a type cannot hold are refused by place") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const auto sentence = [](float bad, DType type) {
    std::vector<float> values(96, 0.5f);
    values[70] = bad;
    values[80] = bad;
    const Bytes bytes = test::encode(values, DType::f32);
    try {
      (void)narrowed(view(bytes, DType::f32, {3, 32}), type, 2);
    } catch (const Error& error) {
      CHECK(error.category() == rwkv::ErrorCategory::numeric);
      return std::string(error.what());
    }
    return std::string("done");
  };
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q4_0})
    for (const float bad : {nan, infinity, -infinity})
      CHECK(
          sentence(bad, type).starts_with("file: tensor \"t\": the number at row 2, column 6 is "));
  CHECK(sentence(65505, DType::f16).ends_with("which f16 cannot hold"));
  CHECK(sentence(65505, DType::q8_0).ends_with("which q8_0 cannot hold"));
  CHECK(sentence(65504, DType::f16) == "done");
  CHECK(sentence(3.3895e38f, DType::bf16) == "done");
  CHECK(sentence(3.4e38f, DType::bf16).ends_with("which bf16 cannot hold"));
  CHECK(sentence(3.4e38f, DType::f32) == "done");
}
