// SPDX-License-Identifier: Apache-2.0
#include "../support/hostile.hpp"
#include "../support/temporary_directory.hpp"
#include <rwkv/io/gguf.hpp>
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
    CHECK_THROWS_WITH_AS(
        (void)read_checkpoint(directory.path()),
        doctest::Contains("is in 2 files, of which 1 is not in this folder: second"), Error);
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
  CHECK_THROWS_WITH_AS((void)read_checkpoint(directory.path()),
                       doctest::Contains("there is no model in this folder"), Error);
  const auto model = test::sample_model();
  test::write_file(directory / "model.safetensors", test::to_safetensors(model));
  CHECK(test::difference(read_checkpoint(directory.path()), model) == "");
}

namespace {

std::vector<std::vector<test::SampleTensor>> cut(const std::vector<test::SampleTensor>& model,
                                                 std::size_t parts) {
  std::vector<std::vector<test::SampleTensor>> out(parts);
  for (std::size_t i = 0; i < model.size(); ++i) out[i * parts / model.size()].push_back(model[i]);
  return out;
}

std::string number(std::size_t k, std::size_t count) {
  return "-0000" + std::to_string(k) + "-of-0000" + std::to_string(count);
}

// The sentence with which a path is refused, or "read".
std::string outcome(const std::filesystem::path& path) {
  try {
    (void)read_checkpoint(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "read";
}

bool mentions(const std::string& sentence, std::string_view part) {
  return sentence.find(part) != std::string::npos;
}

// What gguf-split makes of a model: all metadata in the first part, three numbers in each.
std::vector<Bytes> split_gguf(const std::vector<test::SampleTensor>& model) {
  const Bytes whole = test::gguf_of(model, DType::f16, 4).finish();
  const auto read = rwkv::io::detail::GgufReader(whole, "file").read({});
  std::vector<Bytes> out;
  constexpr std::size_t parts = 3;
  for (std::size_t k = 0; k < parts; ++k) {
    test::GgufWriter part;
    if (k == 0) {
      part.text("general.architecture", "rwkv7");
      part.number("rwkv7.wkv.head_size", 4);
      part.text("tokenizer.ggml.model", "rwkv");
      part.texts("tokenizer.ggml.tokens", {"<s>", "a"});
    }
    part.number("split.no", static_cast<std::uint32_t>(k));
    part.number("split.count", parts);
    part.number("split.tensors.count", static_cast<std::uint32_t>(read.tensors.size()));
    for (std::size_t i = 0; i < read.tensors.size(); ++i) {
      const auto& t = read.tensors[i];
      if (i * parts / read.tensors.size() != k) continue;
      std::size_t n = t.type == 0 ? 4 : 2;
      for (const std::size_t d : t.shape) n *= d;
      const auto bytes = read.data.subspan(static_cast<std::size_t>(t.offset), n);
      part.tensor(std::string(t.name), t.shape, t.type, Bytes(bytes.begin(), bytes.end()));
    }
    out.push_back(part.finish());
  }
  return out;
}

}  // namespace

TEST_CASE("a model in numbered files, by any of them, by its folder and by its config.json") {
  const auto model = test::sample_model();
  const auto parts = cut(model, 3);
  for (const char* const ending : {".safetensors", ".bin", ".gguf"}) {
    CAPTURE(ending);
    const test::TemporaryDirectory directory;
    const auto gguf = split_gguf(model);
    for (std::size_t k = 1; k <= 3; ++k)
      test::write_file(directory / ("m" + number(k, 3) + ending),
                       ending[1] == 's'   ? test::to_safetensors(parts[k - 1])
                       : ending[1] == 'b' ? test::to_pth(parts[k - 1])
                                          : gguf[3 - k]);  // numbered inside, too
    for (std::size_t k = 1; k <= 3; ++k) {
      const Checkpoint whole = read_checkpoint(directory / ("m" + number(k, 3) + ending));
      CHECK(test::difference(whole, model) == "");
      CHECK(whole.folder == directory.path().string());
      for (const auto& entry : whole.tensors) whole.release(entry.second.bytes);
      CHECK(test::difference(whole, model) == "");
    }
    CHECK(test::difference(read_checkpoint(directory.path()), model) == "");
    test::write_file(directory / "config.json", R"({"model_type":"rwkv7","hidden_size":8})");
    CHECK(test::difference(read_checkpoint(directory / "config.json"), model) == "");
    CHECK(read_checkpoint(directory.path()).metadata.contains("config.hidden_size") ==
          (ending[1] != 'g'));

    std::filesystem::remove(directory / ("m" + number(2, 3) + ending));
    const std::string missing = "1 is not in this folder: m" + number(2, 3) + ending;
    CHECK(mentions(outcome(directory.path()), missing));
    CHECK(mentions(outcome(directory / ("m" + number(3, 3) + ending)), missing));
  }
}

TEST_CASE("GGUF parts that do not belong together are refused") {
  const test::TemporaryDirectory directory;
  const auto parts = split_gguf(test::sample_model());
  const auto refusal = [&](std::size_t a, std::size_t b, std::size_t c) {
    std::size_t k = 1;
    for (const std::size_t i : {a, b, c})
      test::write_file(directory / ("m" + number(k++, 3) + ".gguf"), parts[i]);
    return outcome(directory.path());
  };
  CHECK(refusal(2, 0, 1) == "read");
  CHECK(mentions(refusal(0, 1, 1), "split.no is 1, as in another part"));
  CHECK(mentions(test::read_or_refuse(parts[1], parse), "part 2 of 3 of a model"));
  test::write_file(directory / "lone.gguf", parts[0]);
  CHECK(mentions(outcome(directory / "lone.gguf"), "part 1 of 3 of a model"));
  const auto whole = test::gguf_of(test::sample_model(), DType::f16, 4).finish();
  test::write_file(directory / ("whole" + number(1, 2) + ".gguf"), whole);  // only its name is odd
  CHECK(outcome(directory / ("whole" + number(1, 2) + ".gguf")) == "read");
  for (std::size_t k = 0; k < parts.size(); ++k)
    CHECK(test::flip_bytes(parts[k], parts[k].size() / 3, 200, [&](auto bytes) {
            std::vector<rwkv::io::ModelPart> all;
            for (const Bytes& part : parts) all.push_back({part, "file"});
            all[k].bytes = bytes;
            return rwkv::io::read_gguf(all);
          }) > 60);
}

TEST_CASE("which of a folder's files is the model") {
  const test::TemporaryDirectory directory;
  const auto model = test::sample_model();
  const auto other = test::sample_model({}, 2);
  const auto write = [&](const char* name, const std::vector<test::SampleTensor>& m) {
    test::write_file(directory / name, test::to_safetensors(m));
  };
  const auto is_model = [&] {
    return test::difference(read_checkpoint(directory.path()), model) == "";
  };
  SUBCASE("a lone file of any name, beside what training leaves behind") {
    for (const char* name :
         {"rwkv7-0.1b.pth", "a.st", "a.gguf", "a.bin", "a.pt", "a.safetensors"}) {
      write(name, model);
      for (const char* rest : {"optimizer.pt", "training_args.bin", "rng_state_0.pth", "notes.txt",
                               "adapter_model.safetensors"})
        test::write_file(directory / rest, "x");
      CHECK(is_model());
      std::filesystem::remove(directory / name);
    }
    CHECK(mentions(outcome(directory.path()), "no model in this folder"));
  }
  SUBCASE("several files") {
    write("a.pth", model);
    write("b.gguf", model);
    CHECK(mentions(outcome(directory.path()), "2 models in this folder; name one: a.pth, b.gguf"));
    write("pytorch_model.bin", model);
    CHECK(is_model());
    write("pytorch_model.bin", other);
    write("model.safetensors", model);
    CHECK(is_model());
  }
  SUBCASE("an index that is left over") {
    write_sharded(directory, other);
    std::filesystem::remove(directory / "first");
    CHECK(mentions(outcome(directory.path()), "1 is not in this folder: first"));
    std::filesystem::remove(directory / "second");
    CHECK(mentions(outcome(directory.path()), "2 are not in this folder: first, second"));
    write("x.pth", model);
    CHECK(is_model());
    write("model.safetensors", model);
    CHECK(is_model());
    CHECK(test::difference(read_checkpoint(directory / "model.safetensors.index.json"), model) ==
          "");
  }
  SUBCASE("an index of .bin files beside one of safetensors") {
    write_sharded(directory, model);
    std::filesystem::copy_file(directory / "model.safetensors.index.json",
                               directory / "pytorch_model.bin.index.json");
    CHECK(is_model());
    std::filesystem::rename(directory / "model.safetensors.index.json", directory / "x.index.json");
    CHECK(mentions(outcome(directory.path()), "name one: pytorch_model.bin.index.json, x.index"));
    std::filesystem::remove(directory / "x.index.json");
    CHECK(is_model());
  }
  SUBCASE("a file called model.safetensors that is one of several") {
    const auto parts = cut(model, 2);
    write("model.safetensors", parts[0]);
    write("more.safetensors", parts[1]);
    test::write_file(directory / "model.safetensors.index.json",
                     R"({"weight_map":{"emb.weight":"model.safetensors",)"
                     R"("head.weight":"more.safetensors"}})");
    CHECK(is_model());
  }
}

TEST_CASE("the configuration beside the weights") {
  const test::TemporaryDirectory directory;
  const auto model = test::sample_model();
  test::write_file(directory / "model.safetensors", test::to_safetensors(model));
  const auto config = [&](const std::string& text) {
    test::write_file(directory / "config.json", text);
  };
  config("\xef\xbb\xbf{\"model_type\":\"rwkv7\",\"hidden_size\":8,\"tags\":[1,{\"a\":2}]}");
  for (const auto& path :
       {directory.path(), directory / "model.safetensors", directory / "config.json"})
    CHECK(read_checkpoint(path).metadata.at("config.hidden_size") == "8");
  config(R"({"model_type":"RWKV7","hidden_size":8})");
  for (const auto& path : {directory.path(), directory / "model.safetensors"})
    CHECK(read_checkpoint(path).metadata.at("config.hidden_size") == "8");
  config(R"({"model_type":"llama"})");
  CHECK(mentions(outcome(directory.path()),
                 "config.json: this is the configuration of a model of "
                 "type \"llama\", which is no RWKV"));
  CHECK(outcome(directory / "model.safetensors") == "read");  // which may lie beside anything
  config("{");
  CHECK(mentions(outcome(directory.path()), "config.json: the configuration is not valid JSON"));
}

#if !defined(_WIN32)
TEST_CASE("names in a folder of links count, not those of the files behind them") {
  const test::TemporaryDirectory directory;
  const auto model = test::sample_model();
  const auto parts = cut(model, 2);
  std::filesystem::create_directory(directory / "blobs");
  std::filesystem::create_directory(directory / "snapshot");
  for (std::size_t k = 0; k < 2; ++k) {
    const std::string blob = "blobs/" + std::string(40, static_cast<char>('a' + k));
    test::write_file(directory / blob, test::to_safetensors(parts[k]));
    std::filesystem::create_symlink(
        directory / blob, directory / ("snapshot/model" + number(k + 1, 2) + ".safetensors"));
  }
  CHECK(test::difference(read_checkpoint(directory / "snapshot"), model) == "");
  CHECK(test::difference(
            read_checkpoint(directory / ("snapshot/model" + number(2, 2) + ".safetensors")),
            model) == "");
  std::filesystem::remove(directory / ("blobs/" + std::string(40, 'a')));  // not downloaded yet
  CHECK(mentions(outcome(directory / "snapshot"), "1 is not in this folder: model" + number(1, 2)));
}
#endif

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
  CHECK(mentions(refusal("1 '\\x00' 1\n2 '\\x01' 1\n"), "a vocabulary and no model"));
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
    CHECK(test::flip_bytes(bytes, bytes.size() / 3, 300, parse) > 90);
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
