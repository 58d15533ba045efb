// SPDX-License-Identifier: Apache-2.0
#include "../support/format_writers.hpp"
#include "../support/temporary_directory.hpp"
#include <rwkv/io/gguf_writer.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::io::GgufMetadata;
using rwkv::io::GgufWriter;
using rwkv::io::TensorEntry;
using test::Bytes;

namespace {

const GgufMetadata metadata{{"a.text", "one"},
                            {"a.number", std::uint32_t{7}},
                            {"a.real", 0.5f},
                            {"numbers", std::vector<std::int32_t>{3, -1}},
                            {"texts", std::vector<std::string>{"x", "", "yz"}}};
const std::vector<TensorEntry> tensors{{"first", DType::f32, {3, 1}},
                                       {"empty", DType::f16, {0, 4}},
                                       {"blocks", DType::q8_0, {2, 32}},
                                       {"last", DType::bf16, {5}}};

Bytes data_of(const TensorEntry& tensor) {
  Bytes bytes(rwkv::io::bytes_of(tensor));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i + 1);
  return bytes;
}

void write(const std::filesystem::path& path) {
  GgufWriter out(path, metadata, tensors);
  for (const TensorEntry& tensor : tensors) out.append(data_of(tensor));
  out.commit();
}

ErrorCategory refusal(const GgufMetadata& with, const std::vector<TensorEntry>& and_tensors) {
  const test::TemporaryDirectory directory;
  try {
    GgufWriter out(directory / "m", with, and_tensors);
  } catch (const Error& error) {
    CHECK(directory.entries().empty());
    return error.category();
  }
  return ErrorCategory::numeric;
}

}  // namespace

TEST_CASE("the file is what another writer makes of the same content") {
  const test::TemporaryDirectory directory;
  write(directory / "m");
  test::GgufWriter other;
  other.text("a.text", "one");
  other.number("a.number", 7);
  other.real("a.real", 0.5f);
  other.numbers("numbers", {3, -1});
  other.texts("texts", {"x", "", "yz"});
  constexpr std::array<std::uint32_t, 4> numbers{0, 1, 8, 30};
  for (std::size_t i = 0; i < tensors.size(); ++i)
    other.tensor(tensors[i].name, tensors[i].shape, numbers[i], data_of(tensors[i]));
  const Bytes expected = other.finish();
  const std::string text = test::read_file(directory / "m");
  CHECK(text == std::string(reinterpret_cast<const char*>(expected.data()), expected.size()));
}

TEST_CASE("every type that can be read can be written, under the same number") {
  for (std::uint32_t number = 0; number < 40; ++number)
    if (const auto type = rwkv::io::detail::gguf_dtype(number))
      CHECK(rwkv::io::detail::gguf_number(*type) == number);
  CHECK_FALSE(rwkv::io::detail::gguf_number(DType::f64).has_value());
  CHECK_FALSE(rwkv::io::detail::gguf_number(DType::i32).has_value());
}

TEST_CASE("data may come in pieces, and a text may be replaced at the end") {
  const test::TemporaryDirectory directory;
  write(directory / "whole");
  GgufWriter out(directory / "pieces", metadata, tensors);
  for (const TensorEntry& tensor : tensors) {
    const Bytes data = data_of(tensor);
    for (std::size_t i = 0; i < data.size(); i += 5)
      out.append(std::span(data).subspan(i, std::min<std::size_t>(5, data.size() - i)));
  }
  const std::string whole = test::read_file(directory / "whole");
  CHECK(test::read_file(out.readable()) == whole);
  out.replace("a.text", "two");
  out.commit();
  std::string expected = whole;
  expected.replace(whole.find("one"), 3, "two");
  CHECK(test::read_file(directory / "pieces") == expected);
}

TEST_CASE("too much or too little data is refused, and leaves no file") {
  const test::TemporaryDirectory directory;
  {
    GgufWriter out(directory / "m", metadata, tensors);
    CHECK_THROWS_WITH_AS(out.append(Bytes(13)), doctest::Contains("more data than tensor 0"),
                         Error);
    out.append(Bytes(12));
    CHECK_THROWS_WITH_AS(out.commit(), doctest::Contains("the data of tensor 2"), Error);
    out.append(Bytes(68));
    out.append(Bytes(10));
    CHECK_THROWS_WITH_AS(out.append(Bytes(1)), doctest::Contains("more data"), Error);
  }
  CHECK(directory.entries().empty());
}

TEST_CASE("what the format cannot say is refused before anything is written") {
  CHECK(refusal({{"k", "v"}, {"k", "w"}}, {}) == ErrorCategory::argument);
  CHECK(refusal({{"", "v"}}, {}) == ErrorCategory::argument);
  CHECK(refusal({{"\xff", "v"}}, {}) == ErrorCategory::argument);
  const TensorEntry good{"t", DType::f32, {2}};
  const auto refused = [&](const TensorEntry& tensor) {
    return refusal({}, {good, tensor}) == ErrorCategory::argument;
  };
  CHECK(refused(good));
  CHECK(refused({"", DType::f32, {2}}));
  CHECK(refused({"\xc0", DType::f32, {2}}));
  CHECK(refused({std::string(64, 'n'), DType::f32, {2}}));
  CHECK_FALSE(refused({std::string(63, 'n'), DType::f32, {2}}));
  CHECK(refused({"x", DType::f64, {2}}));
  CHECK(refused({"x", DType::q4_0, {48}}));
  CHECK(refused({"x", DType::f32, {}}));
  CHECK(refused({"x", DType::f32, {1, 1, 1, 1, 1}}));
  CHECK(refused({"x", DType::f32, {std::size_t{1} << 40, std::size_t{1} << 40}}));
}

TEST_CASE("a full disk is an error, not half a file") {
  if (!std::filesystem::is_character_file("/dev/full")) return;
  GgufWriter out("/dev/full", metadata, tensors);
  for (const TensorEntry& tensor : tensors) out.append(data_of(tensor));
  CHECK_THROWS_WITH_AS(out.commit(), doctest::Contains("/dev/full: cannot write"), Error);
}
