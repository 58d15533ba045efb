// SPDX-License-Identifier: Apache-2.0
// The source of a static model holds every weight exactly. (tests/bare_metal compiles and runs it.)
#include "support/static_cases.hpp"
#include "support/static_weights.hpp"
#include <rwkv/io/static_source.hpp>

#include <doctest/doctest.h>

#include <clocale>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

/// The numbers of the initializer as they would lie in memory: floats, and `{0x3c00}` as 16 bits.
std::vector<std::byte> initializer_bytes(const std::string& source) {
  std::vector<std::byte> bytes;
  const auto append = [&bytes](auto value) {
    const auto* p = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), p, p + sizeof value);
  };
  const char* p = source.c_str() + source.find("weights = {") + std::strlen("weights = {");
  while (*p != 'r') {  // rwkv::Eigenvalues is last
    char* end = nullptr;
    if (std::strncmp(p, "{0x", 3) == 0 && p[7] == '}') {
      append(static_cast<std::uint16_t>(std::strtoul(p + 1, &end, 16)));
      p = end + 1;
    } else if (std::strchr("{},\n", *p) != nullptr) {
      ++p;
    } else {
      append(std::strtof(p, &end));
      REQUIRE(*end == 'f');
      p = end + 1;
    }
  }
  return bytes;
}

std::string refusal(const rwkv::io::Checkpoint& checkpoint, rwkv::ErrorCategory category,
                    std::optional<rwkv::DType> matrix_type = {}) {
  rwkv::LoadOptions options;
  options.matrix_type = matrix_type;
  const rwkv::io::StoredWeights weights(checkpoint, options);
  try {
    (void)rwkv::io::static_source(weights, "tiny");
  } catch (const rwkv::Error& e) {
    CHECK(e.category() == category);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE_TEMPLATE("the source names the dimensions and lists all weights in order", Case,
                   test::F32, test::ExtendedF16, test::Bf16) {
  using Shape = typename Case::Shape;
  using Weights = rwkv::StaticWeights<Shape, typename Case::Element>;
  const rwkv::io::StoredWeights stored(test::checkpoint_of<Case>());
  const std::string source = rwkv::io::static_source(stored, "tiny");

  std::string shape = "using Shape = rwkv::Shape<";
  const auto d = Shape{}.dimensions();
  for (const std::size_t n : {d.layers, d.embed, d.head_size, d.ffn, d.vocab, d.decay_rank,
                              d.icl_rank, d.value_rank, d.gate_rank})
    shape += std::to_string(n) + ", ";
  shape.replace(shape.size() - 2, 2, ">;");
  CHECK(source.find(shape) != std::string::npos);
  CHECK(source.find("namespace tiny {") != std::string::npos);
  const bool extended = stored.eigenvalues() == rwkv::Eigenvalues::extended;
  CHECK((source.find("rwkv::Eigenvalues::extended") != std::string::npos) == extended);
  CHECK((source.find("rwkv::Eigenvalues::standard") != std::string::npos) != extended);

  const auto expected = test::static_weights<Shape, typename Case::Element>(stored);
  const auto got = initializer_bytes(source);
  REQUIRE(got.size() == offsetof(Weights, eigenvalues));
  CHECK(std::memcmp(got.data(), expected.get(), got.size()) == 0);
}

TEST_CASE("numbers do not depend on the locale") {
  const rwkv::io::StoredWeights stored(test::checkpoint_of<test::F32>());
  const std::string source = rwkv::io::static_source(stored, "tiny");
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  for (const char* comma : {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "German"})
    if (std::setlocale(LC_NUMERIC, comma) != nullptr) break;
  CHECK(rwkv::io::static_source(stored, "tiny") == source);
  std::setlocale(LC_NUMERIC, before.c_str());
  CHECK(source.find('.', source.find("weights = {")) == std::string::npos);
}

TEST_CASE("a model of several element types, or with numbers that are none, is refused") {
  const auto checkpoint = test::checkpoint_of<test::F32>();
  CHECK(refusal(checkpoint, rwkv::ErrorCategory::unsupported) == "");
  CHECK(refusal(checkpoint, rwkv::ErrorCategory::unsupported, rwkv::DType::f16)
            .find("the embedding table is f32 but the head is f16") != std::string::npos);

  auto mixed = checkpoint;
  auto& key = mixed.tensors.at("blocks.0.ffn.key.weight");
  std::vector<rwkv::half> narrow;
  for (const float f : key.values()) narrow.push_back(rwkv::to_half(f));
  key.dtype = rwkv::DType::f16;
  key.bytes = std::as_bytes(std::span(narrow));
  CHECK(refusal(mixed, rwkv::ErrorCategory::unsupported).find("f16 and f32") != std::string::npos);

  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    auto broken = checkpoint;
    auto& tensor = broken.tensors.at("ln_out.bias");
    auto values = tensor.values();
    values[5] = bad;
    tensor.bytes = std::as_bytes(std::span(values));
    CHECK(refusal(broken, rwkv::ErrorCategory::numeric) != "");
  }
}
