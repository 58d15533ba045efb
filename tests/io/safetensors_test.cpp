// SPDX-License-Identifier: Apache-2.0
#include "../support/hostile.hpp"
#include "../support/temporary_directory.hpp"
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/io/safetensors_writer.hpp>

#include <doctest/doctest.h>

#include <algorithm>

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::io::named_tensor;
using rwkv::io::NamedTensor;
using rwkv::io::read_safetensors;
using rwkv::io::serialize_safetensors;
using rwkv::io::write_safetensors;
using test::Bytes;

namespace {

Bytes file_of(const std::string& header, std::size_t data_bytes) {
  test::Writer out;
  out.put(std::uint64_t{header.size()}).text(header);
  out.bytes.resize(out.bytes.size() + data_bytes);
  return out.bytes;
}

rwkv::io::Checkpoint parse(std::span<const std::byte> bytes) {
  return read_safetensors(bytes, "file");
}

// The sentence with which a header is refused.
std::string refusal(const std::string& header, std::size_t data_bytes = 0) {
  try {
    const Bytes bytes = file_of(header, data_bytes);
    (void)parse(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

bool mentions(const std::string& sentence, const std::string& part) {
  return sentence.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("what is written reads back: every type, scalars, empty tensors, metadata") {
  const std::vector<double> f64{1.5, -2e300};
  const std::vector<float> f32{1, 2, 3, 4, 5, 6};
  const std::vector<rwkv::half> f16{rwkv::to_half(0.5f)};
  const std::vector<rwkv::bfloat16> bf16{rwkv::to_bfloat16(-3.0f), rwkv::to_bfloat16(8.0f)};
  const std::vector<std::int64_t> i64{-5'000'000'000};
  const std::vector<std::int32_t> i32{7, -7, 70};
  const std::vector<std::uint8_t> u8{0, 255};
  const std::vector<NamedTensor> tensors{
      named_tensor<double>("d", {2}, f64),          named_tensor<float>("f", {2, 3}, f32),
      named_tensor<rwkv::half>("scalar", {}, f16),  named_tensor<rwkv::bfloat16>("b", {2, 1}, bf16),
      named_tensor<std::int64_t>("l", {1}, i64),    named_tensor<std::int32_t>("i", {3}, i32),
      named_tensor<std::uint8_t>("bytes", {2}, u8), named_tensor<float>("none", {0, 4}, {}),
  };
  const rwkv::io::Metadata metadata{{"quote\"", "line\nline"}, {"empty", ""}};
  const Bytes bytes = serialize_safetensors(tensors, metadata);
  const auto checkpoint = parse(bytes);
  CHECK(checkpoint.tensors.size() == tensors.size());
  CHECK(checkpoint.metadata == metadata);
  CHECK(checkpoint.format == "safetensors");
  for (const NamedTensor& tensor : tensors) {
    const auto& got = checkpoint.get(tensor.name);
    CAPTURE(tensor.name);
    CHECK(got.dtype == tensor.dtype);
    CHECK(got.shape == tensor.shape);
    CHECK(std::equal(got.bytes.begin(), got.bytes.end(), tensor.bytes.begin(), tensor.bytes.end()));
  }
  CHECK(checkpoint.get("f").values() == f32);
  CHECK(checkpoint.get("l").values<std::int64_t>() == i64);
  CHECK(checkpoint.get("b").values() == std::vector<float>{-3, 8});
}

TEST_CASE("an empty file of no tensors is a file") {
  CHECK(parse(serialize_safetensors({})).tensors.empty());
}

TEST_CASE("the order of the tensors does not change the bytes") {
  const auto model = test::sample_model();
  auto shuffled = model;
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(3));
  CHECK(test::to_safetensors(model) == test::to_safetensors(shuffled));
}

TEST_CASE("data is aligned as far as the format allows") {
  const auto model = test::sample_model({.embed = 32, .head_size = 16, .vocab = 11, .decay = 13});
  const Bytes bytes = test::to_safetensors(model, DType::bf16, {{"odd", "length"}});
  const auto checkpoint = parse(bytes);
  for (const auto& entry : checkpoint.tensors) {
    CAPTURE(entry.first);
    const auto offset = static_cast<std::size_t>(entry.second.bytes.data() - bytes.data());
    const std::size_t size = entry.second.bytes.size();
    CHECK(offset % std::min<std::size_t>(64, size & (~size + 1)) == 0);
  }
}

TEST_CASE("tensors are ordered so that each is aligned for its elements; headers end on 64 bytes") {
  const std::vector<float> floats(16);
  const std::vector<rwkv::half> halves(3);
  const std::vector<std::uint8_t> byte(1);
  const std::vector<NamedTensor> tensors{named_tensor<std::uint8_t>("a", {1}, byte),
                                         named_tensor<rwkv::half>("b", {3}, halves),
                                         named_tensor<float>("c", {1}, std::span(floats).first(1)),
                                         named_tensor<float>("d", {16}, floats)};
  for (std::size_t length = 0; length < 70; ++length) {
    const Bytes bytes = serialize_safetensors(tensors, {{"k", std::string(length, 'v')}});
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    CHECK((8 + header) % 64 == 0);
    const auto json = reinterpret_cast<const char*>(bytes.data()) + 8;
    const std::string_view text(json, static_cast<std::size_t>(header));
    CHECK(text.size() - text.find_last_of('}') <= 64);  // no more padding than it takes
    const auto checkpoint = parse(bytes);
    const auto offset = [&](const char* name) {
      return checkpoint.get(name).bytes.data() - bytes.data() -
             static_cast<std::ptrdiff_t>(8 + header);
    };
    CHECK(offset("d") == 0);
    CHECK(offset("c") == 64);
    CHECK(offset("b") == 68);
    CHECK(offset("a") == 74);
  }
}

TEST_CASE("the file that is written holds the bytes that are serialised") {
  const test::TemporaryDirectory directory;
  const std::vector<float> values{1, 2};
  const std::vector<NamedTensor> tensors{named_tensor<float>("x", {2}, values)};
  write_safetensors(directory / "m", tensors, {{"k", "v"}});
  const rwkv::io::MappedFile file(directory / "m");
  const auto expected = serialize_safetensors(tensors, {{"k", "v"}});
  CHECK(std::equal(file.bytes().begin(), file.bytes().end(), expected.begin(), expected.end()));
}

TEST_CASE("a file written piece by piece is the one that is written at once") {
  const test::TemporaryDirectory directory;
  const std::vector<float> values{1, 2, 3, 4, 5};
  const auto part = [&](std::size_t n) { return std::span(values).first(n); };
  const std::vector<NamedTensor> tensors{
      named_tensor<float>("a", {1}, part(1)), named_tensor<float>("b", {2, 2}, part(4)),
      named_tensor<float>("c", {0}, part(0)), named_tensor<float>("d", {5}, part(5))};
  std::vector<rwkv::io::TensorEntry> entries;
  for (const auto& t : tensors) entries.push_back({t.name, t.dtype, t.shape});
  rwkv::io::SafetensorsWriter out(directory / "m", {{"k", "later"}, {"z", "k"}}, entries);
  for (const std::size_t i : out.order()) {
    const auto bytes = tensors[i].bytes;
    out.append(bytes.first(bytes.size() / 2));
    CHECK_THROWS_AS(out.append(Bytes(1000)), Error);
    if (i == 3) CHECK_THROWS_AS(out.commit(), Error);
    const std::size_t rest = bytes.size() - bytes.size() / 2;
    if (rest > 0) out.append(bytes.subspan(bytes.size() / 2, rest - 1));
    if (i == out.order().back() && rest > 0) CHECK_THROWS_AS(out.commit(), Error);
    if (rest > 0) out.append(bytes.last(1));
  }
  out.replace("k", "value");
  out.commit();
  const rwkv::io::MappedFile file(directory / "m");
  const auto expected = serialize_safetensors(tensors, {{"k", "value"}, {"z", "k"}});
  CHECK(std::equal(file.bytes().begin(), file.bytes().end(), expected.begin(), expected.end()));
}

TEST_CASE("what cannot be written is refused, and nothing is written") {
  const test::TemporaryDirectory directory;
  const std::vector<float> values{1, 2};
  const auto category_of = [&](std::vector<NamedTensor> tensors, rwkv::io::Metadata metadata = {}) {
    try {
      write_safetensors(directory / "m", tensors, metadata);
    } catch (const Error& error) {
      return error.category();
    }
    return ErrorCategory::numeric;
  };
  const auto good = named_tensor<float>("x", {2}, values);
  CHECK(category_of({good, good}) == ErrorCategory::argument);
  CHECK(category_of({named_tensor<float>("x", {3}, values)}) == ErrorCategory::argument);
  CHECK(category_of({named_tensor<float>("x", {1}, values)}) == ErrorCategory::argument);
  CHECK(category_of({{"x", DType::q4_0, {0}, {}}}) == ErrorCategory::argument);
  CHECK(category_of({named_tensor<float>("\xff", {2}, values)}) == ErrorCategory::argument);
  CHECK(category_of({named_tensor<float>("__metadata__", {2}, values)}) == ErrorCategory::argument);
  CHECK(category_of({good}, {{"k", "\xc0\x80"}}) == ErrorCategory::argument);
  CHECK(category_of({good}, {{"\xc0\x80", "v"}}) == ErrorCategory::argument);
  const rwkv::io::TensorEntry huge{"x", DType::f32, {std::size_t{1} << 32, std::size_t{1} << 32}};
  CHECK_THROWS_AS(rwkv::io::SafetensorsWriter(directory / "m", {}, std::span(&huge, 1)), Error);
  CHECK(directory.entries().empty());
}

TEST_CASE("headers that are not safetensors are refused with the reason") {
  const std::string good = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  CHECK(refusal(good, 8) == "accepted");
  CHECK(refusal(good + "   ", 8) == "accepted");
  CHECK(mentions(refusal(good, 7), "lies at bytes 0 to 8 of 7"));
  CHECK(mentions(refusal(good, 9), "1 bytes at the end belong to no tensor"));
  CHECK(mentions(refusal("{"), "not valid JSON"));
  CHECK(mentions(refusal(good + "x", 8), "not valid JSON"));
  CHECK(mentions(refusal("[]"), "an array"));
  CHECK(mentions(refusal("3"), "a number"));
  CHECK(mentions(refusal("\"x\""), "a string"));
  CHECK(mentions(refusal(R"({"x":3})"), "a number"));
  CHECK(mentions(refusal(R"({"x":{}})"), "lacks dtype"));
  CHECK(mentions(refusal(R"({"x":{"dtype":"F32","shape":[]}})"), "lacks dtype"));
  CHECK(mentions(refusal(R"({"x":{"size":1}})"), "unexpected field"));
  for (const char* field : {R"("dtype":"F32")", R"("shape":[])", R"("data_offsets":[0,4])"}) {
    const std::string all = R"("dtype":"F32","shape":[],"data_offsets":[0,4])";
    std::string others = all;
    others.erase(all.find(field), std::strlen(field) + 1);
    if (others.back() == ',') others.pop_back();
    CAPTURE(field);
    CHECK(refusal("{\"x\":{" + all + "}}", 4) == "accepted");
    CHECK(mentions(refusal("{\"x\":{" + all + "," + field + "}}", 4), "unexpected field"));
    CHECK(mentions(refusal("{\"x\":{" + others + "}}", 4), "lacks dtype"));
    CHECK(mentions(refusal("{\"x\":{" + all + "},\"y\":{}}", 4), "lacks dtype"));
  }
  CHECK(mentions(refusal(R"({"x":{"dtype":1}})"), "a number"));
  CHECK(mentions(refusal(R"({"x":{"dtype":["F32"]}})"), "an array"));
  CHECK(mentions(refusal(R"({"x":{"shape":["1"]}})"), "a string"));
  CHECK(mentions(refusal(R"({"x":{"shape":[[1]]}})"), "an array"));
  CHECK(mentions(refusal(R"({"x":{"shape":[-1]}})"), "a negative number"));
  CHECK(mentions(refusal(R"({"x":{"shape":[1.5]}})"), "64-bit"));
  CHECK(mentions(refusal(R"({"x":{"shape":[99999999999999999999]}})"), "64-bit"));
  CHECK(mentions(refusal(R"({"x":{"shape":[1,1,1,1,1,1,1,1,1]}})"), "8 dimensions"));
  CHECK(refusal(R"({"x":{"dtype":"F32","shape":[1,1,1,2,1,1,1,1],"data_offsets":[0,8]}})", 8) ==
        "accepted");
  CHECK(mentions(refusal(R"({"x":{"shape":[{}]}})"), "an object"));
  CHECK(mentions(refusal(R"({"x":{"shape":"1"}})"), "a string"));
  CHECK(mentions(refusal(R"({"x":"F32"})"), "a string"));
  CHECK(mentions(refusal(R"({"x":[1]})"), "an array"));
  CHECK(mentions(refusal(R"({"x":{"data_offsets":[]}})"), "no pair"));
  CHECK(mentions(refusal(R"({"x":{"data_offsets":[1]}})"), "no pair"));
  CHECK(mentions(refusal(R"({"x":{"data_offsets":[1,2,3]}})"), "no pair"));
  CHECK(mentions(refusal(R"({"x":{"dtype":{}}})"), "an object"));
  CHECK(mentions(refusal(R"({"x":null})"), "null"));
  CHECK(mentions(refusal(R"({"__metadata__":{"a":1}})"), "a number"));
  CHECK(mentions(refusal(R"({"__metadata__":{"a":{}}})"), "an object"));
  CHECK(refusal(R"({"__metadata__":{},"x":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4) ==
        "accepted");
  CHECK(refusal(R"({"__metadata__":null,"x":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                4) == "accepted");
  CHECK(mentions(refusal(R"({"__metadata__":{"a":null}})"), "null"));
  CHECK(mentions(refusal(R"({"__metadata__":{"a":"1","a":"2"}})"), "twice"));
  CHECK(mentions(refusal(R"({"__metadata__":"a"})"), "a string"));
  CHECK(mentions(refusal(R"({"__metadata__":{"a":["b"]}})"), "an array"));
}

TEST_CASE("tensors must match their bytes, and the bytes their tensors") {
  const auto entry = [](const char* name, const char* shape, std::uint64_t begin,
                        std::uint64_t end) {
    return '"' + std::string(name) + R"(":{"dtype":"F32","shape":)" + shape +
           R"(,"data_offsets":[)" + std::to_string(begin) + ',' + std::to_string(end) + "]}";
  };
  const auto two = [&](std::uint64_t b0, std::uint64_t e0, std::uint64_t b1, std::uint64_t e1) {
    return refusal('{' + entry("a", "[1]", b0, e0) + ',' + entry("b", "[1]", b1, e1) + '}', 8);
  };
  CHECK(two(0, 4, 4, 8) == "accepted");
  CHECK(two(4, 8, 0, 4) == "accepted");
  CHECK(mentions(two(0, 4, 0, 4), "overlap at data byte 0"));
  CHECK(mentions(two(0, 4, 2, 6), "overlap at data byte 2"));
  CHECK(mentions(two(1, 5, 4, 8), "leave a gap at data byte 1"));
  CHECK(mentions(two(0, 4, 4, 9), "lies at bytes 4 to 9"));
  CHECK(mentions(two(4, 0, 4, 8), "lies at bytes 4 to 0"));
  CHECK(mentions(two(0, 3, 3, 8), "does not fill the 3 bytes"));
  CHECK(mentions(two(0, 5, 5, 8), "does not fill the 5 bytes"));
  CHECK(mentions(two(0, 4, 5, 8), "does not fill the 3 bytes"));
  CHECK(mentions(two(0, ~std::uint64_t{0}, 4, 8), "lies at bytes"));
  CHECK(mentions(refusal('{' + entry("a", "[1]", 0, 4) + ',' + entry("a", "[1]", 4, 8) + '}', 8),
                 "\"a\" twice"));
  // Products that wrap around to the right size, or to zero.
  CHECK(
      mentions(refusal('{' + entry("a", "[4294967296,4294967296]", 0, 0) + '}'), "does not fill"));
  CHECK(
      mentions(refusal('{' + entry("a", "[4611686018427387905]", 0, 4) + '}', 4), "does not fill"));
  CHECK(mentions(refusal('{' + entry("a", "[0,18446744073709551615,2]", 0, 0) + '}'),
                 "does not fill"));
  CHECK(refusal('{' + entry("a", "[0,3]", 0, 0) + '}') == "accepted");
  // Tensors without elements may lie wherever a tensor begins or ends, and nowhere else.
  const auto with_empty = [&](std::uint64_t at) {
    return refusal('{' + entry("a", "[2]", 0, 8) + ',' + entry("b", "[0]", at, at) + '}', 8);
  };
  CHECK(with_empty(0) == "accepted");
  CHECK(with_empty(8) == "accepted");
  CHECK(mentions(with_empty(4), "overlap at data byte 4"));
  CHECK(mentions(with_empty(9), "lies at bytes 9 to 9"));
}

TEST_CASE("tensors need not be aligned, nor in the order of their names") {
  const std::string header = R"({"a":{"dtype":"F64","shape":[],"data_offsets":[5,13]},)"
                             R"("b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                             R"("c":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  test::Writer out;
  out.put(std::uint64_t{header.size()}).text(header);
  out.put(std::uint8_t{7}).put(2.5f).put(-3.25);
  const auto checkpoint = parse(out.bytes);
  CHECK(checkpoint.get("a").values<double>() == std::vector<double>{-3.25});
  CHECK(checkpoint.get("b").values() == std::vector<float>{2.5f});
  CHECK(checkpoint.get("c").values() == std::vector<float>{7});
}

TEST_CASE("a file is recognised by a plausible length and a brace") {
  const auto begins = [](std::uint64_t length, const char* text) {
    return rwkv::io::is_safetensors(test::Writer().put(length).text(text).bytes);
  };
  CHECK(begins(2, "{}"));
  CHECK(begins(2, "{"));
  CHECK_FALSE(begins(2, ""));
  CHECK_FALSE(begins(2, " {}"));
  CHECK(begins(100'000'000, "{"));
  CHECK_FALSE(begins(100'000'001, "{"));
  CHECK_FALSE(rwkv::io::is_safetensors({}));
  const Bytes more = test::Writer().put(std::uint64_t{2}).text("{}").bytes;
  CHECK(rwkv::io::is_safetensors(std::span(more).first(9)));
  CHECK_FALSE(rwkv::io::is_safetensors(std::span(more).first(8)));
}

TEST_CASE("an element type without a DType is unsupported, by name") {
  const Bytes bytes = file_of(R"({"x":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}})", 1);
  try {
    (void)parse(bytes);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.category() == ErrorCategory::unsupported);
    CHECK(mentions(error.what(), "\"x\" the element type \"F8_E8M0\""));
  }
}

TEST_CASE("nesting, long names and control characters do no harm") {
  const std::string deep(200'000, '[');
  CHECK(mentions(refusal("{\"x\":" + deep), "an array"));
  CHECK(mentions(refusal(R"({"x":{"shape":)" + deep), "an array"));
  CHECK(mentions(refusal("{" + std::string(100'000, '"')), "not valid JSON"));
  const std::string name(10'000, 'n');
  const auto sentence = refusal("{\"" + name + "\":{}}");
  CHECK(sentence.size() < 400);
  CHECK(mentions(refusal("{\"\\u001b[2J\":{}}"), "\"\\x1b[2J\""));
}

TEST_CASE("lengths that point past the end are refused") {
  for (const std::uint64_t length :
       {std::uint64_t{9}, std::uint64_t{100'000'001}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    const Bytes bytes = test::Writer().put(length).text("{}").bytes;
    CHECK(test::read_or_refuse(bytes, parse) != "read");
  }
  // The format's own limit, and one more.
  const auto sentence = [](std::uint64_t length) {
    return test::read_or_refuse(test::Writer().put(length).text("{}").bytes, parse);
  };
  CHECK(mentions(sentence(100'000'000), "ends in the middle of the safetensors header"));
  CHECK(mentions(sentence(100'000'001), "more than the format allows"));
  CHECK(sentence(2) == "read");
}

TEST_CASE("damaged files are read or refused") {
  const Bytes bytes = test::to_safetensors(test::sample_model({.layers = 1}), DType::f16);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  CHECK(test::truncate_everywhere(bytes, parse) == 0);
  CHECK(test::flip_bytes(bytes, static_cast<std::size_t>(header), 3000, parse) > 1200);
}

#ifdef RWKV_GOLDENS
TEST_CASE("golden files read") {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(RWKV_GOLDENS)) {
    if (entry.path().extension() != ".safetensors") continue;
    const rwkv::io::MappedFile file(entry.path());
    const auto checkpoint = read_safetensors(file.bytes(), entry.path().string());
    CHECK(!checkpoint.tensors.empty());
    CHECK(test::touch(checkpoint) == test::touch(checkpoint));
    ++files;
  }
  CHECK(files >= 10);
}
#endif
