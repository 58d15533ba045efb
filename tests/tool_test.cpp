// SPDX-License-Identifier: Apache-2.0
// The command-line tool from outside: its contract is what scripts and other programs rely on.
#include "support/golden.hpp"
#include "support/sample_hybrid.hpp"
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/io/safetensors_writer.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <sys/wait.h>

#ifdef RWKV_TOOL

namespace {

const std::string model = std::string(RWKV_TEST_DATA) + "/golden_l2_c32_f32.model.safetensors";
const std::string other_model =
    std::string(RWKV_TEST_DATA) + "/golden_l3_c48_bf16.model.safetensors";

struct Outcome {
  int status = -1;
  std::string out;
  std::string err;
};

std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void spit(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

/// A folder for one test, and the tool run in it.
class Shell {
 public:
  Outcome run(const std::string& arguments) const {
    const std::string command = "cd '" + path("").string() +
                                "' && '" RWKV_TOOL "' </dev/null >stdout.txt 2>stderr.txt " +
                                arguments;
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(path("stdout.txt")),
            slurp(path("stderr.txt"))};
  }
  std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }

 private:
  test::TemporaryDirectory folder_;
};

void check_refused(const Outcome& o) {
  CHECK(o.status == 1);
  CHECK(o.err.starts_with("error: "));
  CHECK(std::count(o.err.begin(), o.err.end(), '\n') == 1);
}

std::string quoted(const std::string& text) { return "'" + text + "'"; }

std::string some_tokens(std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i)
    text += std::to_string((i * i * 7 + 3 * i) % 40) + (i % 9 ? " " : "\n");
  return text;
}

}  // namespace

TEST_CASE("levels: listed, and chosen by name") {
  const Shell shell;
  const auto list = shell.run("levels");
  REQUIRE(list.status == 0);
  CHECK(list.out.find("compiled") == 0);
  CHECK(list.out.find(" used\n") != std::string::npos);
  const std::string generate = "generate --prompt 'The king' --tokens 10 --temperature 0 --level ";
  const auto compiled = shell.run(generate + "compiled");
  CHECK(compiled.status == 0);
  CHECK(compiled.out.starts_with("The king"));
  CHECK(shell.run(generate + "avx1024").status == 2);
#if defined(__x86_64__)
  check_refused(shell.run(generate + "i8mm"));
#endif
}

TEST_CASE("a model is quantised as it is loaded: what its conversion says") {
  const Shell shell;
  const std::string tales = quoted(std::string(RWKV_MODELS) + "/tales/tales.safetensors");
  REQUIRE(shell.run("convert " + tales + " small.gguf --type q8_0 --no-self-test").status == 0);
  const std::string options = " --prompt 'The king' --tokens 40 --seed 3";
  const auto file = shell.run("generate small.gguf" + options);
  const auto loaded = shell.run("generate " + tales + " --quantise q8_0" + options);
  REQUIRE(file.status == 0);
  REQUIRE(loaded.status == 0);
  CHECK(loaded.out == file.out);
  CHECK(shell.run("generate " + tales + " --quantise q9_0" + options).status == 2);
}

TEST_CASE("without a prompt a text begins") {
  const Shell shell;
  const auto o = shell.run("generate --prompt '' --tokens 20 --seed 1");
  CHECK(o.status == 0);
  CHECK(o.out.size() > 10);
}

TEST_CASE("info describes a model") {
  const Shell shell;
  const auto o = shell.run("info " + quoted(model) + " --json");
  REQUIRE(o.status == 0);
  const auto j = nlohmann::json::parse(o.out);
  CHECK(j["architecture"] == "rwkv7");
  CHECK(j["layers"] == 2);
  CHECK(j["embed"] == 32);
  CHECK(j["head_size"] == 16);
  CHECK(j["dtypes"]["f32"].get<int>() > 0);
  CHECK(j["state_bytes"] == 2 * (2 * 32 + 32 * 16) * 4);
  CHECK(j["parameters"].get<std::size_t>() * 4 <= j["weight_bytes"].get<std::size_t>());
  CHECK(shell.run("info " + quoted(model)).out.find("layers") != std::string::npos);
}

TEST_CASE("logits are the same for every chunk and number of threads, and right") {
  const Shell shell;
  spit(shell.path("tokens.txt"), some_tokens(200));
  const std::string base = "logits " + quoted(model) + " --tokens tokens.txt ";
  REQUIRE(shell.run(base + "--out all.npy --state-out all.state").status == 0);
  const std::string all = slurp(shell.path("all.npy"));
  CHECK(all.size() > 200 * 40 * sizeof(float));
  CHECK(all.find("(200, 40)") != std::string::npos);
  for (const char* how : {"--chunk 1", "--chunk 7", "--chunk 64 --threads 2", "--threads 1"}) {
    CAPTURE(how);
    REQUIRE(shell.run(base + how + " --out some.npy --state-out some.state").status == 0);
    CHECK(slurp(shell.path("some.npy")) == all);
    CHECK(slurp(shell.path("some.state")) == slurp(shell.path("all.state")));
  }

  const auto floats = [&](const std::string& file) {
    const std::string bytes = slurp(shell.path(file));
    const std::size_t header =
        10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
    std::vector<float> values((bytes.size() - header) / sizeof(float));
    std::memcpy(values.data(), bytes.data() + header, values.size() * sizeof(float));
    return values;
  };
  REQUIRE(shell.run(base + "--positions 199,3,3 --out chosen.npy").status == 0);
  const auto every = floats("all.npy");
  const auto chosen = floats("chosen.npy");
  REQUIRE(chosen.size() == 3 * 40);
  for (std::size_t i = 0; i < 40; ++i) {
    CHECK(chosen[i] == every[199 * 40 + i]);
    CHECK(chosen[40 + i] == every[3 * 40 + i]);
    CHECK(chosen[80 + i] == every[3 * 40 + i]);
  }
  REQUIRE(shell.run(base + "--positions last --out last.npy").status == 0);
  CHECK(floats("last.npy") == std::vector<float>(every.end() - 40, every.end()));

  // A golden from end to end.
  const auto golden =
      golden::read(std::string(RWKV_TEST_DATA) + "/golden_l2_c32_f32.golden.safetensors");
  std::string ids;
  for (const auto t : golden::tokens(golden, "tokens")) ids += std::to_string(t) + " ";
  spit(shell.path("golden.txt"), ids);
  REQUIRE(shell.run("logits " + quoted(model) + " --tokens golden.txt --out golden.npy").status ==
          0);
  const auto got = floats("golden.npy");
  const auto positions = golden.get("positions").values<std::size_t>();
  const auto want = golden.get("logits").values<double>();
  for (std::size_t p = 0; p < positions.size(); ++p)
    for (std::size_t i = 0; i < 40; ++i)
      CHECK(std::abs(double{got[positions[p] * 40 + i]} - want[p * 40 + i]) <= 5e-5);
}

TEST_CASE("a hybrid model runs in both semantics, in the calls it is told") {
  const Shell shell;
  std::vector<rwkv::io::NamedTensor> tensors;
  const auto samples = test::sample_model(test::hybrid_sizes);
  const auto blocks = test::sample_sparse_blocks(2, 128, 160);
  for (const auto& t : samples)
    tensors.push_back(
        rwkv::io::named_tensor("rwkv." + t.name, t.shape, std::span<const float>(t.values)));
  for (const auto& t : blocks)
    tensors.push_back(rwkv::io::named_tensor(t.name, t.shape, std::span<const float>(t.values)));
  rwkv::io::write_safetensors(shell.path("hybrid.st"), tensors);
  spit(shell.path("tokens.txt"), some_tokens(90));
  const std::string config = R"('{"chunk":8,"topk":2,"max":64,"window":8,"min":40}')";
  const std::string base = "logits hybrid.st --tokens tokens.txt --hybrid-config " + config;

  // The paper: calls do not matter.
  REQUIRE(shell.run(base + " --out all.npy --state-out all.st").status == 0);
  for (const char* how : {"--chunk 1", "--calls seq:40,one:20,seq:30 --threads 2"}) {
    CAPTURE(how);
    const auto o = shell.run(base + " --out some.npy --state-out some.st " + how);
    REQUIRE(o.err == "");
    CHECK(slurp(shell.path("some.npy")) == slurp(shell.path("all.npy")));
    CHECK(slurp(shell.path("some.st")) == slurp(shell.path("all.st")));
  }
  const auto state = golden::read(shell.path("all.st"));
  CHECK(state.get("moba.1.k_cache").shape == std::vector<std::size_t>{42, 128});
  CHECK(state.get("moba.0.ffn.x_prev").size() == 128);

  // The package: they do, and positions do not cut them.
  const std::string package = base + " --hybrid-semantics package";
  REQUIRE(shell.run(package + " --calls seq:40,one:50 --out cut.npy").status == 0);
  REQUIRE(shell.run(package + " --out whole.npy").status == 0);
  CHECK(slurp(shell.path("cut.npy")) != slurp(shell.path("whole.npy")));
  REQUIRE(shell.run(package + " --positions 89,5 --out chosen.npy").status == 0);
  const std::string whole = slurp(shell.path("whole.npy"));
  const std::string chosen = slurp(shell.path("chosen.npy"));
  const std::size_t row = test::hybrid_sizes.vocab * sizeof(float);
  CHECK(chosen.substr(chosen.size() - 2 * row, row) == whole.substr(whole.size() - row));
  CHECK(chosen.substr(chosen.size() - row) == whole.substr(whole.size() - 85 * row, row));

  check_refused(shell.run(base + " --calls seq:40 --out x.npy"));
  check_refused(shell.run(base + " --calls seq:40,two:50 --out x.npy"));
  check_refused(shell.run(base + " --calls seq:40,one:51 --out x.npy"));
  for (const char* bad : {"'[]'", "'{'", R"('{"chunks":8}')", R"('{"chunk":-8}')"}) {
    CAPTURE(bad);
    check_refused(shell.run("logits hybrid.st --tokens tokens.txt --out x.npy --hybrid-config " +
                            std::string(bad)));
  }
  check_refused(shell.run("logits " + quoted(model) +
                          " --tokens tokens.txt --out x.npy --hybrid-semantics paper"));
  const auto j = nlohmann::json::parse(shell.run("info hybrid.st --json").out);
  CHECK(j["architecture"] == "rwkvx");
  CHECK(j["sparse_blocks"] == 2);
  CHECK(j["hybrid"]["chunk"] == "2048");
}

TEST_CASE("a state file continues a text, and belongs to its model") {
  const Shell shell;
  spit(shell.path("whole.txt"), some_tokens(50));
  const std::string text = some_tokens(50);
  const std::size_t cut = text.find(' ', text.size() / 2);
  spit(shell.path("first.txt"), text.substr(0, cut));
  spit(shell.path("second.txt"), text.substr(cut));
  const std::string base = "logits " + quoted(model) + " --positions last --tokens ";
  REQUIRE(shell.run(base + "whole.txt --out whole.npy --state-out whole.st").status == 0);
  REQUIRE(shell.run(base + "first.txt --out first.npy --state-out half.st").status == 0);
  REQUIRE(shell.run(base + "second.txt --out second.npy --state-in half.st --state-out end.st")
              .status == 0);
  CHECK(slurp(shell.path("second.npy")) == slurp(shell.path("whole.npy")));
  CHECK(slurp(shell.path("end.st")) == slurp(shell.path("whole.st")));

  const auto state = golden::read(shell.path("end.st"));
  CHECK(state.get("blocks.1.att.x_prev").shape == std::vector<std::size_t>{32});
  CHECK(state.get("blocks.1.att.wkv").shape == std::vector<std::size_t>{2, 16, 16});
  CHECK(state.get("blocks.1.ffn.x_prev").dtype == rwkv::DType::f32);
  check_refused(shell.run("logits " + quoted(other_model) +
                          " --tokens second.txt --state-in half.st --out x.npy"));
  CHECK_FALSE(std::filesystem::exists(shell.path("x.npy")));
}

TEST_CASE("what does not work out is one line and status 1; wrong usage is status 2") {
  const Shell shell;
  spit(shell.path("tokens.txt"), "1 2 3");
  spit(shell.path("past.txt"), "1 40");
  spit(shell.path("words.txt"), "1 two 3");
  spit(shell.path("negative.txt"), "1 -2");
  spit(shell.path("huge.txt"), "1 99999999999999999999");
  spit(shell.path("empty.txt"), " \n");
  const std::string logits = "logits " + quoted(model) + " --out o.npy --tokens ";
  for (const char* tokens :
       {"past.txt", "words.txt", "negative.txt", "huge.txt", "empty.txt", "missing.txt"}) {
    CAPTURE(tokens);
    check_refused(shell.run(logits + tokens));
    CHECK_FALSE(std::filesystem::exists(shell.path("o.npy")));
  }
  check_refused(shell.run(logits + "tokens.txt --positions 3"));
  check_refused(shell.run(logits + "tokens.txt --state-in missing.st"));
  check_refused(
      shell.run("logits " + quoted(model) + " --tokens tokens.txt --out /no/such/folder/o.npy"));
  check_refused(shell.run(logits + "tokens.txt --state-out ./o.npy"));
  CHECK_FALSE(std::filesystem::exists(shell.path("o.npy")));
  const std::string blob = "export " + quoted(model) + " --format blob --name m --out ";
  for (const char* files : {"m.bin", "m.hpp --tables m.bin", "m.hpp --blob m.hpp"}) {
    CAPTURE(files);
    check_refused(shell.run(blob + files));
    CHECK_FALSE(std::filesystem::exists(shell.path("m.bin")));
    CHECK_FALSE(std::filesystem::exists(shell.path("m.hpp")));
  }
  check_refused(shell.run("info missing.pth"));
  check_refused(shell.run("info ."));
  check_refused(shell.run("info tokens.txt"));
  check_refused(shell.run("generate " + quoted(model) + " --prompt x"));  // carries no vocabulary
  check_refused(shell.run("tokenize --vocab tokens.txt"));
  for (const char* usage :
       {"", "nonsense", "info", "logits", "bench", "tokenize", "info a b", "bench --shape 9b",
        "logits m --tokens t --out o --chunk -1", "bench m --type q9", "train --out x"}) {
    CAPTURE(usage);
    CHECK(shell.run(usage).status == 2);
  }
  CHECK(shell.run("--help").status == 0);
  CHECK(shell.run("generate --help").status == 0);
  CHECK(shell.run("--version").status == 0);
}

TEST_CASE("a model cut off anywhere is refused") {
  const Shell shell;
  const std::string whole = slurp(model);
  test::Thinned cuts(7);
  for (std::size_t percent = 0; percent < 100; ++percent) {
    if (cuts.leaves_out()) continue;
    CAPTURE(percent);
    spit(shell.path("cut.safetensors"), whole.substr(0, whole.size() * percent / 100));
    check_refused(shell.run("info cut.safetensors"));
  }
}

TEST_CASE("convert there and back, and verify") {
  const Shell shell;
  spit(shell.path("tokens.txt"), some_tokens(40));
  const auto logits = [&](const std::string& file) {
    REQUIRE(shell.run("logits " + file + " --tokens tokens.txt --out l.npy").status == 0);
    return slurp(shell.path("l.npy"));
  };
  const auto o = shell.run("convert " + quoted(model) + " m.gguf --type f32");
  REQUIRE(o.status == 0);
  CHECK(o.out.empty());
  CHECK(o.err ==
        "note: m.gguf carries no vocabulary: there is none in the model's file or folder; name one "
        "with --vocab\n");
  CHECK(nlohmann::json::parse(shell.run("info m.gguf --json").out)["format"] == "gguf");
  CHECK(logits("m.gguf") == logits(quoted(model)));
  REQUIRE(shell.run("convert m.gguf back.safetensors --type f32 --threads 1").status == 0);
  CHECK(logits("back.safetensors") == logits(quoted(model)));

  const auto verified = shell.run("verify m.gguf --json");
  REQUIRE(verified.status == 0);
  const auto j = nlohmann::json::parse(verified.out);
  CHECK(j["passed"] == true);
  CHECK(j["tokens"] == 32);
  CHECK(j["same_top"] == 32);
  CHECK(j["largest_error"].get<double>() < 1e-5);
  CHECK(shell.run("verify back.safetensors").out.starts_with("tokens          32\n"));

  // Another first logit than the one that was written.
  std::string damaged = slurp(shell.path("m.gguf"));
  const std::string key = "rwkv.self_test.top_logits";
  damaged[damaged.find(key) + key.size() + 4 + 8] = '9';
  spit(shell.path("damaged.gguf"), damaged);
  const auto off = shell.run("verify damaged.gguf");
  CHECK(off.status == 1);
  CHECK(off.err ==
        "error: damaged.gguf: this program computes other logits than the one that wrote "
        "the file\n");
  REQUIRE(shell.run("convert m.gguf untested --format gguf --no-self-test").status == 0);
  const auto without = shell.run("verify untested");
  check_refused(without);
  CHECK(without.err.find("carries no self-test") != std::string::npos);
}

TEST_CASE("convert takes a vocabulary along") {
  const Shell shell;
  spit(shell.path("vocab.txt"), "1 'a' 1\n2 'b' 1\n3 'ab' 2\n4 b'\\xff' 1\n");
  REQUIRE(shell.run("convert " + quoted(model) + " m.gguf --vocab vocab.txt").status == 0);
  CHECK(shell.run("generate m.gguf --prompt ab --tokens 1 --seed 1").out.starts_with("ab"));
  REQUIRE(shell.run("convert m.gguf m.safetensors --type bf16").status == 0);
  CHECK(shell.run("generate m.safetensors --prompt ab --tokens 1 --seed 1").out.starts_with("ab"));
  spit(shell.path("large.txt"), "1 'a' 1\n50 'b' 1\n");
  check_refused(shell.run("convert " + quoted(model) + " x.gguf --vocab large.txt"));
}

TEST_CASE("a folder is a model, with its vocabulary") {
  const Shell shell;
  std::filesystem::create_directory(shell.path("m"));
  std::filesystem::copy_file(model, shell.path("m/model.safetensors"));
  spit(shell.path("m/config.json"), R"({"model_type": "rwkv7"})");
  spit(shell.path("m/rwkv_vocab_v1.txt"), "1 'a' 1\n2 'b' 1\n39 'ab' 2\n");
  const std::string text = " --prompt ab --tokens 5 --seed 1 --temperature 0";
  const auto o = shell.run("generate m" + text);
  REQUIRE(o.status == 0);
  CHECK(o.err.empty());
  CHECK(shell.run("generate m/config.json" + text).out == o.out);
  const auto j = nlohmann::json::parse(shell.run("info m --json").out);
  CHECK(j["vocabulary_file"] == "m/rwkv_vocab_v1.txt");
  CHECK(j["vocabulary_ids"] == 40);
  CHECK(j["config"]["model_type"] == "rwkv7");
  CHECK(j["memory_bytes"].get<std::size_t>() ==
        j["weight_bytes"].get<std::size_t>() - j["mapped_bytes"].get<std::size_t>() +
            j["state_bytes"].get<std::size_t>() + j["workspace_bytes"].get<std::size_t>());
  const auto converted = shell.run("convert m m.gguf --type f32");
  REQUIRE(converted.status == 0);
  CHECK(converted.err.empty());
  CHECK(shell.run("generate m.gguf" + text).out == o.out);

  spit(shell.path("m/rwkv_vocab_v1.txt"), "1 'a' 1\n40 'b' 1\n");  // of another model
  const auto refused = shell.run("generate m --prompt a --tokens 1");
  check_refused(refused);
  CHECK(refused.err.find("rwkv_vocab_v1.txt: this vocabulary has ids up to 40, and the model 40") !=
        std::string::npos);
  const auto overridden =
      shell.run("generate m --vocab m/rwkv_vocab_v1.txt --prompt a --tokens 1 --temperature 0");
  CHECK(overridden.status == 0);
  CHECK(overridden.err.starts_with("warning: m/rwkv_vocab_v1.txt: this vocabulary has ids up to"));
  const auto without = shell.run("convert m x.gguf");
  CHECK(without.status == 0);
  CHECK(without.err.starts_with("note: x.gguf carries no vocabulary: m/rwkv_vocab_v1.txt: this"));
}

TEST_CASE("a state of another program, and what info says of it") {
  const Shell shell;
  spit(shell.path("tokens.txt"), some_tokens(20));
  const std::string base = "logits " + quoted(model) + " --tokens tokens.txt --out l.npy";
  std::vector<float> numbers(2 * 2 * 16 * 16);  // of two layers, two heads
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i % 97) / 97;
  const auto turned = [&] {
    std::vector<float> out(numbers.size());
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i / 256 * 256 + i % 16 * 16 + i / 16 % 16] = numbers[i];
    return out;
  }();
  const auto write = [&](const std::string& file, const std::vector<float>& all) {
    std::vector<rwkv::io::NamedTensor> tensors;
    for (std::size_t l = 0; l < 2; ++l)
      tensors.push_back(rwkv::io::named_tensor<float>(
          "model.blocks." + std::to_string(l) + ".att.time_state", {2, 16, 16},
          std::span<const float>(all).subspan(l * 512, 512)));
    rwkv::io::write_safetensors(shell.path(file), tensors);
  };
  write("official.safetensors", numbers);
  write("web.st", turned);
  const auto logits = [&](const std::string& how) {
    REQUIRE(shell.run(base + how).status == 0);
    return slurp(shell.path("l.npy"));
  };
  const std::string right = logits(" --state-in official.safetensors");
  CHECK(right != logits(""));
  CHECK(logits(" --state-in web.st") == right);
  CHECK(logits(" --state-in web.st --state-layout official") != right);
  write("web.safetensors", turned);
  CHECK(logits(" --state-in web.safetensors --state-layout web-rwkv") == right);
  const auto info = shell.run("info official.safetensors --json");
  REQUIRE(info.status == 0);
  CHECK(nlohmann::json::parse(info.out)["kind"].get<std::string>().find("tuned state") !=
        std::string::npos);
}

TEST_CASE("convert looks at a text first") {
  const Shell shell;
  spit(shell.path("vocab.txt"), "1 'a' 1\n2 'b' 1\n3 'ab' 2\n");
  const std::string from = "convert " + quoted(model) + " --type q4_0 --vocab vocab.txt ";
  spit(shell.path("text.txt"), std::string("abbaabababbbbaaababa"));
  spit(shell.path("other.txt"), std::string("bbbbbbbbbbbbbbbbbbbb"));
  REQUIRE(shell.run(from + "plain.gguf").status == 0);
  REQUIRE(shell.run(from + "one.gguf --calibrate text.txt").status == 0);
  REQUIRE(shell.run(from + "same.gguf --calibrate text.txt --threads 1").status == 0);
  REQUIRE(shell.run(from + "other.gguf --calibrate other.txt").status == 0);
  CHECK(slurp(shell.path("one.gguf")) == slurp(shell.path("same.gguf")));
  CHECK(slurp(shell.path("one.gguf")) != slurp(shell.path("plain.gguf")));
  CHECK(slurp(shell.path("one.gguf")) != slurp(shell.path("other.gguf")));
  CHECK(shell.run("verify one.gguf").status == 0);

  spit(shell.path("empty.txt"), std::string());
  check_refused(shell.run(from + "x.gguf --calibrate empty.txt"));
  check_refused(shell.run(from + "x.gguf --calibrate missing.txt"));
  check_refused(shell.run(from + "x.gguf --calibrate ."));
  check_refused(shell.run("convert " + quoted(model) + " x.gguf --calibrate text.txt"));
  CHECK_FALSE(std::filesystem::exists(shell.path("x.gguf")));
}

TEST_CASE("an option that can be repeated takes one value each time, not the files after it") {
  const Shell shell;
  const std::string kept = "--keep blocks.1.att.value.weight --keep blocks.1.ffn.key.weight ";
  const std::string from = "convert --type q8_0 --no-self-test ";
  REQUIRE(shell.run(from + quoted(model) + " plain.gguf").status == 0);
  REQUIRE(shell.run(from + kept + quoted(model) + " kept.gguf").status == 0);
  const auto q8_0 = [&](const std::string& file) {
    const auto info = nlohmann::json::parse(shell.run("info --json " + file).out);
    return info["dtypes"]["q8_0"].get<int>();
  };
  CHECK(q8_0("kept.gguf") == q8_0("plain.gguf") - 2);
  check_refused(shell.run(from + "--keep nonsense " + quoted(model) + " x.gguf"));
  check_refused(shell.run("generate --prompt a --stop x missing.safetensors"));
}

TEST_CASE("what convert refuses leaves an earlier file") {
  const Shell shell;
  spit(shell.path("m.gguf"), "earlier");
  spit(shell.path("m.st"), "earlier");
  const std::string from = "convert " + quoted(model);
  check_refused(shell.run("convert missing.pth m.gguf"));
  check_refused(shell.run("convert m.st m.gguf"));
  check_refused(shell.run(from + " m.st --type q8_0"));
  check_refused(shell.run(from + " m.bin"));
  check_refused(shell.run(from + " /no/such/folder/m.gguf"));
  check_refused(shell.run(from + " /dev/null --format gguf"));  // nothing to read back
  if (std::filesystem::is_character_file("/dev/full"))
    check_refused(shell.run(from + " /dev/full --format gguf --no-self-test"));
  CHECK(slurp(shell.path("m.gguf")) == "earlier");
  CHECK(slurp(shell.path("m.st")) == "earlier");
  for (const char* usage : {"convert", "convert a", "convert a b.gguf --type q9",
                            "convert a b.gguf --format pth", "convert --shape 0.1b",
                            "convert a b.gguf --keep", "convert a b.gguf --shape 0.1b", "verify"}) {
    CAPTURE(usage);
    CHECK(shell.run(usage).status == 2);
  }
}

TEST_CASE("a regular expression becomes a model file") {
  const Shell shell;
  REQUIRE(shell.run("compile-regex '(ab)*' --out ab.safetensors").status == 0);
  const auto j = nlohmann::json::parse(shell.run("info ab.safetensors --json").out);
  CHECK(j["layers"] == 1);
  CHECK(j["eigenvalues"] == "extended");
  check_refused(shell.run("compile-regex '(ab' --out bad.safetensors"));
  CHECK_FALSE(std::filesystem::exists(shell.path("bad.safetensors")));

  spit(shell.path("text"), "ab\nabba\n\nababab\nab\xff\nab");
  CHECK(shell.run("match ab.safetensors text").out == "ab\n\nababab\nab\n");
  CHECK(shell.run("match ab.safetensors - <text").out == "ab\n\nababab\nab\n");
  CHECK(shell.run("match ab.safetensors").out.empty());
  check_refused(shell.run("match ab.safetensors missing"));
  check_refused(shell.run("match ab.safetensors ."));
  check_refused(shell.run("match '" + model + "' text"));
}

TEST_CASE("tokenize goes there and back, byte for byte") {
  const Shell shell;
  spit(shell.path("vocab.txt"), "1 'a' 1\n2 'b' 1\n3 'ab' 2\n4 b'\\xff' 1\n5 '\\n' 1\n6 'aba' 3\n");
  spit(shell.path("text.bin"), "ababa\xff\nb");
  const std::string tool = "tokenize --vocab vocab.txt";
  const auto o = shell.run(tool + " --decode");
  CHECK(o.status == 0);
  CHECK(o.out.empty());
  const auto piped = [&](const std::string& input, const std::string& options) {
    const std::string command = "cd '" + shell.path("").string() + "' && '" RWKV_TOOL "' " + tool +
                                options + " < " + input + " > piped.txt 2> stderr.txt";
    return std::system(command.c_str());
  };
  CHECK(piped("text.bin", "") == 0);
  CHECK(slurp(shell.path("piped.txt")) == "6 2 1 4 5 2\n");
  std::filesystem::rename(shell.path("piped.txt"), shell.path("ids.txt"));
  CHECK(piped("ids.txt", " --decode") == 0);
  CHECK(slurp(shell.path("piped.txt")) == "ababa\xff\nb");
  spit(shell.path("bad.txt"), "7");
  CHECK(piped("bad.txt", " --decode") != 0);
}

#ifdef RWKV_GOLDENS
TEST_CASE("gradients are those of float64 automatic differentiation, under the official names") {
  const Shell shell;
  const std::string folder = RWKV_GOLDENS "/grad/g7_l3_c32/";
  const rwkv::Model<> trained(golden::read(folder + "model.safetensors"));
  const auto relative_error = [](const std::vector<double>& got, const std::vector<double>& want) {
    REQUIRE(got.size() == want.size());
    double error = 0, length = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      error += (got[i] - want[i]) * (got[i] - want[i]);
      length += want[i] * want[i];
    }
    return std::sqrt(length > 0 ? error / length : error);
  };
  for (const std::string name : {"ce_zero_state", "ce_random_state", "ce_l2wrap", "ce_batch2"}) {
    CAPTURE(name);
    const auto want = golden::read(folder + name + ".safetensors");
    std::string ids;
    for (const auto t : golden::tokens(want, "tokens")) ids += std::to_string(t) + " ";
    spit(shell.path("tokens.txt"), ids);
    std::string options = " --rows " + std::to_string(want.get("tokens").shape[0]);
    if (name == "ce_l2wrap") options += " --l2wrap";
    if (want.find("state0.wkv") != nullptr) {
      trained.save_state(shell.path("in.st"), golden::state(want, "state0.", trained.shape()));
      options += " --state-in in.st";
    }
    REQUIRE(shell
                .run("gradients " + quoted(folder + "model.safetensors") +
                     " --tokens tokens.txt --out g.safetensors" + options)
                .status == 0);
    const auto got = golden::read(shell.path("g.safetensors"));
    CHECK(got.get("loss").at_offset<double>(0) ==
          doctest::Approx(want.get("loss").at_offset<double>(0)).epsilon(1e-6));
    std::size_t compared = 0;
    for (const auto& entry : want.tensors) {
      const auto& tensor = entry.first;
      const auto& value = entry.second;
      if (!tensor.starts_with("grad")) continue;
      CAPTURE(tensor);
      CHECK(got.get(tensor).shape == value.shape);
      CHECK(relative_error(got.get(tensor).values<double>(), value.values<double>()) <= 1e-4);
      ++compared;
    }
    CHECK(compared > 3 * 30);
  }
  check_refused(shell.run("gradients " + quoted(folder + "model.safetensors") +
                          " --tokens tokens.txt --rows 7 --out none.safetensors"));
  spit(shell.path("past.txt"), "1 2 100000");
  check_refused(shell.run("gradients " + quoted(folder + "model.safetensors") +
                          " --tokens past.txt --out none.safetensors"));
  CHECK_FALSE(std::filesystem::exists(shell.path("none.safetensors")));
}
#endif

TEST_CASE("samples with prompts, any vocabulary, adapters: the model carries what it needs") {
  const Shell shell;
  std::string samples;
  for (int i = 0; i < 40; ++i)
    samples +=
        i % 2 ? "{\"prompt\": \"ab\", \"completion\": \"ba\"}\n" : "{\"text\": \"abba\"}\r\n \r\n";
  spit(shell.path("samples.jsonl"), samples);
  spit(shell.path("vocab.json"), R"({"1": "a", "2": "b", "3": [97, 98]})");
  const std::string small = "--steps 20 --batch 4 --rate 1e-2 --threads 1 --seed 3 ";
  const auto o = shell.run(
      "train --samples samples.jsonl --validation samples.jsonl --vocab "
      "vocab.json --layers 1 --embed 16 --head-size 8 --ranks 2,2,2,2 "
      "--validate-every 10 --out base.safetensors " +
      small);
  REQUIRE(o.status == 0);
  CHECK(o.err.find("step 20  loss") != std::string::npos);
  CHECK(o.err.find("bits per byte, the best yet") != std::string::npos);
  // No vocabulary is named from here on.
  REQUIRE(shell
              .run("train --mode lora --init base.safetensors --samples samples.jsonl --out "
                   "tuned.safetensors --lora-out lora.safetensors " +
                   small)
              .status == 0);
  CHECK(slurp(shell.path("tuned.safetensors")) != slurp(shell.path("base.safetensors")));
  const std::string greedy = " --prompt ab --tokens 20 --temperature 0";
  const auto merged = shell.run("generate tuned.safetensors" + greedy);
  const auto beside = shell.run("generate base.safetensors --adapter lora.safetensors" + greedy);
  REQUIRE(beside.status == 0);
  CHECK(beside.out == merged.out);
  CHECK(shell.run("train --text x --out y --lora-out z").status == 2);
  for (const char* model_file : {"base", "tuned"}) {
    CAPTURE(model_file);
    const auto g = shell.run("generate " + std::string(model_file) +
                             ".safetensors --prompt ab --tokens 4 --temperature 0");
    CHECK(g.status == 0);
    CHECK(g.out.starts_with("ab"));
    CHECK(g.out.find_first_not_of("ab\n") == std::string::npos);
  }

  for (const char* line : {"[]", "{}", "{\"text\": 1}", "{\"text\": \"a\"}", "not JSON",
                           "{\"prompt\": \"a\", \"completion\": \"\"}", "{\"prompt\": \"ab\"}"}) {
    CAPTURE(line);
    spit(shell.path("bad.jsonl"), "{\"text\": \"aba\"}\n" + std::string(line) + "\n");
    const auto bad = shell.run("train --init base.safetensors --samples bad.jsonl --out x");
    check_refused(bad);
    CHECK(bad.err.find("bad.jsonl: line 2: ") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(shell.path("x")));
  }
}

namespace {

const std::string options =
    "train --text text.txt --validation text.txt --layers 2 --embed 32 --head-size 16 --ranks "
    "4,4,4,4 --batch 4 --length 64 --threads 1 --validate-every 15 --save-every 15 --log "
    "log.jsonl ";
const std::string train = options + "--steps 30 --rate 5e-3 ";

/// What a training run leaves: text.txt, a.safetensors, run.ckpt, log.jsonl. The run is made once.
class TrainedShell : public Shell {
 public:
  TrainedShell() {
    static const Shell first;
    static const Outcome outcome = [] {
      std::string text;
      for (int i = 0; i < 300; ++i) text += "the cat sat on the mat and the dog ran. ";
      spit(first.path("text.txt"), text);
      return first.run(train + "--out a.safetensors --checkpoint run.ckpt");
    }();
    REQUIRE(outcome.status == 0);
    for (const char* name : {"text.txt", "a.safetensors", "run.ckpt", "log.jsonl"})
      std::filesystem::copy(first.path(name), path(name));
  }
};

}  // namespace

TEST_CASE("training makes a model of bytes that generates the same text for the same seed") {
  const TrainedShell shell;
  const std::string log = slurp(shell.path("log.jsonl"));
  CHECK(std::count(log.begin(), log.end(), '\n') == 30);

  const std::string generate =
      "generate a.safetensors --prompt 'the ' --tokens 40 --threads 1 --seed ";
  const auto one = shell.run(generate + "1");
  REQUIRE(one.status == 0);
  CHECK(one.out.starts_with("the "));
  CHECK(one.out.size() >= 45);
  CHECK(shell.run(generate + "1").out == one.out);
  CHECK(shell.run(generate + "2").out != one.out);

  const auto o = shell.run("perplexity a.safetensors text.txt --json");
  REQUIRE(o.status == 0);
  const auto j = nlohmann::json::parse(o.out);
  CHECK(j["bits_per_byte"].get<double>() < 6.0);
  CHECK(j["tokens"].get<std::size_t>() == slurp(shell.path("text.txt")).size() - 1);

  CHECK(j["bits_per_token"].get<double>() == doctest::Approx(j["bits_per_byte"].get<double>()));
  CHECK(j["ffn_zeros"].get<double>() > 0);
  CHECK(j["ffn_zeros"].get<double>() < 1);
}

TEST_CASE("training refuses what is damaged or empty and resumes a finished run") {
  const TrainedShell shell;
  // Resuming a finished run has nothing to do; a damaged checkpoint is refused and changes nothing.
  const std::string finished = slurp(shell.path("a.safetensors"));
  CHECK(shell.run(train + "--out a.safetensors --checkpoint run.ckpt --resume").status == 0);
  // But for the model itself, which is in the checkpoint, unless an earlier one was better.
  const auto lost = shell.run(train + "--out lost.safetensors --checkpoint run.ckpt --resume");
  check_refused(lost);
  CHECK(lost.err.find("lost.safetensors is not there") != std::string::npos);
  const std::string plain =
      "train --text text.txt --layers 1 --embed 16 --head-size 16 --batch 2 --length 16 --steps 2 "
      "--threads 1 --checkpoint plain.ckpt ";
  REQUIRE(shell.run(plain + "--out plain.safetensors").status == 0);
  REQUIRE(shell.run(plain + "--out again.safetensors --resume").status == 0);
  CHECK(slurp(shell.path("again.safetensors")) == slurp(shell.path("plain.safetensors")));
  spit(shell.path("run.ckpt"), slurp(shell.path("run.ckpt")).substr(0, 1000));
  check_refused(shell.run(train + "--out a.safetensors --checkpoint run.ckpt --resume"));
  CHECK(slurp(shell.path("a.safetensors")) == finished);
  spit(shell.path("empty.txt"), "");
  check_refused(shell.run("train --text empty.txt --out b.safetensors"));
  CHECK_FALSE(std::filesystem::exists(shell.path("b.safetensors")));
}

TEST_CASE("a run that is killed and resumed ends with the same model and log") {
  const TrainedShell shell;
  const std::string finished = slurp(shell.path("a.safetensors"));
  REQUIRE(shell.run(train + "--out b.safetensors --checkpoint b.ckpt").status == 0);
  const std::string undisturbed = slurp(shell.path("log.jsonl"));
  // Killed after a line past the first checkpoint, of a run that would be the same.
  std::filesystem::remove(shell.path("log.jsonl"));
  const std::string killed = "cd '" + shell.path("").string() + "' && { '" RWKV_TOOL "' " + train +
                             "--out c.safetensors --checkpoint c.ckpt 2> err.txt & } && "
                             "until grep -q '\"step\":17,' log.jsonl 2> /dev/null; do "
                             "kill -0 $! 2> /dev/null || break; done; kill -9 $!; wait";
  static_cast<void>(std::system(killed.c_str()));
  REQUIRE(shell.run(train + "--out c.safetensors --checkpoint c.ckpt --resume").status == 0);
  CHECK(slurp(shell.path("c.safetensors")) == slurp(shell.path("b.safetensors")));
  CHECK(slurp(shell.path("c.safetensors")) == finished);
  const auto numbers = [](const std::string& written) {
    std::vector<std::array<double, 3>> lines;
    std::istringstream in(written);
    for (std::string line; std::getline(in, line);) {
      const auto k = nlohmann::json::parse(line);
      lines.push_back({k["step"], k["loss"], k.value("validation_loss", 0.0)});
    }
    return lines;
  };
  CHECK(numbers(slurp(shell.path("log.jsonl"))) == numbers(undisturbed));
}

TEST_CASE("the best model stays, also when a run that gets worse is resumed") {
  const TrainedShell shell;
  // Steps so large that the second half undoes the first.
  const std::string worse = options + "--out w.safetensors --checkpoint w.ckpt ";
  REQUIRE(shell.run(worse + "--steps 15 --rate 5e-3").status == 0);
  const std::string best = slurp(shell.path("w.safetensors"));
  const auto o2 = shell.run(worse +
                            "--steps 30 --rate 0.3 --final-rate 0.3 --resume "
                            "--other-options");
  REQUIRE(o2.status == 0);
  CHECK(o2.err.find("the best yet") == std::string::npos);
  CHECK(slurp(shell.path("w.safetensors")) == best);
}

TEST_CASE(
    "a loss that is not a number, foreign tokens and a full disk leave everything as it was") {
  const TrainedShell shell;
  const std::string finished = slurp(shell.path("a.safetensors"));
  const std::string checkpoint = slurp(shell.path("run.ckpt"));
  const std::string more = "train --init a.safetensors --out a.safetensors --steps 40 --batch 2 ";
  const auto nan = shell.run(more +
                             "--text text.txt --length 32 --rate 1e30 --final-rate 1e30 "
                             "--checkpoint run.ckpt --save-every 40");
  check_refused(nan);
  CHECK(nan.err.find("the loss is") != std::string::npos);
  spit(shell.path("vocab.txt"), "1 'a' 1\n300 'b' 1\n");
  spit(shell.path("ab.txt"), "abababababababababababab");
  const std::string foreign = more + "--vocab vocab.txt --length 4 ";
  check_refused(shell.run(foreign + "--text ab.txt"));
  spit(shell.path("aa.txt"), "aaaaaaaaaaaaaaaaaaaaaaaaaaaa");
  const auto late = shell.run(foreign + "--text aa.txt --validation ab.txt");
  check_refused(late);
  CHECK(late.err.find("ab.txt: contains token 300") != std::string::npos);
  const auto short_text = shell.run(more + "--text ab.txt --length 32");
  check_refused(short_text);
  CHECK(short_text.err.find("24 tokens is too short") != std::string::npos);
  if (std::filesystem::exists("/dev/full")) {
    const auto full = shell.run(more + "--text text.txt --length 32 --log /dev/full");
    check_refused(full);
    CHECK(full.err.find("/dev/full: cannot be written") != std::string::npos);
  }
  CHECK(slurp(shell.path("a.safetensors")) == finished);
  CHECK(slurp(shell.path("run.ckpt")) == checkpoint);
}

TEST_CASE("a tuned state is read back") {
  const TrainedShell shell;
  REQUIRE(shell
              .run("train --mode state --init a.safetensors --text text.txt --steps 3 --batch 2 "
                   "--length 32 --rate "
                   "0.1 --out tuned.safetensors --save-every 3")
              .status == 0);
  CHECK(shell.run("generate a.safetensors --prompt 'a' --tokens 3 --state-in tuned.safetensors")
            .status == 0);
}

TEST_CASE("training for int8 has another loss") {
  const TrainedShell shell;
  const auto loss = [&](const std::string& how) {
    const auto o = shell.run(
        "train --init a.safetensors --text text.txt --steps 1 --batch 2 --length "
        "32 --rate 1e-4 --threads 1 --out b.safetensors --log one.jsonl" +
        how);
    REQUIRE(o.status == 0);
    return nlohmann::json::parse(slurp(shell.path("one.jsonl")))["loss"].get<double>();
  };
  const double exact = loss("");
  const double int8 = loss(" --int8");
  CHECK(int8 != exact);
  CHECK(int8 == doctest::Approx(exact).epsilon(0.1));
}

TEST_CASE("DeepEmbed from training to flash") {
  const TrainedShell shell;
  REQUIRE(shell.run(options + "--steps 2 --deep-embed 8 --out deep.safetensors").status == 0);
  const auto info = shell.run("info deep.safetensors --json");
  REQUIRE(info.status == 0);
  const auto j = nlohmann::json::parse(info.out);
  CHECK(j["deep_embed_rank"] == 8);
  CHECK(j["weight_bytes"].get<std::size_t>() - j["weight_bytes_per_token"].get<std::size_t>() ==
        255 * (32 + 2 * 64) * 2);
  REQUIRE(shell.run("convert deep.safetensors deep.gguf --type q8_0").status == 0);
  CHECK(shell.run("verify deep.gguf").status == 0);
  CHECK(shell.run("generate deep.gguf --prompt 'the ' --tokens 5").status == 0);
  REQUIRE(shell
              .run("export deep.safetensors --type q8_0 --format blob --out deep.hpp --tables "
                   "deep.tables")
              .status == 0);
  CHECK(slurp(shell.path("deep.hpp")).find(", 4, 4, 4, 4, 8>") != std::string::npos);
  // Both tables of the layers, that of the embedding and the head, which is whole panels.
  CHECK(std::filesystem::file_size(shell.path("deep.tables")) >= 256 * (2 * 32 + 2 * 64));
}

TEST_CASE("bench prints what it promises") {
  const TrainedShell shell;
  test::Thinned kinds(3);
  for (const std::string how : {"", " --type bf16 --batch 3", " --type q8_0 --exact-inputs",
                                " --type bf16 --bf16-inputs", " --dense"}) {
    if (kinds.leaves_out()) continue;
    CAPTURE(how);
    const auto b =
        shell.run("bench a.safetensors --json --prompt 32 --generate 20 --threads 1" + how);
    REQUIRE(b.status == 0);
    const auto k = nlohmann::json::parse(b.out);
    for (const char* key :
         {"decode_tokens_per_second", "prefill_tokens_per_second", "weight_bytes_per_token",
          "read_bandwidth_bytes_per_second", "decode_bandwidth_fraction", "peak_rss_bytes",
          "cached_product_bytes_per_second", "arithmetic_peak_per_second", "prefill_peak_fraction",
          "load_seconds", "file_bytes", "load_seconds_per_read", "load_peak_rss_bytes", "ffn_zeros",
          "read_bytes_per_token"})
      CHECK(k.at(key).get<double>() > 0);
    CHECK(k.at("ffn_zeros") < 1);
    CHECK(k.at("read_bytes_per_token") <= k.at("weight_bytes_per_token"));
    const bool dense = how.find("--dense") != how.npos;
    for (const char* key : {"dense_decode_tokens_per_second", "decode_speedup", "prefill_speedup"})
      CHECK(k.contains(key) == dense);
    const bool batch = how.find("--batch") != how.npos;
    CHECK(k.contains("batch_tokens_per_second") == batch);
    CHECK(k.contains("batch_peak_fraction") == batch);
  }
}

TEST_CASE("zeros are made in random models only") {
  const TrainedShell shell;
  CHECK(shell.run("bench a.safetensors --ffn-zeros 0.9").status == 2);
  CHECK(shell.run("bench --shape 0.1b --ffn-zeros 1.5").status == 2);
}

TEST_CASE("inputs cannot be exact and rounded") {
  const TrainedShell shell;
  CHECK(shell.run("bench a.safetensors --exact-inputs --bf16-inputs").status == 2);
}

TEST_CASE("chat takes turns back, keeps conversations and reads several lines") {
  const TrainedShell shell;
  const auto talk = [&](const std::string& input, const std::string& more = "1") {
    spit(shell.path("talk.txt"), input);
    return shell.run(
        "chat a.safetensors --tokens 8 --threads 1 --temperature 2 --top-p 1 --top-k 0 --seed " +
        more + " < talk.txt");
  };
  const auto all = talk("hello\n/regenerate\n/undo\n/undo\n/reset\n/quit\nnot said\n");
  CHECK(all.status == 0);
  CHECK(all.err == "there is no turn to go back to\n");
  const std::string hello = talk("hello\n").out;
  CHECK(all.out.starts_with(hello));
  CHECK(talk("hello").out == hello);  // the end of the input is an end
  CHECK(talk("\r\n  hello  \r\n/exit \r\n").out == hello);
  CHECK(talk("\"\"\"\nhello\n\"\"\"\n").out == hello);
  CHECK(talk("\"\"\"hello\"\"\"\n").out == hello);
  CHECK(talk("\"\"\"\n/exit\nthe\n\"\"\"\n").out != "");  // no command
  CHECK(talk("/help\n").out.find("/regenerate") != std::string::npos);
  CHECK(talk("/system be a cat\nhello\n").out == talk("hello\n", "1 --system 'be a cat'").out);
  CHECK(talk("/system be a cat\nhello\n").out != hello);

  // What was saved goes on as if it had not been.
  const std::string both = talk("hello\nagain\n").out;
  CHECK(talk("hello\n/save talk.st\n").out == hello);
  CHECK(talk("/load talk.st\nagain\n", "2").out == both.substr(hello.size()));
  CHECK(talk("/load talk.st\n/undo\nhello\n").out == hello);
  CHECK(shell.run("generate a.safetensors --state-in talk.st --prompt x --tokens 1").status == 0);
  // A script does not go on with what it did not mean.
  for (const char* bad : {"/load missing.st\nhello\n", "/save\nhello\n", "/bogus\nhello\n"}) {
    const auto o = talk(bad);
    check_refused(o);
    CHECK(o.out == "");
  }
  CHECK(talk("hello\n", "1 --hybrid-semantics paper").status == 1);
}

TEST_CASE("chat writes turns as the model's files say") {
  const TrainedShell shell;
  spit(shell.path("talk.txt"), "the cat\n/save talk.st\n");
  const auto talk = [&](const std::string& how) {
    const auto o = shell.run("chat " + how + " --tokens 4 --seed 1 --threads 1 < talk.txt");
    REQUIRE(o.status == 0);
    const auto json = golden::read(shell.path("talk.st")).metadata.at("rwkv.conversation");
    return nlohmann::json::parse(json)["template"].get<std::string>() + o.err;
  };
  CHECK(talk("a.safetensors") == "classic");
  CHECK(talk("a.safetensors --template native") == "native");
  spit(shell.path("chat_template.jinja"), "{{ 'User✿' }} {{ 'Bot✿' }}");
  CHECK(talk("a.safetensors") == "native");
  CHECK(talk("a.safetensors --template sections") == "sections");
  REQUIRE(shell.run("convert a.safetensors n.gguf").status == 0);  // which takes it along
  REQUIRE(shell.run("convert a.safetensors s.safetensors --template sections").status == 0);
  CHECK(nlohmann::json::parse(shell.run("info n.gguf --json").out)["chat_template"] == "native");
  spit(shell.path("chat_template.jinja"), "<|im_start|>");
  CHECK(nlohmann::json::parse(shell.run("info a.safetensors --json").out)["chat_template"] ==
        "unknown");
  CHECK(talk("n.gguf") == "native");
  CHECK(talk("s.safetensors") == "sections");
  CHECK(talk("a.safetensors").starts_with("classicwarning: "));
  CHECK(shell.run("chat --template list").out.find("native") != std::string::npos);
  CHECK(shell.run("chat a.safetensors --template clasic").status == 2);
  const auto o = shell.run("chat a.safetensors --template native --think a-lot < talk.txt");
  check_refused(o);
  CHECK(o.err.find("there is off, fast, on") != std::string::npos);
}

TEST_CASE("an interrupt ends what a script says") {
  const TrainedShell shell;
  const std::string interrupted =
      "cd '" + shell.path("").string() +
      "' && { '" RWKV_TOOL
      "' chat a.safetensors --tokens 100000000 --temperature 1 --threads 1 < text.txt > out.txt "
      "2> err.txt & } && p=$! && for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1; [ -s out.txt ] && "
      "break; "
      "done; kill -TERM $p; wait $p; echo $? > status.txt";
  static_cast<void>(std::system(interrupted.c_str()));
  CHECK(slurp(shell.path("status.txt")) == "143\n");
  CHECK(slurp(shell.path("out.txt")).ends_with("\n"));
}

TEST_CASE("chat wants functions as a list of JSON") {
  const TrainedShell shell;
  spit(shell.path("tools.json"), R"([{"name": "add", "parameters": {"type": "object",
    "properties": {"sure": {"type": "boolean"}}, "required": ["sure"],
    "additionalProperties": false}}])");
  spit(shell.path("bad.json"), R"({"name": "add"})");
  spit(shell.path("talk.txt"), "the cat\n/result {}\n");
  const std::string chat = "chat a.safetensors --tokens 400 --seed 1 --tools ";
  const auto o = shell.run(chat + "tools.json < talk.txt");
  CHECK(o.status == 0);
  CHECK(o.err == "");
  std::istringstream calls(o.out);  // one for what was said, one for the result
  std::size_t count = 0;
  for (std::string line; std::getline(calls, line); ++count) {
    const auto call = nlohmann::json::parse(line);
    CHECK(call["name"] == "add");
    CHECK(call["arguments"]["sure"].is_boolean());
  }
  CHECK(count == 2);
  check_refused(shell.run(chat + "bad.json < talk.txt"));
  check_refused(shell.run(chat + "missing.json < talk.txt"));
  check_refused(shell.run(chat + "tools.json --think on < talk.txt"));
  check_refused(shell.run("chat a.safetensors --tokens 4 < talk.txt"));  // /result of what?
}

TEST_CASE("a hybrid model chats, is measured, converted and verified") {
  const Shell shell;
  auto sizes = test::hybrid_sizes;
  sizes.vocab = 256;
  std::vector<rwkv::io::NamedTensor> tensors;
  const auto samples = test::sample_model(sizes);
  const auto blocks = test::sample_sparse_blocks(2, 128, 160);
  for (const auto& t : samples)
    tensors.push_back(
        rwkv::io::named_tensor("rwkv." + t.name, t.shape, std::span<const float>(t.values)));
  for (const auto& t : blocks)
    tensors.push_back(rwkv::io::named_tensor(t.name, t.shape, std::span<const float>(t.values)));
  rwkv::io::write_safetensors(shell.path("hybrid.st"), tensors, {{"rwkv.hybrid.chunk", "16"}});
  spit(shell.path("text.txt"), "the cat sat on the mat and the dog ran. the cat sat on the mat.");
  spit(shell.path("talk.txt"), "hello\nagain\n/undo\n/save talk.st\n/load talk.st\n");
  const std::string chat = "chat hybrid.st --tokens 8 --seed 1 < talk.txt";
  CHECK(shell.run(chat).status == 0);
  CHECK(shell
            .run(chat +
                 " --hybrid-config '{\"chunk\":8,\"topk\":2,\"max\":64,\"window\":8,\"min\":40}'")
            .status == 0);

  const auto measured = [&](const std::string& more) {
    const auto o = shell.run("perplexity " + more + " text.txt --json");
    REQUIRE(o.status == 0);
    return nlohmann::json::parse(o.out);
  };
  CHECK(measured("hybrid.st")["tokens"] == 62);
  CHECK(measured("hybrid.st --hybrid-semantics package") != measured("hybrid.st"));
  REQUIRE(shell.run("convert hybrid.st copy.safetensors --type f32").status == 0);
  CHECK(measured("copy.safetensors") == measured("hybrid.st"));
  CHECK(nlohmann::json::parse(shell.run("info copy.safetensors --json").out)["hybrid"]["chunk"] ==
        "16");
  CHECK(shell.run("verify copy.safetensors").status == 0);
  for (const std::string refused :
       {"convert hybrid.st x.gguf", "convert hybrid.st x.gguf --type q4_0 --calibrate text.txt",
        "export hybrid.st --out x.hpp"}) {
    CAPTURE(refused);
    const auto o = shell.run(refused);
    check_refused(o);
    CHECK(o.err.find("RWKV-X") != std::string::npos);
    CHECK(o.err.find("::") == std::string::npos);  // nothing about C++
  }
}

TEST_CASE("output that does not arrive is an error of every command") {
  if (!std::filesystem::exists("/dev/full")) return;
  const TrainedShell shell;
  const std::string models = RWKV_MODELS;
  spit(shell.path("tokens.txt"), "1 2 3 4");
  spit(shell.path("numbers.txt"), "110\n3\n9\n12\n");
  spit(shell.path("tools.json"), R"([{"name": "add"}])");
  REQUIRE(shell.run("convert a.safetensors m.gguf").status == 0);
  for (const std::string command :
       {"--help", "--version", "train --help", "info a.safetensors", "info a.safetensors --json",
        "generate a.safetensors --tokens 2", "chat a.safetensors --tokens 2 < text.txt",
        "chat --template list", "tokenize --model a.safetensors < text.txt",
        "perplexity a.safetensors tokens.txt", "perplexity a.safetensors tokens.txt --json",
        "bench a.safetensors --prompt 2 --generate 2", "verify m.gguf", "verify m.gguf --json"}) {
    CAPTURE(command);
    const auto o = shell.run(command + " >/dev/full");
    CHECK(o.status == 1);
    CHECK(o.err.ends_with("error: standard output: cannot be written\n"));
  }
  const std::string automaton = models + "/automata/multiple_of_three.safetensors";
  CHECK(shell.run("match " + quoted(automaton) + " numbers.txt").out != "");
  CHECK(shell.run("match " + quoted(automaton) + " numbers.txt >/dev/full").status == 1);
  for (const std::string command :
       {"logits a.safetensors --tokens tokens.txt --out /dev/full",
        "logits a.safetensors --tokens tokens.txt --out o.npy --state-out /dev/full",
        "generate a.safetensors --tokens 2 --state-out /dev/full",
        "convert a.safetensors /dev/full --format gguf --no-self-test",
        "convert a.safetensors /dev/full --format safetensors",
        "export a.safetensors --out /dev/full", "compile-regex 'a*' --out /dev/full",
        "gradients a.safetensors --tokens tokens.txt --out /dev/full",
        "train --init a.safetensors --text text.txt --steps 1 --batch 1 --length 8 --out "
        "/dev/full"}) {
    CAPTURE(command);
    const auto o = shell.run(command);
    CHECK(o.status == 1);
    CHECK(o.err.find("error: /dev/full: cannot ") != std::string::npos);
  }
  // A reader that has gone is no reason to say anything, but one to fail.
  const std::string closed = "cd '" + shell.path("").string() +
                             "' && { '" RWKV_TOOL
                             "' generate a.safetensors --tokens 100000 --threads 1 2>err.txt; "
                             "echo $? >status.txt; } | head -c 1 >/dev/null";
  REQUIRE(std::system(closed.c_str()) == 0);
  CHECK(slurp(shell.path("status.txt")) == "1\n");
  CHECK(slurp(shell.path("err.txt")) == "");
}

TEST_CASE("nothing is written over a part of itself, or what it was made of") {
  const TrainedShell shell;
  const std::string before = slurp(shell.path("a.safetensors"));
  using Case = std::pair<std::string, const char*>;
  for (const Case& one : {Case{"--out x.bin", "--out and the blob"},
                          Case{"--out x.hpp --blob ./x.hpp", "--out and the blob"},
                          Case{"--out x.hpp --blob x.b --tables x.b", "the blob and --tables"},
                          Case{"--out a.safetensors", "the model and --out"},
                          Case{"--out a.hpp --blob a.safetensors", "the model and the blob"},
                          Case{"--out /dev/null", "--blob names one"}}) {
    CAPTURE(one.first);
    const auto o = shell.run("export a.safetensors --format blob " + one.first);
    check_refused(o);
    CHECK(o.err.find(one.second) != std::string::npos);
  }
  CHECK(slurp(shell.path("a.safetensors")) == before);
  CHECK_FALSE(std::filesystem::exists(shell.path("x.bin")));
  CHECK_FALSE(std::filesystem::exists(shell.path("x.hpp")));
}

TEST_CASE("vocabularies and automata are exported for devices") {
  const Shell shell;
  std::ofstream(shell.path("words.txt")) << "1 'a' 1\n2 'ab' 2\n300 'b' 1\n";
  CHECK(shell.run("export --vocab words.txt --vocabulary words.bin").status == 0);
  CHECK(slurp(shell.path("words.bin")).starts_with("RWKVvoca"));
  const std::string models = RWKV_MODELS;
  CHECK(shell
            .run("export " + quoted(models + "/reverse/reverse.safetensors") +
                 " --format blob --type q8_0 --name reverse --out r.hpp --vocabulary r.vocabulary")
            .status == 0);
  CHECK(slurp(shell.path("r.vocabulary")).starts_with("RWKVvoca"));
  CHECK(shell
            .run("export " + quoted(models + "/automata/multiple_of_three.safetensors") +
                 " --format blob --name three --out three.hpp")
            .status == 0);
  CHECK(slurp(shell.path("three.hpp")).find("StaticSpelling spelling{") != std::string::npos);
  check_refused(shell.run("export --vocab words.txt"));
  check_refused(shell.run("export --vocab words.txt --vocabulary v.bin --type q8_0"));
  CHECK_FALSE(std::filesystem::exists(shell.path("v.bin")));
  check_refused(shell.run("export --vocab words.txt --vocabulary words.txt"));
  check_refused(shell.run("export --out x.hpp"));
}

TEST_CASE("numbers are numbers, from end to end and in range") {
  const Shell shell;
  for (const char* wrong : {"--tokens -5",
                            "--tokens=-5",
                            "--tokens 1e3",
                            "--tokens 5x",
                            "--tokens +5",
                            "--tokens 2.0",
                            "--tokens 99999999999999999999",
                            "--top-k -1",
                            "--top-k=-1",
                            "--temperature nan",
                            "--temperature=-1",
                            "--temperature 1e99",
                            "--temperature inf",
                            "--temperature 1x",
                            "--temperature 1,5",
                            "--threads -1",
                            "--threads 2.5",
                            "--threads 99999",
                            "--seed=-1",
                            "--top-p 1.1",
                            "--min-p=-0.1",
                            "--penalty-decay nan",
                            "--presence-penalty=-1"}) {
    CAPTURE(wrong);
    const auto o = shell.run("generate " + quoted(model) + " --prompt a " + wrong);
    CHECK(o.status == 2);
    CHECK(o.err.find("number from") != std::string::npos);
  }
  for (const char* wrong :
       {"--rate nan", "--rate 1e99", "--steps 0", "--steps -1", "--ranks 1,2,-3,4", "--ffn -1",
        "--warm-up -1", "--clip inf", "--seed x"})
    CHECK(shell.run("train --text t --out o " + std::string(wrong)).status == 2);
}

TEST_CASE("options that would be ignored or name nothing are wrong usage") {
  const Shell shell;
  for (const char* wrong :
       {"generate --state-layout official", "generate --prompt-file ''", "generate --state-in ''",
        "generate --state-out ''", "generate --vocab ''", "generate --grammar ''",
        "generate --draft ''", "generate --stop ''", "logits m --tokens t --out o --positions ''",
        "chat m --state-layout official", "train --text t --out o --init m --layers 3",
        "train --text t --out o --init m --ranks 1,2,3,4",
        "train --text t --out o --init m --eigenvalues extended",
        "train --samples s --out o --length 8", "train --text t --out o --lora-rank 2",
        "train --text t --out o --init m --mode lora --weight-decay 0.1",
        "train --text t --out o --init m --mode state --type f32",
        "train --text t --out o --validate-every 5",
        "train --text t --out o --checkpoint c --other-options"}) {
    CAPTURE(wrong);
    CHECK(shell.run(wrong).status == 2);
  }
}

TEST_CASE("what is read is not written over, and standard input is read once") {
  const TrainedShell shell;
  spit(shell.path("tokens.txt"), "1 2 3 4");
  const std::string before = slurp(shell.path("a.safetensors"));
  for (const char* over :
       {"logits a.safetensors --tokens tokens.txt --out ./a.safetensors",
        "logits a.safetensors --tokens tokens.txt --out tokens.txt",
        "logits a.safetensors --tokens tokens.txt --out o.npy --state-out a.safetensors",
        "generate a.safetensors --tokens 2 --state-out a.safetensors",
        "generate a.safetensors --tokens 2 --prompt-file tokens.txt --state-out tokens.txt",
        "gradients a.safetensors --tokens tokens.txt --out a.safetensors"}) {
    CAPTURE(over);
    const auto o = shell.run(over);
    check_refused(o);
    CHECK(o.err.find(" are the same file") != std::string::npos);
  }
  spit(shell.path("script.txt"), "the cat\n/save a.safetensors\n");
  const auto chat = shell.run("chat a.safetensors --tokens 2 < script.txt");
  CHECK(chat.status == 1);
  CHECK(chat.err.find("the model and /save are the same file") != std::string::npos);
  CHECK(slurp(shell.path("a.safetensors")) == before);
  CHECK(slurp(shell.path("tokens.txt")) == "1 2 3 4");

  spit(shell.path("schema.json"), R"({"type": "boolean"})");
  const auto both =
      shell.run("generate a.safetensors --json-schema - --prompt-file - < schema.json");
  check_refused(both);
  CHECK(both.err.find("for one thing only") != std::string::npos);
  check_refused(shell.run("chat a.safetensors --tools - < script.txt"));
  check_refused(shell.run("logits a.safetensors --tokens tokens.txt --out o.npy --positions ,"));
}

TEST_CASE("training looks at its paths before the first step") {
  const TrainedShell shell;
  const std::string text = slurp(shell.path("text.txt"));
  std::filesystem::create_directory(shell.path("folder"));
  for (const std::string paths :
       {"--out folder", "--out missing/x", "--out x --log folder", "--out x --checkpoint missing/x",
        "--out x --checkpoint x", "--out text.txt", "--out ./text.txt", "--out x --log text.txt"}) {
    CAPTURE(paths);
    const auto o =
        shell.run("train --init a.safetensors --text text.txt --steps 100000000 " + paths);
    check_refused(o);
    CHECK(o.out == "");
  }
  CHECK(slurp(shell.path("text.txt")) == text);
  CHECK_FALSE(std::filesystem::exists(shell.path("x")));
  check_refused(shell.run("generate a.safetensors --state-out missing/x --tokens 1"));
}

TEST_CASE("a conversion that is interrupted leaves nothing behind") {
  const Shell shell;
  std::filesystem::create_directory(shell.path("to"));
  // Until it has begun to write, or 5 seconds have passed; it would take much longer.
  const std::string killed =
      "cd '" + shell.path("").string() +
      "' && { '" RWKV_TOOL
      "' convert --shape 0.4b to/m.gguf --type q4_k --threads 1 2> err.txt & } && p=$! && "
      "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; ls -l /proc/$p/fd 2>/dev/null | grep -q to/ && "
      "break; done; kill -TERM $p; wait $p; echo $? > status.txt";
  static_cast<void>(std::system(killed.c_str()));
  CHECK(slurp(shell.path("status.txt")) == "143\n");
  CHECK(std::filesystem::is_empty(shell.path("to")));
}

TEST_CASE("stop strings have escapes") {
  const TrainedShell shell;
  const std::string generate =
      "generate a.safetensors --prompt 'the ' --tokens 60 --temperature 0 --threads 1";
  const std::string whole = shell.run(generate).out;
  const std::size_t at = whole.find("t ", 5);
  REQUIRE(at != std::string::npos);
  CHECK(shell.run(generate + " --stop 't\\x20'").out == whole.substr(0, at) + "\n");
  CHECK(shell.run(generate + " --stop '\\x74 ' --stop '\\n\\t\\\\'").out ==
        whole.substr(0, at) + "\n");
  for (const char* bad : {"\\", "\\q", "\\x", "\\x4", "\\xzz"}) {
    CAPTURE(bad);
    check_refused(shell.run(generate + " --stop '" + bad + "'"));
  }
}

TEST_CASE("generate writes what a schema, a grammar or an expression describes") {
  const Shell shell;
  const std::string tales = std::string(RWKV_MODELS) + "/tales/tales.safetensors";
  const std::string generate = "generate " + quoted(tales) + " --seed 3 --threads 1 ";
  spit(
      shell.path("person.json"),
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":9},"age":{"type":"integer",
           "minimum":1,"maximum":120}},"required":["name","age"],"additionalProperties":false})");
  const auto person = shell.run(generate + "--prompt 'The king: ' --json-schema person.json");
  REQUIRE(person.status == 0);
  CHECK(person.out.starts_with("{\"name\":\""));  // without the prompt
  CHECK(person.out.ends_with("}\n"));
  CHECK(shell
            .run(generate + "--prompt 'The king: ' --json-schema - < " +
                 quoted(shell.path("person.json")))
            .out == person.out);
  const auto matched = shell.run(generate + "--regex 'The (king|queen) was (glad|sad)\\.'");
  CHECK(matched.status == 0);
  CHECK(matched.out.starts_with("The "));
  CHECK(matched.out.ends_with("ad.\n"));
  spit(shell.path("list.gbnf"), "root ::= \"(\" root{0,2} \")\"\n");
  CHECK(shell.run(generate + "--grammar list.gbnf --tokens 1000").out.starts_with("("));

  spit(shell.path("odd.json"), R"({"items":{"uniqueItems":true}})");
  const auto refused = shell.run(generate + "--json-schema odd.json");
  check_refused(refused);
  CHECK(refused.err.find("odd.json: /items/uniqueItems: \"uniqueItems\" is not supported") !=
        std::string::npos);
  check_refused(shell.run(generate + "--json-schema missing.json"));
  check_refused(shell.run(generate + "--regex '('"));
  const auto cut = shell.run(generate + "--json-schema person.json --tokens 12");
  CHECK(cut.status == 1);
  CHECK(cut.err.find("not finished after 12 tokens") != std::string::npos);
  CHECK(shell.run(generate + "--json-schema person.json --regex a").status == 2);
}

TEST_CASE("drafts change no text, and have the model's vocabulary") {
  const Shell shell;
  const std::string models = RWKV_MODELS;
  const std::string tales = quoted(models + "/tales/tales.safetensors");
  const std::string reverse = quoted(models + "/reverse/reverse.safetensors");
  const std::string how = " --prompt 'Once upon a time, once upon a' --tokens 60 --seed 5";
  for (const char* const temperature : {" --temperature 0", " --temperature 0.7"}) {
    const Outcome plain = shell.run("generate " + tales + how + temperature);
    REQUIRE(plain.status == 0);
    for (const std::string& draft :
         std::vector<std::string>{"ngram", "ngram --draft-tokens 3", tales + " --draft-tokens 4"}) {
      const Outcome drafted =
          shell.run("generate " + tales + how + temperature + " --draft " + draft);
      CHECK(drafted.status == 0);
      CHECK(drafted.out == plain.out);
    }
  }
  const Outcome other = shell.run("generate " + tales + how + " --draft " + reverse);
  check_refused(other);
  CHECK(other.err.find("has another vocabulary than the model") != std::string::npos);
  check_refused(shell.run("generate " + tales + how + " --draft nothing.pth"));
  const std::string passkey = quoted(models + "/passkey/passkey.safetensors");
  const Outcome hybrid = shell.run("generate " + tales + how + " --draft " + passkey);
  check_refused(hybrid);
  CHECK(hybrid.err.find("RWKV-X") != std::string::npos);
  CHECK(shell.run("generate " + tales + " --draft-tokens 3").status == 2);
}

TEST_CASE("chat takes tokens of an answer back, and drafts follow") {
  const Shell shell;
  const std::string tales = quoted(std::string(RWKV_MODELS) + "/tales/tales.safetensors");
  const auto chat = [&](const std::string& entered, const std::string& more) {
    spit(shell.path("script.txt"), entered);
    return shell.run("chat " + tales + " --tokens 20 --seed 3 <script.txt " + more);
  };
  const std::string script = "Hello\n/rewind 5\nAnd then?\n/regenerate\n/undo\nWho?\n";
  const Outcome plain = chat(script, "");
  REQUIRE(plain.status == 0);
  CHECK(chat(script, "--draft ngram").out == plain.out);
  CHECK(chat(script, "--draft " + tales).out == plain.out);
  const std::string answer = chat("Hello\n", "").out;
  const std::string shorter = chat("Hello\n/rewind 5\n", "").out;
  REQUIRE(shorter.starts_with(answer));
  const std::string kept = shorter.substr(answer.size());
  CHECK(kept.size() < answer.size());
  CHECK(answer.find(kept.substr(0, kept.size() - 1)) != std::string::npos);
  CHECK(chat("/rewind 5\n", "").err.starts_with("there are no tokens of an answer to take back"));
  check_refused(chat("Hello\n/rewind\n", ""));
}

TEST_CASE("verify says when rounding is the likely cause") {
  const Shell shell;
  // A model that suffers from 8-bit inputs.
  REQUIRE(shell
              .run("convert '" + std::string(RWKV_MODELS) +
                   "/reverse/reverse.safetensors' r.gguf --type q4_0")
              .status == 0);
  CHECK(shell.run("verify r.gguf --exact-inputs").status == 0);
  const auto o = shell.run("verify r.gguf");
  CHECK(o.status == 1);
  CHECK(o.err.find("the likely cause is rounding of inputs") != std::string::npos);
}

#endif
