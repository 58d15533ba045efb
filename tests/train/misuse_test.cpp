// SPDX-License-Identifier: Apache-2.0
// What a program may do wrong with training: each time it gets a sentence with the numbers.
#include "../support/temporary_directory.hpp"
#include "support.hpp"
#include "support/refusal.hpp"
#include "support/sample_checkpoint.hpp"
#include <rwkv/io/read.hpp>
#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/train.hpp>
#include <rwkv/train/longce.hpp>

#include <doctest/doctest.h>

#include <clocale>
#include <limits>

using namespace rwkv;
using namespace rwkv::train;

namespace {

constexpr float nan_f = std::numeric_limits<float>::quiet_NaN();
constexpr double nan_d = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t most = static_cast<std::size_t>(-1);

Dimensions dimensions(std::size_t layers = 2) {
  return {.layers = layers,
          .embed = 32,
          .head_size = 16,
          .ffn = 64,
          .vocab = 29,
          .decay_rank = 6,
          .icl_rank = 5,
          .value_rank = 3,
          .gate_rank = 7};
}

std::shared_ptr<const Layout> tiny(std::size_t layers = 2) {
  return std::make_shared<const Layout>(dimensions(layers));
}

std::vector<Token> text(std::size_t n) {
  std::vector<Token> tokens(n);
  for (std::size_t i = 0; i < n; ++i) tokens[i] = static_cast<Token>(i * i % 29);
  return tokens;
}

Trainer<TextWindows> trainer(const TrainerOptions& options) {
  return {initialise(tiny(), 3), TextWindows(text(400), 20, 11), options};
}

using test::contains;
using test::refusal;

template <class F>
bool refuses(F&& f, const std::string& part, ErrorCategory category = ErrorCategory::argument) {
  return contains(refusal(category, f), part);
}

template <class T>
void lose(T& value) {
  [[maybe_unused]] const T elsewhere(std::move(value));
}

}  // namespace

TEST_CASE("a trainer is asked for what it does not train") {
  const test::TemporaryDirectory directory;
  for (const Mode mode : {Mode::full, Mode::state, Mode::lora}) {
    const auto t = trainer({.mode = mode, .batch = 2});
    if (mode == Mode::lora)
      CHECK(t.lora().options().rank == 8);
    else
      CHECK(refuses([&] { (void)t.lora(); }, "trains no adapters"));
    if (mode == Mode::state) {
      CHECK(t.state().shape() == t.model().shape());
      CHECK_NOTHROW(t.write_state(directory / "s"));
      continue;
    }
    CHECK(refuses([&] { (void)t.state(); }, "trains no initial state"));
    CHECK(refuses([&] { t.write_state(directory / "t"); }, "trains no initial state"));
    CHECK(!std::filesystem::exists(directory / "t"));
  }
}

TEST_CASE("a text is cut into windows of some length") {
  const auto tokens = text(10);
  CHECK(refuses([&] { (void)cut(tokens, 0); }, "windows of 0"));
  for (const std::size_t length : {most, most - 1, most / 2, std::size_t{9}}) {
    const auto samples = cut(tokens, length);
    REQUIRE(samples.size() == 1);
    CHECK(samples[0].tokens.size() == 10);
  }
  CHECK(cut(tokens, 8).size() == 2);
  CHECK(cut({}, 5).empty());
  CHECK(cut(std::span(tokens).first(1), 5).empty());
}

TEST_CASE("windows longer than their text, whatever the length") {
  for (const std::size_t length : {std::size_t{0}, std::size_t{10}, most, most / 2, most / 2 + 1})
    CHECK(refuses([&] { TextWindows(text(20), length, 1); }, "20 tokens"));
  CHECK(refuses([&] { TextWindows({}, 1, 1); }, "0 tokens"));
}

TEST_CASE("options of a trainer that make no sense") {
  const auto refused = [](const TrainerOptions& options, const char* name) {
    return refuses([&] { trainer(options); }, name);
  };
  CHECK(refused({.batch = 0}, "batch"));
  CHECK(refuses([] { trainer({.batch = most}); }, "batch", ErrorCategory::memory));
  for (const double bad : {nan_d, -1.0, std::numeric_limits<double>::infinity()}) {
    CHECK(refused({.batch = 1, .schedule = {.initial = bad}}, "learning rate"));
    CHECK(refused({.batch = 1, .schedule = {.final = bad}}, "learning rate"));
    CHECK(refused({.batch = 1, .optimizer = {.beta1 = bad}}, "beta1"));
    CHECK(refused({.batch = 1, .optimizer = {.beta2 = bad}}, "beta2"));
    CHECK(refused({.batch = 1, .optimizer = {.epsilon = bad}}, "epsilon"));
    CHECK(refused({.batch = 1, .optimizer = {.weight_decay = bad}}, "weight_decay"));
    if (bad != std::numeric_limits<double>::infinity())
      CHECK(refused({.batch = 1, .optimizer = {.clip = bad}}, "clip"));
  }
  // No floats: a number without gradient would become 0 / 0.
  for (const double bad : {1e-46, 1e300})
    CHECK(refused({.batch = 1, .optimizer = {.epsilon = bad}}, "epsilon"));
  CHECK(refused({.batch = 1, .optimizer = {.beta1 = 1.0}}, "beta1"));
  CHECK(refused({.batch = 1, .optimizer = {.beta2 = 1.5}}, "beta2"));
  for (const float bad : {nan_f, 0.0f, -2.0f, std::numeric_limits<float>::infinity()})
    CHECK(refused({.mode = Mode::lora, .batch = 1, .lora = {.alpha = bad}}, "alpha"));
  for (const std::size_t bad : {std::size_t{0}, dimensions().embed + 1, most, most / 32})
    CHECK(refused({.mode = Mode::lora, .batch = 1, .lora = {.rank = bad}}, "rank"));
}

TEST_CASE("samples that were moved away") {
  TextWindows windows(text(400), 20, 1);
  SampleList list(std::vector<SampleList::Item>{{text(12), {}}}, 1);
  lose(windows);
  lose(list);
  const auto refused = [](auto& source) {
    Sample sample;
    CHECK(source.largest_token() == 0);
    return refuses([&] { source.next(std::span(&sample, 1)); }, "these samples were moved away");
  };
  CHECK(refused(windows));
  CHECK(refused(list));
}

TEST_CASE("a model with numbers that its type cannot hold is not written") {
  const test::TemporaryDirectory directory;
  for (const auto& [bad, type] :
       {std::pair{nan_f, rwkv::DType::f32}, std::pair{nan_f, rwkv::DType::bf16},
        std::pair{-HUGE_VALF, rwkv::DType::f32}, std::pair{3.4e38f, rwkv::DType::bf16},
        std::pair{-65520.0f, rwkv::DType::f16}, std::pair{nan_f, rwkv::DType::f16}}) {
    Parameters p(tiny());
    p.globals().ln0.bias[1] = bad;
    CHECK(refuses([&, type = type] { write_model(directory / "m", p, type); },
                  "tensor blocks.0.ln0.bias contains"));
    CHECK_FALSE(std::filesystem::exists(directory / "m"));
  }
}

TEST_CASE("parameters and layouts that are not there") {
  Parameters moved(tiny());
  lose(moved);
  const auto says = [](auto&& f) { return refuses(f, "moved away"); };
  CHECK(says([&] { Trainer<TextWindows>(moved, TextWindows(text(400), 20, 1), {.batch = 1}); }));
  Objective objective(tiny());
  const auto tokens = text(12);
  const auto samples = cut(tokens, 20);
  CHECK(says([&] { (void)objective.loss(moved, samples, Serial()); }));
  CHECK(says([&] { (void)objective.logits(moved, tokens); }));
  const test::TemporaryDirectory directory;
  CHECK(says([&] { write_model(directory / "m", moved); }));
  lose(objective);
  const Parameters p(tiny());
  CHECK(says([&] { (void)objective.loss(p, samples, Serial()); }));
  CHECK(says([&] { (void)objective.logits(p, tokens); }));
  CHECK(refuses([] { Parameters(nullptr); }, "layout"));
  CHECK(refuses([] { Objective(nullptr); }, "layout"));
  CHECK(refuses([] { (void)initialise(nullptr, 1); }, "layout"));
}

TEST_CASE("numbers that are not finite are not learned from, in either part of a table") {
  const auto whole = io::read_checkpoint(std::filesystem::path(RWKV_TEST_DATA) /
                                         "golden_l2_c32_deep_f32.model.safetensors");
  for (const std::string name :
       {"blocks.1.ffn.key.weight", "blocks.1.ffn.s_emb.weight", "blocks.1.ffn.s_emb_x.weight"}) {
    CAPTURE(name);
    auto spoilt = whole;
    auto values = whole.get(name).values<float>();
    values[3] = nan_f;
    test::replace<float>(spoilt, name, whole.get(name).shape, values);
    CHECK(refuses([&] { (void)read_parameters(spoilt); },
                  name + " contains a number that is not finite", ErrorCategory::numeric));
  }
}

TEST_CASE("layouts of more numbers than there can be") {
  Dimensions d = dimensions();
  d.deep_rank = 0x4001;
  CHECK(refuses([&] { Layout layout(d); }, "a DeepEmbed of 16385 ranks"));
  d.deep_rank = std::size_t{1} << (4 * sizeof(std::size_t));  // whose square is 0
  CHECK(refuses([&] { Layout layout(d); }, "a DeepEmbed of "));
  d.deep_rank = 0;
  d.vocab = most / 32;
  CHECK(refuses([&] { Layout layout(d); }, "no memory for a tensor emb.weight",
                ErrorCategory::memory));
}

TEST_CASE("gradients and states of another shape") {
  Objective objective(tiny());
  const Parameters p = initialise(tiny(), 1);
  Parameters deep(tiny(3));
  State<> other{DynamicShape(dimensions(3))};
  const auto tokens = text(12);
  auto samples = cut(tokens, 5);
  const auto says = [](auto&& f) { return refuses(f, "3 layers", ErrorCategory::shape); };
  CHECK(says([&] { (void)objective.loss(deep, samples, Serial()); }));
  CHECK(says([&] { (void)objective.logits(deep, tokens); }));
  CHECK(says([&] { (void)objective.logits(p, tokens, &other); }));
  CHECK(says([&] { (void)objective.gradient(p, samples, {.parameters = &deep}, Serial()); }));
  CHECK(says([&] { (void)objective.gradient(p, samples, {.initial = &other}, Serial()); }));
  samples[1].initial = &other;
  CHECK(says([&] { (void)objective.loss(p, samples, Serial()); }));
  State<> moved(p.shape());
  lose(moved);
  samples[1].initial = &moved;
  CHECK(refuses([&] { (void)objective.loss(p, samples, Serial()); }, "moved away"));
  CHECK(refuses([&] { (void)objective.logits(p, tokens, &moved); }, "moved away"));
  samples[1].initial = nullptr;
  State<> shared(p.shape());
  for (Sample& s : samples) s.initial_gradient = &shared;
  CHECK(refuses([&] { (void)objective.gradient(p, samples, {}, Serial()); }, "same state"));
  CHECK(refuses([&] { (void)objective.logits(p, {}); }, "no tokens"));
}

TEST_CASE("adapters of another model") {
  const Layout two(dimensions(2));
  Lora lora(two, {}, 1);
  Parameters base(tiny()), deep(tiny(3));
  CHECK(refuses([&] { lora.merge(deep, deep); }, "3 layers", ErrorCategory::shape));
  CHECK(refuses([&] { lora.merge(base, deep); }, "3 layers", ErrorCategory::shape));
  std::vector<float> out(lora.values().size());
  CHECK(refuses([&] { lora.gradient(deep, out); }, "3 layers", ErrorCategory::shape));
  out.pop_back();
  CHECK(refuses([&] { lora.gradient(base, out); }, std::to_string(out.size())));
}

TEST_CASE("an optimizer of another size") {
  CHECK(refuses([] { AdamW(100, {{90, 11}}, {}); }, "90"));
  AdamW adam(100, {{0, 100}}, {});
  std::vector<float> hundred(100), fewer(99);
  CHECK(refuses([&] { (void)adam.norm(fewer); }, "99"));
  CHECK(refuses([&] { adam.step(fewer, hundred, 1, 1e-3, Serial()); }, "99"));
  CHECK(refuses([&] { adam.step(hundred, fewer, 1, 1e-3, Serial()); }, "99"));
  CHECK(adam.steps() == 0);
}

TEST_CASE("LongCE with weights that are none") {
  Objective objective(tiny());
  const Parameters p = initialise(tiny(), 1);
  const auto tokens = text(12);
  for (const double bad : {nan_d, -1.0})
    CHECK(refuses([&] { (void)longce_weights(objective, p, tokens, {.targets = 4, .most = bad}); },
                  "most"));
}

TEST_CASE("alpha is written and read exactly, whatever the locale says") {
  const test::TemporaryDirectory directory;
  const Layout layout(dimensions());
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  for (const char* comma : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8"})
    if (std::setlocale(LC_NUMERIC, comma) != nullptr) break;
  CHECK(refuses([&] { Lora(layout, {.alpha = -2.5f}, 1); }, "-2.5"));
  for (const float alpha : {16.0f, 0.1f, 1e-7f, 1.0f / 3, 123456.789f}) {
    const Lora lora(layout, {.rank = 3, .alpha = alpha}, 1);
    lora.write(directory / "a");
    const io::Checkpoint c = io::read_checkpoint(directory / "a");
    CHECK(Lora::read(c, layout).options().alpha == alpha);
    CHECK(c.metadata.at("rwkv.lora_alpha").find(',') == std::string::npos);
  }
  std::setlocale(LC_NUMERIC, before.c_str());
}

TEST_CASE("rank and alpha of a file are numbers that fit its tensors") {
  const test::TemporaryDirectory directory;
  const Layout layout(dimensions());
  Lora(layout, {.rank = 3}, 1).write(directory / "a");
  const io::Checkpoint good = io::read_checkpoint(directory / "a");
  const auto with = [&](const char* key, const char* value) {
    io::Checkpoint c = good;
    c.metadata[key] = value;
    return c;
  };
  CHECK(Lora::read(with("rwkv.lora_rank", "3"), layout).options().rank == 3);
  CHECK(Lora::read(with("rwkv.lora_alpha", "16.000000"), layout).options().alpha == 16.0f);
  for (const char* bad : {"", "3.5", "-3", "0", "0x3", " 3", "3 ", "3,0", "nan", "inf", "1e400"}) {
    CAPTURE(bad);
    CHECK(refuses([&] { (void)Lora::read(with("rwkv.lora_rank", bad), layout); }, "lora_rank",
                  ErrorCategory::format));
  }
  for (const char* bad : {"", "-3", "0", "0x3", " 3", "3 ", "3,5", "nan", "inf", "1e400"}) {
    CAPTURE(bad);
    CHECK(refuses([&] { (void)Lora::read(with("rwkv.lora_alpha", bad), layout); }, "lora_alpha",
                  ErrorCategory::format));
  }
  // Nothing is allocated for what the tensors do not have.
  for (const char* rank : {"2", "4", "999999", "18446744073709551615"})
    CHECK_THROWS_AS((void)Lora::read(with("rwkv.lora_rank", rank), layout), Error);
}
