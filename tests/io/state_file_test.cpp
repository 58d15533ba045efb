// SPDX-License-Identifier: Apache-2.0
// States as other programs write them, and inside models.
#include "../support/hostile.hpp"
#include "../support/temporary_directory.hpp"
#include "support/sample_hybrid.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/io/describe.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <limits>

using rwkv::DType;
using rwkv::Error;
using rwkv::State;
using rwkv::io::StateOptions;
using test::Bytes;
using test::SampleTensor;

namespace {

constexpr std::size_t layers = 2, embed = 8, heads = 2, n = 4;

rwkv::DynamicShape shape() {
  return rwkv::DynamicShape(rwkv::io::dimensions_of(test::sample_checkpoint()));
}

/// Every number differs from every other.
float number(std::size_t layer, std::size_t part, std::size_t i) {
  return static_cast<float>(layer * 300 + part * 100 + i) / 64;
}

/// With matrices alone, or the rows of the token shift too.
State<> expected(bool rows) {
  State<> state(shape());
  for (std::size_t l = 0; l < layers; ++l) {
    for (std::size_t c = 0; c < embed && rows; ++c) {
      state.att_x_prev(l)[c] = number(l, 0, c);
      state.ffn_x_prev(l)[c] = number(l, 1, c);
    }
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t value = 0; value < n; ++value)
        for (std::size_t key = 0; key < n; ++key)
          state.wkv(l)[(h * n + key) * n + value] = number(l, 2, (h * n + value) * n + key);
  }
  return state;
}

SampleTensor part_of(std::string name, std::size_t l, std::size_t part) {
  SampleTensor t{std::move(name), {embed}, {}};
  if (part == 2) t.shape = {heads, n, n};
  for (std::size_t i = 0; i < (part == 2 ? heads * n * n : embed); ++i)
    t.values.push_back(number(l, part, i));
  return t;
}

std::vector<SampleTensor> tuned(const std::string& prefix = "") {
  std::vector<SampleTensor> tensors;
  for (std::size_t l = 0; l < layers; ++l)
    tensors.push_back(part_of(prefix + "blocks." + std::to_string(l) + ".att.time_state", l, 2));
  return tensors;
}

std::vector<SampleTensor> chat_rwkv() {
  std::vector<SampleTensor> tensors;
  for (std::size_t l = 0; l < layers; ++l) {
    tensors.push_back(part_of(std::to_string(3 * l), l, 0));
    tensors.push_back(part_of(std::to_string(3 * l + 1), l, 2));
    tensors.push_back(part_of(std::to_string(3 * l + 2), l, 1));
  }
  return tensors;
}

/// As torch.save writes a list of tensors, a tuple, or a dictionary with numbers; also under a key,
/// beside another tensor.
Bytes numbered_pth(char kind, bool under_key = false) {
  test::PickleWriter pickle;
  test::ZipWriter zip;
  if (under_key)
    pickle.op("}(").text("logits").tensor("FloatStorage", "0", 8, 0, {2}, {1}).text("state");
  pickle.op(kind == 'l' ? "](" : kind == 'd' ? "}(" : "(");
  const auto tensors = chat_rwkv();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (kind == 'd') pickle.number(static_cast<std::int64_t>(i));
    pickle.tensor("FloatStorage", std::to_string(i),
                  static_cast<std::int64_t>(tensors[i].values.size()), 0, tensors[i].shape,
                  rwkv::io::c_order(tensors[i].shape));
  }
  pickle.op(kind == 'l' ? "e" : kind == 'd' ? "u" : "t");
  if (under_key) pickle.op("u");
  zip.add("a/data.pkl", pickle.finish());
  for (std::size_t i = 0; i < tensors.size(); ++i)
    zip.add("a/data/" + std::to_string(i), test::encode(tensors[i].values, DType::f32));
  return zip.finish();
}

Bytes rwkv_cpp() {
  std::vector<float> all;
  for (std::size_t l = 0; l < layers; ++l)
    for (const std::size_t part : {1u, 0u, 2u}) {
      const auto values = part_of("", l, part).values;
      all.insert(all.end(), values.begin(), values.end());
    }
  return test::encode(all, DType::f32);
}

struct Files {
  test::TemporaryDirectory directory;

  State<> read(const std::string& name, const Bytes& bytes, StateOptions options = {}) const {
    test::write_file(directory / name, bytes);
    return rwkv::io::read_state(directory / name, shape(), 1, options);
  }
  std::string refusal(const std::string& name, const Bytes& bytes,
                      StateOptions options = {}) const {
    try {
      (void)read(name, bytes, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "read";
  }
};

bool mentions(const std::string& sentence, std::string_view part) {
  return sentence.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a tuned state, official and as web-rwkv turns it") {
  const Files files;
  const Bytes official = test::to_safetensors(tuned());
  const Bytes turned = test::to_safetensors(test::with_web_rwkv_layout(tuned()), DType::f16);
  const State<> want = expected(false);
  CHECK(files.read("a.safetensors", official) == want);
  CHECK(files.read("a.pth", test::to_pth(tuned(), DType::bf16)) ==
        files.read("b.pth", test::to_pth(tuned(), DType::bf16), {.transposed = false}));
  CHECK(files.read("a.pth", test::to_pth(tuned())) == want);
  CHECK(files.read("a.st", turned) == want);
  CHECK(files.read("a.safetensors", turned, {.transposed = true}) == want);
  CHECK_FALSE(files.read("a.safetensors", turned) == want);  // which nothing in it tells
  CHECK(files.read("a.st", official, {.transposed = false}) == want);
  CHECK(files.read("a.st", test::to_safetensors(tuned(), DType::f32, {{"rwkv.kind", "state"}})) ==
        want);  // ours, whatever it is called
  CHECK(files.read("a.st", test::to_pth(tuned())) == want);
}

TEST_CASE("a tuned state behind a prefix") {
  const Files files;
  for (const char* prefix : {"model.", "base_model.model.", "x.y."}) {
    CAPTURE(prefix);
    CHECK(files.read("s.pth", test::to_pth(tuned(prefix))) == expected(false));
    CHECK(files.read("s.safetensors", test::to_safetensors(tuned(prefix))) == expected(false));
  }
}

TEST_CASE("a tuned state beside what training notes down") {
  const Files files;
  const std::vector<std::int64_t> step{5};
  std::vector<rwkv::io::NamedTensor> tensors{
      rwkv::io::named_tensor<std::int64_t>("step", {}, step)};
  const auto state = tuned();
  for (const SampleTensor& t : state)
    tensors.push_back(rwkv::io::named_tensor<float>(t.name, t.shape, t.values));
  CHECK(files.read("s", rwkv::io::serialize_safetensors(tensors)) == expected(false));
}

TEST_CASE("states of ChatRWKV and rwkv.cpp") {
  const Files files;
  CHECK(files.read("s", test::to_safetensors(chat_rwkv())) == expected(true));
  CHECK(files.read("s.pth", test::to_pth(chat_rwkv())) == expected(true));
  for (const char kind : {'l', 't', 'd'}) {
    CAPTURE(kind);
    CHECK(files.read("s.pth", numbered_pth(kind, true)) == expected(true));
    CHECK(files.read("s.pth", numbered_pth(kind)) == expected(true));
    const auto list = rwkv::io::read_checkpoint(files.directory / "s.pth");
    CHECK(mentions(rwkv::io::describe(list), "the state of a sequence"));
  }
  CHECK(files.read("s.bin", rwkv_cpp()) == expected(true));

  Bytes bytes = rwkv_cpp();
  bytes[0] = std::byte{'{'};  // of a number, not of an index
  CHECK(files.refusal("s.bin", bytes) == "read");
  CHECK(mentions(files.refusal("s.bin", {bytes.begin(), bytes.end() - 1}), "valid JSON"));
  bytes = rwkv_cpp();
  bytes.pop_back();
  CHECK(mentions(files.refusal("s.bin", bytes), "should have 384 bytes for this model, not 383"));
  CHECK(mentions(files.refusal("s.bin", Bytes(10)), "not 10"));
  bytes = rwkv_cpp();
  std::fill(bytes.begin() + 100, bytes.begin() + 104, std::byte{0xff});
  CHECK(mentions(files.refusal("s.bin", bytes), "not finite"));
  CHECK(mentions(files.refusal("s.bin", Bytes()), "is empty"));
}

TEST_CASE("what this library writes is read as it was, and in no other way") {
  const Files files;
  const rwkv::Model<> model(test::sample_checkpoint());
  const auto path = files.directory / "own.st";
  model.save_state(path, expected(true));
  CHECK(model.load_state(path) == expected(true));
  CHECK(model.load_state(path, {.transposed = false}) == expected(true));
  CHECK_THROWS_WITH_AS((void)model.load_state(path, {.transposed = true}),
                       doctest::Contains("does not write transposed ones"), Error);
}

TEST_CASE("states that do not fit are refused") {
  const Files files;
  auto tensors = tuned();
  tensors[1].shape = {n, n};
  tensors[1].values.resize(n * n);
  CHECK(mentions(files.refusal("s", test::to_safetensors(tensors)),
                 "blocks.1.att.time_state has shape [4, 4]"));
  tensors = tuned();
  tensors.pop_back();
  CHECK(mentions(files.refusal("s", test::to_safetensors(tensors)), "1 tensors where a state of"));
  tensors = tuned("model.");
  tensors[1].name = "other.blocks.1.att.time_state";
  CHECK(files.refusal("s", test::to_safetensors(tensors)) != "read");
  tensors = tuned();
  tensors[0].values[3] = std::numeric_limits<float>::infinity();
  CHECK(mentions(files.refusal("s", test::to_safetensors(tensors)), "not finite"));
  tensors = chat_rwkv();
  std::swap(tensors[0].name, tensors[1].name);
  CHECK(mentions(files.refusal("s", test::to_safetensors(tensors)), "tensor 1 has shape [8]"));
  tensors = chat_rwkv();
  tensors[5].name = "7";
  CHECK(mentions(files.refusal("s", test::to_safetensors(tensors)), "tensor 5 is missing"));
  CHECK(mentions(files.refusal("s", test::to_safetensors({})), "0 tensors"));
  for (const Bytes& bytes : {test::to_safetensors(tuned()), test::to_pth(chat_rwkv()), rwkv_cpp()})
    for (std::size_t size = 1; size < bytes.size(); size += 37)
      CHECK(files.refusal("s", Bytes(bytes.begin(), bytes.begin() + static_cast<int>(size))) !=
            "read");
}

TEST_CASE("a model with a tuned state inside begins with it") {
  const Files files;
  auto tensors = test::sample_model();
  for (const auto& tensor : tuned()) tensors.push_back(tensor);
  const auto logits = [](const rwkv::Model<>& model, State<> state) {
    rwkv::Workspace work(model.shape(), 2);
    const rwkv::Token tokens[] = {3, 1};
    const auto row = model.forward(state, tokens, work);
    return std::vector<float>(row.begin(), row.end());
  };
  test::write_file(files.directory / "m", test::to_safetensors(tensors));
  const rwkv::Model<> merged = rwkv::load(files.directory / "m");
  const rwkv::Model<> plain(test::sample_checkpoint());
  CHECK(merged.initial_state() == expected(false));
  CHECK(plain.initial_state() == State(plain.shape()));
  CHECK(logits(merged, merged.initial_state()) == logits(plain, expected(false)));
  CHECK(logits(merged, State(merged.shape())) == logits(plain, plain.initial_state()));
  CHECK(merged.weights().fingerprint() == plain.weights().fingerprint());
  CHECK(merged.weights().bytes() ==
        plain.weights().bytes() + layers * heads * n * n * sizeof(float));

  test::write_file(files.directory / "wrapped",
                   test::to_pth(test::with_web_rwkv_layout(tensors), DType::f32, {}, "model"));
  CHECK(rwkv::load(files.directory / "wrapped").initial_state() == expected(false));

  const auto checkpoint = rwkv::io::read_checkpoint(files.directory / "m");
  rwkv::convert(checkpoint, files.directory / "c.safetensors",
                {.format = rwkv::FileFormat::safetensors, .type = DType::bf16, .self_test = false});
  CHECK(rwkv::load(files.directory / "c.safetensors").initial_state() == expected(false));
  CHECK_THROWS_WITH_AS(rwkv::convert(checkpoint, files.directory / "c.gguf", {}),
                       doctest::Contains("GGUF has no place"), Error);

  auto broken = tensors;
  broken.pop_back();
  test::write_file(files.directory / "b", test::to_safetensors(broken));
  CHECK_THROWS_WITH_AS((void)rwkv::load(files.directory / "b"),
                       doctest::Contains("blocks.1.att.time_state is missing"), Error);
  broken.push_back({"blocks.1.att.time_state", {2}, {1, 2}});
  test::write_file(files.directory / "b", test::to_safetensors(broken));
  CHECK_THROWS_WITH_AS((void)rwkv::load(files.directory / "b"), doctest::Contains("has shape [2]"),
                       Error);
  broken.back() = tensors.back();
  broken.back().values[0] = std::numeric_limits<float>::quiet_NaN();
  test::write_file(files.directory / "b", test::to_safetensors(broken));
  CHECK_THROWS_WITH_AS((void)rwkv::load(files.directory / "b"), doctest::Contains("not finite"),
                       Error);
}

TEST_CASE("a hybrid model begins with a tuned state too") {
  auto checkpoint = test::sample_hybrid(1);
  const std::size_t size = 4 * 32 * 32;
  for (std::size_t l = 0; l < 3; ++l)
    test::replace(checkpoint, "blocks." + std::to_string(l) + ".att.time_state", {4, 32, 32},
                  std::vector<float>(size, static_cast<float>(l + 1)));
  const rwkv::HybridModel model(checkpoint);
  const rwkv::HybridState state = model.initial_state();
  CHECK(state.rwkv().wkv(2)[size - 1] == 3);
  CHECK(state.cache(0).size() == 0);
}

#ifdef RWKV_GOLDENS
TEST_CASE("the shared cases of states") {
  const std::filesystem::path cases = std::filesystem::path(RWKV_GOLDENS) / "../cases";
  if (!std::filesystem::exists(cases / "web_rwkv_state")) return;
  const rwkv::Model<> model =
      rwkv::load(std::filesystem::path(RWKV_GOLDENS) / "rwkv7/r7_l2_c32/model.safetensors");
  const auto official = model.load_state(cases / "web_rwkv_state/official.safetensors");
  CHECK_FALSE(official == State(model.shape()));
  CHECK(model.load_state(cases / "web_rwkv_state/web_rwkv.st") == official);
  CHECK(model.load_state(cases / "lora_adapters/state_behind_model.pth") == State(model.shape()));
}
#endif
