// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/train.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

using namespace rwkv;
using namespace rwkv::train;

namespace {

std::shared_ptr<const Layout> tiny(Eigenvalues e = Eigenvalues::standard) {
  return std::make_shared<const Layout>(Dimensions{.layers = 2,
                                                   .embed = 32,
                                                   .head_size = 16,
                                                   .ffn = 64,
                                                   .vocab = 29,
                                                   .decay_rank = 6,
                                                   .icl_rank = 5,
                                                   .value_rank = 3,
                                                   .gate_rank = 7},
                                        e);
}

/// A text with something to learn: a random walk over the alphabet.
std::vector<Token> text(std::size_t n) {
  Random random(5);
  std::vector<Token> tokens(n);
  Token now = 0;
  for (Token& t : tokens) t = now = static_cast<Token>((now + 1 + random.below(3)) % 29);
  return tokens;
}

TrainerOptions options() {
  TrainerOptions o;
  o.batch = 5;
  o.schedule = {.initial = 3e-3, .final = 1e-4, .steps = 40, .warm_up = 4};
  o.optimizer.weight_decay = 0.1;
  o.objective.l2wrap = true;
  return o;
}

Trainer<TextWindows> trainer(Mode mode = Mode::full, std::size_t batch = 5) {
  TrainerOptions o = options();
  o.mode = mode;
  o.batch = batch;
  return {initialise(tiny(), 3), TextWindows(text(2000), 37, 11), o};
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

struct TemporaryFile {
  std::filesystem::path path;
  explicit TemporaryFile(const char* name)
      : path(std::filesystem::temp_directory_path() / (std::string("rwkv_trainer_test_") + name)) {}
  ~TemporaryFile() { std::filesystem::remove(path); }
};

template <class F>
std::string error_of(ErrorCategory category, F f) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.category() == category);
    return e.what();
  }
  FAIL("no error");
  return {};
}

bool mentions(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("training learns") {
  auto t = trainer();
  ThreadPool pool(2);
  const double first = t.step(pool).loss;
  CHECK(first == doctest::Approx(std::log(29.0)).epsilon(0.1));
  double last = 0.0;
  for (int i = 0; i < 39; ++i) last = t.step(pool).loss;
  CHECK(last < 2.0);
  const auto held_out = text(900);
  CHECK(t.evaluate(cut(held_out, 50), pool) < 2.0);
}

TEST_CASE("the same seed and number of threads give the same bits, and resuming changes nothing") {
  for (const Mode mode : {Mode::full, Mode::state, Mode::lora}) {
    for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
      CAPTURE(static_cast<int>(mode));
      CAPTURE(threads);
      ThreadPool pool(threads);
      const TemporaryFile file("resume.safetensors");
      auto a = trainer(mode), b = trainer(mode), c = trainer(mode);
      std::vector<double> expected;
      for (int i = 0; i < 30; ++i) expected.push_back(a.step(pool).loss);  // more than an epoch
      for (int i = 0; i < 13; ++i)
        CHECK(b.step(pool).loss == expected[static_cast<std::size_t>(i)]);
      b.save(file.path);
      c.step(pool);  // whatever it did before is forgotten
      c.resume(file.path);
      CHECK(c.steps() == 13);
      for (std::size_t i = 13; i < 30; ++i) CHECK(c.step(pool).loss == expected[i]);
      CHECK(same_bits(a.model().values(), c.model().values()));
      if (mode == Mode::state) CHECK(same_bits(a.state().values(), c.state().values()));
      if (mode == Mode::lora) CHECK(same_bits(a.lora().values(), c.lora().values()));
    }
  }
}

TEST_CASE("frozen modes leave everything else alone") {
  Serial serial;
  SUBCASE("state") {
    auto t = trainer(Mode::state);
    const Parameters before = t.model();
    for (int i = 0; i < 5; ++i) t.step(serial);
    CHECK(same_bits(before.values(), t.model().values()));
    for (std::size_t i = 0; i < 2; ++i) {
      for (const float x : t.state().att_x_prev(i)) CHECK(x == 0.0f);
      for (const float x : t.state().ffn_x_prev(i)) CHECK(x == 0.0f);
    }
    CHECK(t.trained_parameters() == 2 * 2 * 16 * 16);
  }
  SUBCASE("lora") {
    auto t = trainer(Mode::lora);
    const Parameters before = t.model();
    for (int i = 0; i < 5; ++i) t.step(serial);
    for (const TensorInfo& info : before.layout().tensors()) {
      CAPTURE(info.name);
      const bool adapted = info.group == Group::matrix && info.name.starts_with("blocks.");
      CHECK(same_bits(before.values(info), t.model().values(info)) == !adapted);
    }
  }
}

TEST_CASE("adapters read back and merged equal the model that was trained") {
  Serial serial;
  auto t = trainer(Mode::lora);
  const Parameters base = t.model();
  for (int i = 0; i < 5; ++i) t.step(serial);
  const TemporaryFile file("lora.safetensors");
  t.lora().write(file.path);
  const io::Checkpoint c = test::read(file.path.string());
  CHECK(c.get("blocks.1.ffn.key.lora_A").shape == std::vector<std::size_t>{8, 32});
  CHECK(c.get("blocks.1.ffn.key.lora_B").shape == std::vector<std::size_t>{64, 8});
  Parameters merged = base;
  Lora::read(c, base.layout()).merge(base, merged);
  CHECK(same_bits(merged.values(), t.model().values()));
}

TEST_CASE("a tuned state is written as inference reads it") {
  Serial serial;
  auto t = trainer(Mode::state);
  for (int i = 0; i < 5; ++i) t.step(serial);
  const TemporaryFile file("state.safetensors");
  t.write_state(file.path);
  CHECK(io::state_from(test::read(file.path.string()), t.state().shape(), 0) == t.state());
}

TEST_CASE("weights of zero hide a prediction, and only them") {
  // Two samples that differ only where the weight is zero have the same loss.
  Serial serial;
  const auto layout = tiny();
  Parameters p = initialise(layout, 3);
  Random random(1);
  for (float& x : p.values()) x += 0.05f * static_cast<float>(random.normal());
  const auto tokens = text(20);
  std::vector<Token> other = tokens;
  other.back() = (other.back() + 1) % 29;
  std::vector<float> weights(19, 1.0f);
  weights.back() = 0.0f;
  Objective objective(layout);
  const auto loss = [&](const std::vector<Token>& t, std::span<const float> w) {
    const Sample s{.tokens = t, .weights = w, .initial = nullptr, .initial_gradient = nullptr};
    return objective.loss(p, std::span(&s, 1), serial);
  };
  CHECK(loss(tokens, weights) == loss(other, weights));
  CHECK(loss(tokens, {}) != loss(other, {}));
  // The mean is over what counts.
  const std::vector<Token> shorter(tokens.begin(), tokens.end() - 1);
  CHECK(loss(tokens, weights) == doctest::Approx(loss(shorter, {})).epsilon(1e-6));
}

TEST_CASE("a loss that is not a number stops the run and changes nothing") {
  Serial serial;
  Parameters p = initialise(tiny(), 3);
  p.globals().head[7] = std::numeric_limits<float>::infinity();
  Trainer<TextWindows> t(p, TextWindows(text(2000), 37, 11), options());
  const std::string message = error_of(ErrorCategory::numeric, [&] { t.step(serial); });
  CHECK(mentions(message, "step 1"));
  CHECK(same_bits(t.model().values(), p.values()));
  CHECK(t.steps() == 0);
}

TEST_CASE("data that cannot be trained on is refused") {
  CHECK(mentions(error_of(ErrorCategory::argument, [] { TextWindows({}, 10, 1); }), "0 tokens"));
  error_of(ErrorCategory::argument, [] { TextWindows(text(20), 10, 1); });
  error_of(ErrorCategory::argument, [] { SampleList({}, 1); });
  error_of(ErrorCategory::argument, [] { SampleList({{.tokens = {1}, .weights = {}}}, 1); });
  error_of(ErrorCategory::argument, [] {
    SampleList({{.tokens = {1, 2, 3}, .weights = {1.0f}}}, 1);
  });
  const std::string message = error_of(ErrorCategory::argument, [] {
    auto tokens = text(2000);
    tokens[1234] = 29;
    Trainer<TextWindows>(initialise(tiny(), 3), TextWindows(tokens, 37, 11), options());
  });
  CHECK(mentions(message, "token 29"));
  CHECK(mentions(message, "29 entries"));
}

TEST_CASE("a checkpoint of another run is refused and changes nothing") {
  Serial serial;
  const TemporaryFile file("other.safetensors");
  auto t = trainer();
  t.step(serial);
  t.save(file.path);

  SUBCASE("other options") {
    auto other = trainer(Mode::full, 6);
    CHECK(mentions(error_of(ErrorCategory::argument, [&] { other.resume(file.path); }), "batch"));
    CHECK(other.steps() == 0);
    other.resume(file.path, true);
    CHECK(other.steps() == 1);
  }
  SUBCASE("other mode") {
    auto other = trainer(Mode::lora);
    error_of(ErrorCategory::argument, [&] { other.resume(file.path, true); });
  }
  SUBCASE("other shape") {
    Dimensions d = tiny()->shape().dimensions();
    d.ffn = 96;
    const Parameters fresh = initialise(std::make_shared<const Layout>(d), 1);
    Trainer<TextWindows> other(fresh, TextWindows(text(2000), 37, 11), options());
    const std::string message = error_of(ErrorCategory::shape, [&] { other.resume(file.path); });
    CHECK(mentions(message, "ffn.key.weight"));
    CHECK(mentions(message, "[96, 32]"));
    CHECK(same_bits(fresh.values(), other.model().values()));
  }
  SUBCASE("not a checkpoint") {
    write_model(file.path, t.model());
    error_of(ErrorCategory::format, [&] { t.resume(file.path); });
  }
  SUBCASE("no such file") {
    error_of(ErrorCategory::io, [&] { t.resume("/nonexistent/checkpoint"); });
  }
  SUBCASE("nowhere to write") {
    error_of(ErrorCategory::io, [&] { t.save("/nonexistent/checkpoint"); });
    auto other = trainer();
    other.resume(file.path);
    CHECK(same_bits(other.model().values(), t.model().values()));
  }
}
