// SPDX-License-Identifier: Apache-2.0
// From a checkpoint to weights: every tensor is asked for, checked and accounted for; storage types
// and memory layouts change nothing that they should not.
#define RWKV_NO_IO
#include "support/executors.hpp"
#include "support/sample_checkpoint.hpp"
#include <rwkv/model.hpp>
#include <rwkv/quant/quantise.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace {

using rwkv::DType;
using rwkv::ErrorCategory;
using rwkv::LoadOptions;
using rwkv::io::Checkpoint;
using rwkv::io::StoredWeights;

struct Refusal {
  ErrorCategory category;
  std::string sentence;
  [[nodiscard]] bool names(const std::string& part) const {
    return sentence.find(part) != std::string::npos;
  }
};

std::optional<Refusal> refusal(const Checkpoint& c, const LoadOptions& options = {}) {
  try {
    const StoredWeights weights(c, options);
  } catch (const rwkv::Error& e) {
    return Refusal{e.category(), e.what()};
  }
  return std::nullopt;
}

std::vector<std::string> names(const Checkpoint& c) {
  std::vector<std::string> all;
  for (const auto& [name, tensor] : c.tensors) all.push_back(name);
  return all;
}

LoadOptions stored_as(DType matrices, std::optional<DType> table = {}) {
  LoadOptions options;
  options.matrix_type = matrices;
  options.table_type = table;
  return options;
}

/// The logits after a short text.
std::vector<float> logits(const Checkpoint& c, const LoadOptions& options = {}) {
  const rwkv::Model<> model(c, options);
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape());
  const std::vector<rwkv::Token> tokens{1, 7, 3, 3, 0};
  const auto last = model.forward(state, tokens, work);
  return {last.begin(), last.end()};
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(double{a[i]} - b[i]));
  return largest;
}

}  // namespace

TEST_CASE("weights lie one behind the other in a block of the size that was counted") {
  const auto size_of_part = [](std::size_t k) {
    return k % 500 == 499 ? std::size_t{1} << 20 : k * 7919 % 3000;
  };
  constexpr std::size_t count = 2000;
  rwkv::io::detail::WeightArena counted;
  std::size_t lines = 0;
  for (std::size_t k = 0; k < count; ++k) {
    CHECK(counted.allocate<std::uint16_t>(size_of_part(k)) == nullptr);
    lines += std::max<std::size_t>(1, (size_of_part(k) + 31) / 32);
  }
  CHECK(counted.used() == lines * rwkv::alignment);

  rwkv::io::detail::WeightArena arena(counted.used(), nullptr);
  std::vector<std::uint16_t*> parts;
  for (std::size_t k = 0; k < count; ++k) {
    parts.push_back(arena.allocate<std::uint16_t>(size_of_part(k)));
    std::fill_n(parts.back(), size_of_part(k), static_cast<std::uint16_t>(k));
  }
  CHECK(arena.used() == counted.used());
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t size = size_of_part(k);
    REQUIRE(reinterpret_cast<std::uintptr_t>(parts[k]) % rwkv::alignment == 0);
    REQUIRE(std::count(parts[k], parts[k] + size, static_cast<std::uint16_t>(k)) ==
            static_cast<std::ptrdiff_t>(size));
    if (k + 1 < count)
      REQUIRE(parts[k + 1] == parts[k] + 32 * std::max<std::size_t>(1, (size + 31) / 32));
  }
  CHECK_THROWS_AS((void)arena.allocate<std::byte>(std::size_t{4} << 20), rwkv::Error);
  CHECK_THROWS_AS(rwkv::io::detail::WeightArena(static_cast<std::size_t>(-1), nullptr),
                  rwkv::Error);
}

TEST_CASE("the dimensions are read off the tensors") {
  const test::SampleSizes s{.layers = 3, .embed = 12, .head_size = 6, .ffn = 20, .vocab = 9};
  const auto d = rwkv::io::dimensions_of(test::sample_checkpoint(s));
  CHECK(d == rwkv::Dimensions{3, 12, 6, 20, 9, s.decay, s.icl, s.value, s.gate});
  const StoredWeights weights(test::sample_checkpoint(s));
  CHECK(weights.dimensions() == d);
}

TEST_CASE("every tensor is needed") {
  const Checkpoint whole = test::sample_checkpoint();
  REQUIRE_FALSE(refusal(whole));
  for (const std::string& name : names(whole)) {
    CAPTURE(name);
    Checkpoint c = whole;
    c.tensors.erase(name);
    const auto refused = refusal(c);
    REQUIRE(refused);
    CHECK(refused->names("sample: "));
    CHECK(refused->names(name));
  }
}

TEST_CASE("every tensor must have its shape") {
  const Checkpoint whole = test::sample_checkpoint();
  for (const std::string& name : names(whole)) {
    const auto shape = whole.get(name).shape;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      CAPTURE(name);
      CAPTURE(d);
      auto longer = shape;
      ++longer[d];
      Checkpoint c = whole;
      std::size_t size = 1;
      for (const std::size_t n : longer) size *= n;
      test::replace(c, name, longer, std::vector<float>(size, 0.5f));
      const auto refused = refusal(c);
      REQUIRE(refused);
      CHECK(refused->category == ErrorCategory::format);
      CHECK(refused->names("sample: "));
    }
  }
  // Matrices are not silently transposed.
  Checkpoint c = whole;
  c.tensors["blocks.1.ffn.key.weight"] = c.get("blocks.1.ffn.key.weight").transposed();
  const auto refused = refusal(c);
  REQUIRE(refused);
  CHECK(refused->names("tensor blocks.1.ffn.key.weight has shape [8, 12] where [12, 8]"));
}

TEST_CASE("low ranks must be the same in every block") {
  for (const std::string which : {"w", "a", "g", "v"}) {
    Checkpoint c = test::sample_checkpoint({.layers = 3});
    const std::string name = "blocks.2.att." + which;
    test::replace(c, name + "1", {8, 4}, std::vector<float>(32, 0.5f));
    test::replace(c, name + "2", {4, 8}, std::vector<float>(32, 0.5f));
    const auto refused = refusal(c);
    REQUIRE(refused);
    CHECK(refused->category == ErrorCategory::format);
    CHECK(refused->names("tensor " + name + "1 has shape [8, 4]"));
  }
}

TEST_CASE("a matrix without elements or with more than two dimensions is damage") {
  for (const std::vector<std::size_t>& shape :
       {std::vector<std::size_t>{0, 8}, {10, 0}, {80}, {1, 10, 8}, {}}) {
    Checkpoint c = test::sample_checkpoint();
    std::size_t size = 1;
    for (const std::size_t n : shape) size *= n;
    test::replace(c, "emb.weight", shape, std::vector<float>(size));
    const auto refused = refusal(c);
    REQUIRE(refused);
    CHECK(refused->category == ErrorCategory::format);
    CHECK(refused->names("emb.weight"));
  }
  Checkpoint c = test::sample_checkpoint();
  test::replace(c, "blocks.0.att.r_k", {2, 3}, std::vector<float>(6));
  auto refused = refusal(c);
  REQUIRE(refused);
  CHECK(refused->names("8 channels cannot be divided into heads of 3"));
  c = test::sample_checkpoint();
  test::replace(c, "blocks.1.att.r_k", {4, 2}, std::vector<float>(8));  // has as many numbers
  refused = refusal(c);
  REQUIRE(refused);
  CHECK(refused->names("tensor blocks.1.att.r_k has shape [4, 2] where [2, 4] was expected"));
}

TEST_CASE("what is not RWKV-7 is called so") {
  Checkpoint c = test::sample_checkpoint();
  c.tensors.erase("blocks.0.att.r_k");
  auto refused = refusal(c);
  REQUIRE(refused);
  CHECK(refused->category == ErrorCategory::unsupported);
  CHECK(refused->names("not an RWKV-7 model"));

  c = test::sample_checkpoint();
  test::replace(c, "blocks.1.att.x_extra", {8}, std::vector<float>(8));
  refused = refusal(c);
  REQUIRE(refused);
  CHECK(refused->category == ErrorCategory::unsupported);
  CHECK(refused->names("\"blocks.1.att.x_extra\" [8]"));
}

TEST_CASE("weights are floating-point numbers") {
  const Checkpoint whole = test::sample_checkpoint();
  for (const std::string& name : names(whole)) {
    CAPTURE(name);
    Checkpoint c = whole;
    const rwkv::io::Tensor& t = whole.get(name);
    test::replace(c, name, t.shape, std::vector<std::int32_t>(t.size(), 1));
    const auto refused = refusal(c);
    REQUIRE(refused);
    CHECK(refused->category == ErrorCategory::unsupported);
    CHECK(refused->names("tensor " + name + " has elements of type i32"));
  }
}

TEST_CASE("a value residual in block 0 is ignored, whatever it is") {
  const Checkpoint without = test::sample_checkpoint();
  Checkpoint with = without;
  test::replace(with, "blocks.0.att.v0", {1, 1, 8}, std::vector<float>(8, 3.0f));
  test::replace(with, "blocks.0.att.v1", {8, 1}, std::vector<float>(8, 3.0f));
  test::replace(with, "blocks.0.att.v2", {1, 8}, std::vector<std::int32_t>(8, 3));
  CHECK(test::same_bits(logits(with), logits(without)));
  CHECK(StoredWeights(with).parameters() == StoredWeights(without).parameters());
}

TEST_CASE("eigenvalues are what the metadata say") {
  Checkpoint c = test::sample_checkpoint();
  const auto standard = logits(c);
  c.metadata["rwkv.eigenvalues"] = "standard";
  CHECK(test::same_bits(logits(c), standard));
  c.metadata["rwkv.eigenvalues"] = "extended";
  CHECK_FALSE(test::same_bits(logits(c), standard));
  c.metadata["rwkv.eigenvalues"] = "imaginary";
  const auto refused = refusal(c);
  REQUIRE(refused);
  CHECK(refused->category == ErrorCategory::unsupported);
  CHECK(refused->names("\"imaginary\""));
}

TEST_CASE("parameters and bytes are those of the tensors") {
  const test::SampleSizes sizes{.embed = 16,
                                .head_size = 8,
                                .ffn = 32,
                                .vocab = 16,
                                .decay = 16,
                                .icl = 16,
                                .value = 16,
                                .gate = 16};
  const Checkpoint c = test::sample_checkpoint(sizes);
  std::size_t numbers = 0;
  for (const auto& [name, tensor] : c.tensors) numbers += tensor.size();
  const StoredWeights weights(c);
  CHECK(weights.parameters() == numbers);
  CHECK(weights.bytes() == 4 * numbers);  // all matrices have a multiple of 16 outputs
  CHECK(weights.bytes_per_token() == 4 * (numbers - 16 * 16 + 16));
  const StoredWeights halves(c, stored_as(DType::f16, DType::bf16));
  CHECK(halves.parameters() == numbers);
  CHECK(halves.bytes() < 3 * numbers);
}

TEST_CASE("the layout of tensors in memory does not matter") {
  const Checkpoint plain = test::sample_checkpoint();
  Checkpoint odd = plain;
  for (auto& [name, t] : odd.tensors) {
    // Column by column, and on an odd address.
    auto bytes = std::make_shared<std::vector<std::byte>>(t.bytes.size() + 1);
    const bool matrix = t.shape.size() == 2;
    if (matrix) t.stride = {1, t.shape[0]};
    const std::vector<float> values = plain.get(name).values();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t at = matrix ? i % t.shape[1] * t.shape[0] + i / t.shape[1] : i;
      std::memcpy(bytes->data() + 1 + at * sizeof(float), &values[i], sizeof(float));
    }
    t.bytes = std::span(*bytes).subspan(1);
    odd.storage.push_back(std::move(bytes));
  }
  CHECK(test::same_bits(logits(odd), logits(plain)));
  CHECK(StoredWeights(odd).fingerprint() == StoredWeights(plain).fingerprint());
}

TEST_CASE("the embedding table stays where it is when it can, and lives as long as the model") {
  Checkpoint c = test::sample_checkpoint();
  const void* const where = c.get("emb.weight").bytes.data();
  CHECK(StoredWeights(c).emb().data == where);
  const StoredWeights converted(c, stored_as(DType::f32, DType::f16));
  CHECK(converted.emb().data != where);
  CHECK(converted.emb().type == DType::f16);
  std::vector<float> row(converted.dimensions().embed);
  converted.emb().row(3, row.size(), row.data());
  for (std::size_t i = 0; i < row.size(); ++i)  // the sample's numbers are exact in every type
    CHECK(row[i] == c.get("emb.weight").at_offset(3 * row.size() + i));

  const auto expected = logits(c);
  const rwkv::Model<> model(c);
  c = {};
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape());
  CHECK(test::same_bits(model.forward(state, std::vector<rwkv::Token>{1, 7, 3, 3, 0}, work),
                        expected));
}

TEST_CASE("weights are the same whoever packs them") {
  const Checkpoint c = test::sample_checkpoint({.embed = 64, .head_size = 16, .ffn = 2048});
  for (const LoadOptions& options : {LoadOptions{}, stored_as(DType::bf16)}) {
    test::Backwards many(7);
    const rwkv::Model<> packed(c, options, many);
    CHECK(many.largest() == 3);  // 64 x 2048 numbers are worth three workers
    const rwkv::Model<> serial(c, options);
    rwkv::Workspace work(serial.shape());
    rwkv::State a(serial.shape());
    rwkv::State b(serial.shape());
    const std::vector<rwkv::Token> tokens{1, 2, 3};
    const auto first = packed.forward(a, tokens, work);
    const std::vector<float> kept(first.begin(), first.end());
    CHECK(test::same_bits(kept, serial.forward(b, tokens, work)));
  }
}

TEST_CASE("numbers that every storage type holds exactly give the same bits in each") {
  const auto expected = logits(test::sample_checkpoint<float>());
  CHECK(test::same_bits(logits(test::sample_checkpoint<double>()), expected));
  CHECK(test::same_bits(logits(test::sample_checkpoint<rwkv::half>()), expected));
  CHECK(test::same_bits(logits(test::sample_checkpoint<rwkv::bfloat16>()), expected));
  for (const DType type : {DType::f32, DType::f16, DType::bf16})
    CHECK(test::same_bits(logits(test::sample_checkpoint(), stored_as(type, type)), expected));
}

TEST_CASE("low-rank maps in blocks become floats: what they are multiplied with is never rounded") {
  Checkpoint c = test::sample_checkpoint(
      {.embed = 64, .head_size = 16, .decay = 32, .icl = 32, .value = 32, .gate = 32});
  Checkpoint decoded = c;
  std::vector<std::vector<std::byte>> blocks;
  for (const char map : {'w', 'a', 'v', 'g'})
    for (const char half : {'1', '2'}) {
      const std::string name = std::string("blocks.1.att.") + map + half;
      // As rwkv.cpp and GGUF files store them: transposed, blocks along the inputs.
      const rwkv::io::Tensor stored = c.get(name).transposed();
      const std::size_t rows = stored.shape[0];
      const std::size_t cols = stored.shape[1];
      blocks.push_back(rwkv::quant::quantise(stored.values(), rows, cols, DType::q8_0));
      const rwkv::io::Tensor t{DType::q8_0, stored.shape, rwkv::io::c_order(stored.shape),
                               blocks.back()};
      c.tensors[name] = t.transposed();
      test::replace(decoded, name, t.transposed().shape, t.transposed().values());
    }
  const StoredWeights weights(c);
  const auto& att = weights.block(1).att;
  for (const auto* m : {&att.w1, &att.w2, &att.a1, &att.a2, &att.v1, &att.v2, &att.g1, &att.g2}) {
    CHECK(m->type == DType::f32);
    CHECK(m->inputs == rwkv::kernels::Inputs::exact);
  }
  CHECK(test::same_bits(logits(c), logits(decoded)));
}

TEST_CASE("storing matrices with fewer bits moves the logits by about that much") {
  Checkpoint c = test::sample_checkpoint();
  for (auto& [name, t] : c.tensors) {
    std::vector<float> values = t.values();
    for (float& f : values) f *= 0.3141592f;  // not exact in 16 bits any more
    test::replace(c, name, t.shape, values);
  }
  const auto exact = logits(c);
  CHECK(test::same_bits(logits(c, stored_as(DType::f32)), exact));
  const double f16 = distance(logits(c, stored_as(DType::f16)), exact);
  const double bf16 = distance(logits(c, stored_as(DType::bf16)), exact);
  MESSAGE("f16 " << f16 << ", bf16 " << bf16);
  CHECK(f16 > 0);
  CHECK(f16 < 0.001);
  CHECK(bf16 > f16);
  CHECK(bf16 < 0.01);
  CHECK(StoredWeights(c, stored_as(DType::f16)).fingerprint() == StoredWeights(c).fingerprint());
}

TEST_CASE("the fingerprint tells models apart") {
  const Checkpoint c = test::sample_checkpoint();
  CHECK(StoredWeights(c).fingerprint() == StoredWeights(test::sample_checkpoint()).fingerprint());
  CHECK(StoredWeights(c).fingerprint() !=
        StoredWeights(test::sample_checkpoint({}, 2)).fingerprint());
  Checkpoint changed = c;
  auto values = c.get("blocks.1.att.w0").values();
  values[3] = std::nextafter(values[3], 10.0f);
  test::replace(changed, "blocks.1.att.w0", {1, 1, 8}, values);
  CHECK(StoredWeights(changed).fingerprint() != StoredWeights(c).fingerprint());
}

TEST_CASE("a type that weights cannot have is refused") {
  for (const DType type : {DType::f64, DType::i64, DType::i32, DType::u8}) {
    LoadOptions table;
    table.table_type = type;
    for (const LoadOptions& options : {stored_as(type), table}) {
      const auto refused = refusal(test::sample_checkpoint(), options);
      REQUIRE(refused);
      CHECK(refused->category == ErrorCategory::argument);
      CHECK(refused->names(std::string(rwkv::name_of(type))));
    }
  }
}

TEST_CASE("progress goes from 0 to 1 and never back") {
  Checkpoint c = test::sample_checkpoint();
  for (const bool residual_in_block_0 : {false, true}) {
    if (residual_in_block_0) {
      test::replace(c, "blocks.0.att.v0", {1, 1, 8}, std::vector<float>(8));
      test::replace(c, "blocks.0.att.v1", {8, 5}, std::vector<float>(40));
      test::replace(c, "blocks.0.att.v2", {5, 8}, std::vector<float>(40));
    }
    std::vector<double> steps;
    LoadOptions options;
    options.progress = [&](double fraction) { steps.push_back(fraction); };
    const StoredWeights weights(c, options);
    REQUIRE(steps.size() > 20);
    CHECK(steps.front() > 0);
    CHECK(std::is_sorted(steps.begin(), steps.end()));
    CHECK(steps.back() == 1.0);
  }
}
