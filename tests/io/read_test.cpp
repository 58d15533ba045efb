// SPDX-License-Identifier: Apache-2.0
#include "../support/hostile.hpp"
#include "../support/temporary_directory.hpp"
#include <rwkv/io/read.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::io::Checkpoint;
using rwkv::io::read_checkpoint;
using test::Bytes;

namespace {

Checkpoint parse(std::span<const std::byte> bytes) { return read_checkpoint(bytes, "file"); }

std::vector<std::pair<std::string, Bytes>> every_format(
    const std::vector<test::SampleTensor>& model) {
  return {{"safetensors", test::to_safetensors(model, DType::bf16)},
          {"safetensors", test::to_safetensors(test::with_fla_names(model, false), DType::f16)},
          {"safetensors", test::to_safetensors(test::with_fla_names(model, true))},
          {"safetensors", test::to_safetensors(test::with_web_rwkv_layout(model), DType::f16)},
          {"pth", test::to_pth(model, DType::bf16)},
          {"pth", test::to_pth(test::with_fla_names(model, false))},
          {"gguf", test::gguf_of(model, DType::f16, 4).finish()},
          {"ggmf", test::to_ggmf(model, 1)}};
}

// A fla model in two files, and their index.
void write_sharded(const test::TemporaryDirectory& directory,
                   const std::vector<test::SampleTensor>& model) {
  const auto fla = test::with_fla_names(model, false);
  std::vector<test::SampleTensor> first(fla.begin(), fla.begin() + 20);
  std::vector<test::SampleTensor> second(fla.begin() + 20, fla.end());
  std::string map;
  for (std::size_t i = 0; i < fla.size(); ++i)
    map += (i > 0 ? ",\"" : "\"") + fla[i].name + (i < 20 ? "\":\"first\"" : "\":\"second\"");
  test::write_file(directory / "first", test::to_safetensors(first));
  test::write_file(directory / "second", test::to_safetensors(second));
  test::write_file(directory / "model.safetensors.index.json",
                   R"({"metadata":{"total_size":1.5e3,"a":[null,{"weight_map":true}]},)"
                   R"("weight_map":{)" +
                       map + "}}\n");
}

}  // namespace

TEST_CASE("one model, every format, the same values under the same names") {
  const test::TemporaryDirectory directory;
  const auto model = test::sample_model();
  int number = 0;
  for (const auto& [format, bytes] : every_format(model)) {
    CAPTURE(number);
    CHECK(test::difference(parse(bytes), model) == "");
    const auto path = directory / (std::to_string(number++) + ".misleading.gguf");
    test::write_file(path, bytes);
    const Checkpoint checkpoint = read_checkpoint(path);
    CHECK(test::difference(checkpoint, model) == "");
    CHECK(checkpoint.format == format);
    CHECK(checkpoint.source == path.string());
  }
}

TEST_CASE("a checkpoint keeps its file open, and pages can be released") {
  const test::TemporaryDirectory directory;
  const auto model = test::sample_model();
  test::write_file(directory / "m", test::to_safetensors(model));
  Checkpoint copy;
  {
    const Checkpoint checkpoint = read_checkpoint(directory / "m");
    copy = checkpoint;
  }
  std::filesystem::remove(directory / "m");
  for (const auto& entry : copy.tensors) copy.release(entry.second.bytes);
  CHECK(test::difference(copy, model) == "");
}

TEST_CASE("a model in several files, by directory or by index") {
  const test::TemporaryDirectory directory;
  const auto model = test::sample_model();
  write_sharded(directory, model);
  const Checkpoint checkpoint = read_checkpoint(directory.path());
  CHECK(test::difference(checkpoint, model) == "");
  for (const auto& entry : checkpoint.tensors) checkpoint.release(entry.second.bytes);
  CHECK(test::difference(checkpoint, model) == "");
  CHECK(test::difference(read_checkpoint(directory / "model.safetensors.index.json"), model) == "");

  SUBCASE("a missing file") {
    std::filesystem::remove(directory / "second");
    CHECK_THROWS_WITH_AS((void)read_checkpoint(directory.path()),
                         doctest::Contains("/second: cannot"), Error);
  }
  SUBCASE("a file that lacks a tensor") {
    test::write_file(directory / "second", test::to_safetensors({}));
    CHECK_THROWS_WITH_AS((void)read_checkpoint(directory.path()),
                         doctest::Contains("is not in second"), Error);
  }
  SUBCASE("a tensor in both files") {
    std::filesystem::copy_file(directory / "first", directory / "second",
                               std::filesystem::copy_options::overwrite_existing);
    CHECK_THROWS_WITH_AS((void)read_checkpoint(directory.path()),
                         doctest::Contains("is in another file"), Error);
  }
}

TEST_CASE("a directory with one file, and one without") {
  const test::TemporaryDirectory directory;
  CHECK_THROWS_WITH_AS((void)read_checkpoint(directory.path()), doctest::Contains("has neither"),
                       Error);
  const auto model = test::sample_model();
  test::write_file(directory / "model.safetensors", test::to_safetensors(model));
  CHECK(test::difference(read_checkpoint(directory.path()), model) == "");
}

TEST_CASE("an index that is none is refused") {
  const test::TemporaryDirectory directory;
  const auto refusal = [&](const std::string& text) -> std::string {
    test::write_file(directory / "index", text);
    try {
      (void)read_checkpoint(directory / "index");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto mentions = [](const std::string& sentence, const std::string& part) {
    return sentence.find(part) != std::string::npos;
  };
  CHECK(mentions(refusal("{"), "not valid JSON"));
  CHECK(mentions(refusal("{}"), "no weight_map"));
  CHECK(mentions(refusal(R"({"weight_map":{}})"), "no weight_map"));
  CHECK(mentions(refusal(R"({"a":{"weight_map":{"x":"y"}}})"), "no weight_map"));
  CHECK(mentions(refusal(R"({"weight_map":{"x":1}})"), "no file name"));
  CHECK(mentions(refusal(R"({"weight_map":{"x":{}}})"), "an object"));
  CHECK(mentions(refusal(R"({"weight_map":{"x":["y"]}})"), "no file name"));
  CHECK(mentions(refusal(R"({"weight_map":{"x":"a","x":"a"}})"), "twice"));
  for (const char* file : {"../secret", "/etc/passwd", "a\\\\b", "..", ""})
    CHECK(mentions(refusal(R"({"weight_map":{"x":")" + std::string(file) + "\"}}"),
                   "no file beside it"));
  CHECK(mentions(refusal(R"({"a":)" + std::string(100'000, '[')), "not valid JSON"));
}

TEST_CASE("what is no model is refused with a sentence") {
  const auto refusal = [](const std::string& text) {
    return test::read_or_refuse(std::as_bytes(std::span(text)), parse);
  };
  const auto mentions = [](const std::string& sentence, const std::string& part) {
    return sentence.find(part) != std::string::npos;
  };
  CHECK(mentions(refusal(""), "no model file"));
  CHECK(mentions(refusal("x"), "no model file"));
  CHECK(mentions(refusal("<!DOCTYPE html><html>"), "no model file"));
  CHECK(mentions(refusal("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"));
  CHECK(mentions(refusal("GGUF"), "ends in the middle"));
  CHECK(mentions(refusal("fmgg"), "ends in the middle"));
  CHECK(mentions(refusal("PK\3\4"), "no directory"));
  CHECK(mentions(refusal("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19."), "before torch 1.6"));
  CHECK(mentions(refusal(std::string("\x20\0\0\0\0\0\0\0{", 9)), "ends in the middle"));
}

TEST_CASE("damaged files of every format are read or refused") {
  const auto model =
      test::sample_model({.layers = 1, .embed = 4, .head_size = 4, .ffn = 4, .vocab = 2});
  for (const auto& format : every_format(model)) {
    CAPTURE(format.first);
    const Bytes& bytes = format.second;
    CHECK(test::truncate_everywhere(bytes, parse) < model.size());
    CHECK(test::flip_bytes(bytes, bytes.size() / 3, 1000, parse) > 300);
  }
}

TEST_CASE("a file that is missing is refused by name") {
  CHECK_THROWS_WITH_AS((void)read_checkpoint("no such model"),
                       "no such model: cannot open this file: No such file or directory", Error);
}

#ifdef RWKV_GOLDENS
TEST_CASE("every golden model opens under official names") {
  const std::filesystem::path goldens(RWKV_GOLDENS);
  for (const char* name : {"r7_l2_c32", "r7_l2_c64", "r7_l3_c128", "r7_l4_c96"}) {
    const auto model = read_checkpoint(goldens / "rwkv7" / name / "model.pth");
    const auto twin = read_checkpoint(goldens / "rwkv7" / name / "model.safetensors");
    CHECK(model.tensors.size() == twin.tensors.size());
    for (const auto& entry : twin.tensors) {
      CAPTURE(entry.first);
      CHECK(model.get(entry.first).shape == entry.second.shape);
      CHECK(model.get(entry.first).values() == entry.second.values());
    }
    CHECK(model.get("blocks.1.att.x_g").shape.size() == 3);
  }
  for (const char* name : {"rx_c128_r2m1", "rx_c64_r5m2"}) {
    const auto hybrid = read_checkpoint(goldens / "rwkvx" / name / "model.pth");
    CHECK(hybrid.find("emb.weight") != nullptr);
    CHECK(hybrid.find("moba.0.att.key.weight") != nullptr);
  }
}
#endif
