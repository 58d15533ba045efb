// SPDX-License-Identifier: Apache-2.0
#include "support/executors.hpp"
#include "support/format_writers.hpp"
#include "support/golden.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/io/layout.hpp>

#include <doctest/doctest.h>

using rwkv::ConvertOptions;
using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::FileFormat;

namespace {

using rwkv::block_types;

// Rows of whole blocks of every type, and of those of 32 elements.
constexpr test::SampleSizes wide{
    .layers = 2, .embed = 256, .head_size = 64, .ffn = 512, .vocab = 40};
constexpr test::SampleSizes narrow{
    .layers = 2, .embed = 96, .head_size = 32, .ffn = 192, .vocab = 40};

rwkv::io::Checkpoint read(const std::filesystem::path& path) {
  return rwkv::io::read_checkpoint(path);
}

/// A checkpoint of golden weights, which give logits of some size.
std::filesystem::path golden_model(const char* name) {
  return std::filesystem::path(RWKV_TEST_DATA) / (std::string(name) + ".model.safetensors");
}

ErrorCategory refusal(const rwkv::io::Checkpoint& checkpoint, const ConvertOptions& options,
                      const std::string& part) {
  const test::TemporaryDirectory directory;
  test::write_file(directory / "out", std::string("earlier"));
  try {
    rwkv::convert(checkpoint, directory / "out", options);
  } catch (const Error& error) {
    CAPTURE(error.what());
    CHECK(std::string(error.what()).find(part) != std::string::npos);
    CHECK(test::read_file(directory / "out") == "earlier");
    CHECK(directory.entries().size() == 1);
    return error.category();
  }
  FAIL("converted");
  return ErrorCategory::io;
}

}  // namespace

TEST_CASE("a model in floats comes back as it was, from every format") {
  const test::TemporaryDirectory directory;
  const auto model = test::sample_model();
  const auto as_safetensors = test::to_safetensors(model);
  const auto as_pth = test::to_pth(model);
  const auto as_gguf = test::gguf_of(model, DType::f32, 4).finish();
  const auto as_ggmf = test::to_ggmf(model);
  std::string first;
  for (const auto* bytes : {&as_safetensors, &as_pth, &as_gguf, &as_ggmf}) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {  // all can hold the sample
      CAPTURE(rwkv::name_of(type));
      auto checkpoint = rwkv::io::read_checkpoint(*bytes, "sample");
      rwkv::convert(checkpoint, directory / "m.gguf", {.type = type});
      const auto gguf = read(directory / "m.gguf");
      CHECK(test::difference(gguf, model) == "");
      CHECK(gguf.get("blocks.1.ffn.key.weight").dtype == type);
      CHECK(gguf.get("blocks.1.att.g1").dtype == type);
      CHECK(gguf.get("blocks.1.att.w1").dtype == DType::f32);
      CHECK(gguf.get("blocks.1.ln1.weight").dtype == DType::f32);
      rwkv::convert(gguf, directory / "m.st", {.format = FileFormat::safetensors, .type = type});
      const auto back = read(directory / "m.st");
      CHECK(test::difference(back, model) == "");
      for (const auto& [name, tensor] : back.tensors) CHECK(tensor.dtype == type);
    }
    rwkv::io::Checkpoint unnamed = rwkv::io::read_checkpoint(*bytes, "sample");
    rwkv::convert(unnamed, directory / "m.gguf", {.type = DType::f16});
    const std::string written = test::read_file(directory / "m.gguf");
    if (first.empty()) first = written;
    CHECK(written == first);  // GGUF says the same name, "sample"
  }
}

TEST_CASE("every block type: right tensors, right blocks, same bytes on any number of threads") {
  const test::TemporaryDirectory directory;
  test::Thinned types(3), encoded(2);  // the encoders are tested by themselves, too
  for (const DType type : block_types) {
    if (encoded.leaves_out()) continue;
    CAPTURE(rwkv::name_of(type));
    const auto checkpoint =
        test::sample_checkpoint(rwkv::block_elements(type) == 32 ? narrow : wide);
    rwkv::convert(checkpoint, directory / "one.gguf", {.type = type});
    if (types.leaves_out()) continue;
    test::Backwards seven(7);
    rwkv::convert(checkpoint, directory / "seven.gguf", {.type = type}, seven);
    CHECK(test::read_file(directory / "one.gguf") == test::read_file(directory / "seven.gguf"));

    const auto gguf = read(directory / "one.gguf");
    CHECK(gguf.tensors.size() == checkpoint.tensors.size());
    std::size_t blocks = 0;
    for (const auto& entry : rwkv::io::layout_of(rwkv::io::dimensions_of(checkpoint))) {
      CAPTURE(entry.name);
      const auto& stored = gguf.get(entry.name);
      const auto values = checkpoint.get(entry.name).values();
      CHECK(stored.shape == entry.shape);
      if (!rwkv::is_block(stored.dtype)) {
        CHECK(stored.values() == values);
        continue;
      }
      ++blocks;
      const auto expected = test::encode(values, stored.dtype);
      CHECK(std::equal(stored.bytes.begin(), stored.bytes.end(), expected.begin(), expected.end()));
    }
    CHECK(blocks == 2 + 2 * 6 - 1);  // table, head, six matrices per block but the first output
    CHECK(gguf.get("blocks.1.ffn.value.weight").dtype == type);
    CHECK(gguf.get("blocks.0.att.output.weight").dtype == DType::f16);
  }
}

TEST_CASE("matrices to keep have 16 bits among blocks, also when the model itself names them") {
  const test::TemporaryDirectory directory;
  const auto with = [&](rwkv::io::Checkpoint checkpoint, const rwkv::ConvertOptions& options) {
    rwkv::convert(checkpoint, directory / "m.gguf", options);
    return read(directory / "m.gguf");
  };
  const auto differing = [](const rwkv::io::Checkpoint& a, const rwkv::io::Checkpoint& b) {
    std::string names;
    for (const auto& [name, tensor] : a.tensors)
      if (b.get(name).dtype != tensor.dtype) names += name + ' ';
    return names;
  };
  const std::string value = "blocks.0.att.value.weight", key = "blocks.1.ffn.key.weight";
  const auto checkpoint = test::sample_checkpoint(wide);
  const auto plain = with(checkpoint, {.type = DType::q4_0});
  const auto one = with(checkpoint, {.type = DType::q4_0, .keep = {value}});
  CHECK(differing(one, plain) == value + ' ');
  CHECK(one.get(value).dtype == DType::f16);
  CHECK(one.get(value).values() == checkpoint.get(value).values());

  // What was kept once is kept again, and another besides.
  const auto both = with(one, {.type = DType::q8_0, .keep = {key, value, "head.weight", key}});
  CHECK(both.metadata.at("rwkv.keep") == value + ',' + key + ",head.weight");
  CHECK(both.get("head.weight").dtype == DType::f16);
  CHECK(differing(both, with(checkpoint, {.type = DType::q8_0})) ==
        value + ' ' + key + " head.weight ");
  rwkv::convert(both, directory / "m.st", {.format = FileFormat::safetensors});
  CHECK(differing(with(read(directory / "m.st"), {.type = DType::q8_0}), both) == "");

  auto refused = checkpoint;
  for (const char* name : {"blocks.0.ln1.weight", "value", "", "blocks.2.att.value.weight"}) {
    CAPTURE(name);
    CHECK_THROWS_WITH_AS(with(checkpoint, {.keep = {name}}), doctest::Contains("is no matrix"),
                         rwkv::Error);
    refused.metadata.insert_or_assign("rwkv.keep", value + ',' + name);
    CHECK_THROWS_WITH_AS(with(refused, {}), doctest::Contains("metadata rwkv.keep"), rwkv::Error);
  }
}

TEST_CASE("blocks of the wanted type are copied, not encoded again") {
  const test::TemporaryDirectory directory;
  rwkv::convert(test::sample_checkpoint(wide), directory / "once.gguf", {.type = DType::q4_k});
  const auto once = read(directory / "once.gguf");
  rwkv::convert(once, directory / "twice.gguf", {.type = DType::q4_k});
  CHECK(test::read_file(directory / "once.gguf") == test::read_file(directory / "twice.gguf"));
  // And to floats: the numbers that the blocks stand for.
  rwkv::convert(once, directory / "back.st",
                {.format = FileFormat::safetensors, .type = DType::f32});
  const auto back = read(directory / "back.st");
  for (const auto& [name, tensor] : once.tensors) CHECK(back.get(name).values() == tensor.values());
}

TEST_CASE("importance reaches the matrix that it is for") {
  const test::TemporaryDirectory directory;
  const auto checkpoint = test::sample_checkpoint(wide);
  ConvertOptions options{.type = DType::q4_0};
  rwkv::convert(checkpoint, directory / "equal.gguf", options);
  std::vector<float> importance(256, 0.01f);
  importance[5] = 100;
  options.importance["blocks.1.att.key.weight"] = importance;
  rwkv::convert(checkpoint, directory / "weighted.gguf", options);
  const auto equal = read(directory / "equal.gguf");
  const auto weighted = read(directory / "weighted.gguf");
  const auto error_of_column_5 = [&](const rwkv::io::Checkpoint& c) {
    const auto got = c.get("blocks.1.att.key.weight").values();
    const auto want = checkpoint.get("blocks.1.att.key.weight").values();
    double sum = 0;
    for (std::size_t r = 0; r < 256; ++r)
      sum += std::pow(double{got[r * 256 + 5]} - want[r * 256 + 5], 2);
    return sum;
  };
  CHECK(error_of_column_5(weighted) < 0.2 * error_of_column_5(equal));
  for (const auto& [name, tensor] : equal.tensors)
    if (name != "blocks.1.att.key.weight") CHECK(weighted.get(name).values() == tensor.values());
  options.importance["blocks.1.att.key.weight"].pop_back();
  CHECK(refusal(checkpoint, options, "255 importances for 256 columns") == ErrorCategory::shape);
}

TEST_CASE("vocabularies and eigenvalues travel along") {
  const test::TemporaryDirectory directory;
  auto checkpoint = test::sample_checkpoint();
  checkpoint.metadata["rwkv.eigenvalues"] = "extended";
  const rwkv::io::Vocabulary vocabulary{"", "a", "\xff", "", "bc"};
  rwkv::convert(checkpoint, directory / "m.gguf", {.type = DType::f32, .vocabulary = vocabulary});
  const auto gguf = read(directory / "m.gguf");
  auto padded = vocabulary;
  padded.resize(10);
  CHECK(gguf.vocabulary == padded);
  CHECK(gguf.metadata.at("general.architecture") == "rwkv7-extended");
  CHECK(gguf.metadata.at("general.name") == "sample");
  CHECK(rwkv::Model<>(gguf).weights().eigenvalues() == rwkv::Eigenvalues::extended);
  rwkv::convert(gguf, directory / "m.st", {.format = FileFormat::safetensors});
  const auto back = read(directory / "m.st");
  CHECK(back.vocabulary == vocabulary);
  CHECK(back.metadata.at("rwkv.eigenvalues") == "extended");
  CHECK(refusal(checkpoint, {.vocabulary = rwkv::io::Vocabulary(11, "x")}, "only 10 tokens") ==
        ErrorCategory::argument);
  checkpoint.metadata["rwkv.eigenvalues"] = "round";
  CHECK(refusal(checkpoint, {}, "\"round\"") == ErrorCategory::unsupported);
}

TEST_CASE("a model of 256 tokens without a vocabulary reads bytes") {
  const test::TemporaryDirectory directory;
  rwkv::convert(test::sample_checkpoint({.vocab = 256}), directory / "m.gguf");
  const auto gguf = read(directory / "m.gguf");
  REQUIRE(gguf.vocabulary.has_value());
  for (std::size_t byte = 0; byte < 256; ++byte)
    CHECK(gguf.vocabulary->at(byte) == std::string(1, static_cast<char>(byte)));
  rwkv::convert(test::sample_checkpoint({.vocab = 255}), directory / "m.gguf");
  CHECK_FALSE(read(directory / "m.gguf").vocabulary.has_value());
}

TEST_CASE("a converted model carries a self-test that it passes, in every type") {
  const test::TemporaryDirectory directory;
  const auto source = read(golden_model("golden_l2_c32_f32"));
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const FileFormat format : {FileFormat::gguf, FileFormat::safetensors}) {
      rwkv::convert(source, directory / "m", {.format = format, .type = type});
      const auto converted = read(directory / "m");
      const auto result = rwkv::verify(rwkv::Model<>(converted), converted);
      CHECK(result.tokens == 32);
      CHECK(result.same_top == 32);
      CHECK(result.relative_error() <= 1e-6);
      CHECK(result.largest_logit > 0.1);
      CHECK(result.passed());
    }
  }
  rwkv::convert(source, directory / "m", {.self_test = false});
  for (const auto& [key, value] : read(directory / "m").metadata)
    CHECK(key.find("self_test") == std::string::npos);
}

TEST_CASE("progress goes from some to all") {
  const test::TemporaryDirectory directory;
  std::vector<double> seen;
  ConvertOptions options;
  options.progress = [&](double done) { seen.push_back(done); };
  rwkv::convert(test::sample_checkpoint(), directory / "m", options);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.size() > 10);
  CHECK(seen.front() > 0);
  CHECK(seen.back() == 1);
}

TEST_CASE("what cannot be converted is refused, and an earlier file stays") {
  const auto good = test::sample_checkpoint();
  CHECK(refusal(good, {.type = DType::f64}, "not written as f64") == ErrorCategory::argument);
  CHECK(refusal(good, {.type = DType::i32}, "not written as i32") == ErrorCategory::argument);
  CHECK(refusal(good, {.format = FileFormat::safetensors, .type = DType::q4_0},
                "safetensors models are not written as q4_0") == ErrorCategory::argument);
  {
    auto c = good;
    c.tensors.erase("blocks.1.att.k_a");
    CHECK(refusal(c, {}, "blocks.1.att.k_a is missing") == ErrorCategory::format);
  }
  {
    auto c = good;
    test::replace<float>(c, "blocks.1.att.key.weight", {8, 9}, std::vector<float>(72));
    CHECK(refusal(c, {}, "\"blocks.1.att.key.weight\" has shape [8, 9] where [8, 8]") ==
          ErrorCategory::format);
  }
  {
    auto c = good;
    test::replace<std::int32_t>(c, "ln_out.bias", {8}, std::vector<std::int32_t>(8));
    CHECK(refusal(c, {}, "\"ln_out.bias\" has elements of type i32") == ErrorCategory::unsupported);
  }
  {
    auto c = good;
    test::replace<float>(c, "blocks.0.s_emb", {1}, {0});
    CHECK(refusal(c, {}, "\"blocks.0.s_emb\" [1] is not part of RWKV-7") ==
          ErrorCategory::unsupported);
  }
  {
    auto c = good;
    std::vector<float> values(8);
    values[3] = HUGE_VALF;
    test::replace<float>(c, "blocks.1.ln1.bias", {8}, values);
    CHECK(refusal(c, {}, "\"blocks.1.ln1.bias\": the number at row 0, column 3") ==
          ErrorCategory::numeric);
  }
  CHECK(refusal(rwkv::io::Checkpoint{}, {}, "not an RWKV-7 model") == ErrorCategory::unsupported);
}

TEST_CASE("a full disk and a pipe") {
  if (!std::filesystem::is_character_file("/dev/full")) return;
  const auto checkpoint = test::sample_checkpoint();
  CHECK_THROWS_WITH_AS(rwkv::convert(checkpoint, "/dev/full", {.self_test = false}),
                       doctest::Contains("/dev/full: cannot write"), Error);
  CHECK_THROWS_WITH_AS(rwkv::convert(checkpoint, "/dev/null"),
                       doctest::Contains("/dev/null: cannot read back"), Error);
  CHECK_NOTHROW(rwkv::convert(checkpoint, "/dev/null", {.self_test = false}));
}

#ifdef RWKV_GOLDENS
TEST_CASE("the published blocks survive the way into GGUF") {
  const test::TemporaryDirectory directory;
  const auto folder = std::filesystem::path(RWKV_GOLDENS) / "tiny-rwkv";
  const auto source = read(folder / "tiny-rwkv-7v0-834K-Q5_1.bin");
  rwkv::convert(source, directory / "m.gguf", {.type = DType::q5_1});
  const auto gguf = read(directory / "m.gguf");
  for (const auto& entry : source.tensors) {
    const std::string& name = entry.first;
    const rwkv::io::Tensor& tensor = entry.second;
    CAPTURE(name);
    if (tensor.dtype == DType::q5_1 && name != "blocks.0.att.output.weight") {
      CHECK(gguf.get(name).dtype == DType::q5_1);
      CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), gguf.get(name).bytes.begin()));
    }
  }
}
#endif
