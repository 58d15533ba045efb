// SPDX-License-Identifier: Apache-2.0
#include "../support/golden.hpp"
#include "../support/numbers.hpp"
#include "../support/sanitizers.hpp"
#include "../support/temporary_directory.hpp"
#include "support.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/train.hpp>

#include <doctest/doctest.h>

#include <limits>

#if __has_include(<sys/resource.h>)
#include <csignal>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

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
                                                   .gate_rank = 7,
                                                   .deep_rank = 4},
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

bool mentions(const std::string& text, const std::string& part) {
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
  constexpr std::size_t steps = test::sanitized ? 14 : 30;  // more than an epoch
  constexpr std::size_t saved = steps * 13 / 30;
  for (const Mode mode : {Mode::full, Mode::state, Mode::lora}) {
    for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
      if (test::sanitized && threads == 1) continue;
      CAPTURE(static_cast<int>(mode));
      CAPTURE(threads);
      ThreadPool pool(threads);
      const test::TemporaryDirectory directory;
      const auto file = directory / "resume.safetensors";
      auto a = trainer(mode), b = trainer(mode), c = trainer(mode);
      std::vector<double> expected;
      for (std::size_t i = 0; i < steps; ++i) expected.push_back(a.step(pool).loss);
      for (std::size_t i = 0; i < saved; ++i) CHECK(b.step(pool).loss == expected[i]);
      b.save(file, {{"note", "of the caller"}});
      c.step(pool);  // whatever it did before is forgotten
      CHECK(c.resume(file).at("note") == "of the caller");
      CHECK(c.steps() == saved);
      for (std::size_t i = saved; i < steps; ++i) CHECK(c.step(pool).loss == expected[i]);
      CHECK(test::same_bits(a.model().values(), c.model().values()));
      if (mode == Mode::state) CHECK(test::same_bits(a.state().values(), c.state().values()));
      if (mode == Mode::lora) CHECK(test::same_bits(a.lora().values(), c.lora().values()));
    }
  }
}

TEST_CASE("separate samples, masked and of any length, resume as well") {
  ThreadPool pool(2);
  const test::TemporaryDirectory directory;
  const auto file = directory / "samples.safetensors";
  const auto make = [] {
    Random random(8);
    std::vector<SampleList::Item> items(23);
    for (SampleList::Item& item : items) {
      item.tokens = text(2 + random.below(60));
      if (random.below(2) == 0) continue;
      item.weights.assign(item.tokens.size() - 1, 0.0f);
      item.weights.back() = 1.0f;
    }
    return Trainer<SampleList>(initialise(tiny(Eigenvalues::extended), 3), SampleList(items, 4),
                               options());
  };
  auto a = make(), b = make();
  std::vector<double> expected;
  for (int i = 0; i < 15; ++i) expected.push_back(a.step(pool).loss);
  for (int i = 0; i < 7; ++i) b.step(pool);
  b.save(file);
  auto c = make();
  c.resume(file);
  for (std::size_t i = 7; i < 15; ++i) CHECK(c.step(pool).loss == expected[i]);
  CHECK(test::same_bits(a.model().values(), c.model().values()));
}

TEST_CASE("a step: twice the rate for w0, weight decay for large matrices, one limit for all") {
  // RWKV-LM's groups: `att.w0` at twice the rate, decay for two-dimensional tensors called
  // `.weight`, neither for the rest. The formulas are AdamW's, in double.
  TrainerOptions o = options();
  o.optimizer = {.weight_decay = 0.5, .clip = 0.3};
  o.schedule = {.initial = 0.02, .final = 0.001, .steps = 4, .warm_up = 1};
  const TextWindows data(text(2000), 37, 11);
  Trainer<TextWindows> t(test::random_parameters(tiny(), 3), data, o);
  Serial serial;
  TextWindows same = data;
  Objective objective(tiny(), o.objective);
  Parameters gradient(tiny());
  std::vector<Sample> samples(o.batch);
  const std::size_t size = gradient.values().size();
  std::vector<double> x(t.model().values().begin(), t.model().values().end()), m(size), v(size);
  const std::vector<double> rates{0.0002, 0.02, 0.001 + 0.0095 * 1.5};
  for (int step = 1; step <= 3; ++step) {
    same.next(samples);
    objective.gradient(t.model(), samples, {.parameters = &gradient, .initial = nullptr}, serial);
    double norm = 0.0;
    for (const float g : gradient.values()) norm += double{g} * double{g};
    norm = std::sqrt(norm);
    REQUIRE(norm > o.optimizer.clip);
    const StepReport report = t.step(serial);
    CHECK(report.gradient_norm == doctest::Approx(norm).epsilon(1e-6));
    const double rate = rates[static_cast<std::size_t>(step - 1)];
    CHECK(report.learning_rate == doctest::Approx(rate).epsilon(1e-9));
    for (const TensorInfo& info : gradient.layout().tensors()) {
      CAPTURE(info.name);
      const bool w0 = info.name.ends_with(".att.w0");
      const bool decays = info.name.ends_with(".weight") && info.shape.size() == 2;
      const double own = rate * (w0 ? 2.0 : 1.0);
      double error = 0.0;
      for (std::size_t i = info.offset; i < info.offset + info.size; ++i) {
        const double g = double{gradient.values()[i]} * 0.3 / norm;
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.99 * v[i] + 0.01 * g * g;
        if (decays) x[i] -= own * 0.5 * x[i];
        if (v[i] > 0.0)
          x[i] -= own * (m[i] / (1.0 - std::pow(0.9, step))) /
                  std::sqrt(v[i] / (1.0 - std::pow(0.99, step)));
        error = std::max(error, std::abs(double{t.model().values()[i]} - x[i]));
      }
      CHECK(error <= 1e-6);
    }
  }
}

TEST_CASE("neither a state nor adapters get weight decay") {
  Serial serial;
  for (const Mode mode : {Mode::state, Mode::lora}) {
    CAPTURE(static_cast<int>(mode));
    TrainerOptions o = options();
    o.mode = mode;
    std::vector<Trainer<TextWindows>> trainers;
    for (const double decay : {0.0, 10.0}) {
      o.optimizer.weight_decay = decay;
      trainers.emplace_back(test::random_parameters(tiny(), 3), TextWindows(text(2000), 37, 11), o);
      for (int i = 0; i < 3; ++i) trainers.back().step(serial);
    }
    if (mode == Mode::state)
      CHECK(test::same_bits(trainers[0].state().values(), trainers[1].state().values()));
    else
      CHECK(test::same_bits(trainers[0].lora().values(), trainers[1].lora().values()));
  }
}

TEST_CASE("frozen modes leave everything else alone") {
  Serial serial;
  SUBCASE("state") {
    auto t = trainer(Mode::state);
    const Parameters before = t.model();
    for (int i = 0; i < 5; ++i) t.step(serial);
    CHECK(test::same_bits(before.values(), t.model().values()));
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
      const bool table = info.name.ends_with(".s_emb.weight");  // no product has it
      const bool adapted =
          info.group == Group::matrix && info.name.starts_with("blocks.") && !table;
      CHECK(test::same_bits(before.values(info), t.model().values(info)) == !adapted);
    }
  }
}

TEST_CASE("adapters read back and merged equal the model that was trained") {
  Serial serial;
  auto t = trainer(Mode::lora);
  const Parameters base = t.model();
  for (int i = 0; i < 5; ++i) t.step(serial);
  const test::TemporaryDirectory directory;
  const auto file = directory / "lora.safetensors";
  t.lora().write(file);
  const io::Checkpoint c = golden::read(file);
  CHECK(c.get("blocks.1.ffn.key.lora_A").shape == std::vector<std::size_t>{8, 32});
  CHECK(c.get("blocks.1.ffn.key.lora_B").shape == std::vector<std::size_t>{64, 8});
  Parameters merged = base;
  Lora::read(c, base.layout()).merge(base, merged);
  CHECK(test::same_bits(merged.values(), t.model().values()));
}

TEST_CASE("a tuned state is written as inference reads it") {
  Serial serial;
  auto t = trainer(Mode::state);
  for (int i = 0; i < 5; ++i) t.step(serial);
  const test::TemporaryDirectory directory;
  const auto file = directory / "state.safetensors";
  t.write_state(file);
  CHECK(io::state_from(golden::read(file), t.state().shape(), 0) == t.state());
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
  CHECK(test::same_bits(t.model().values(), p.values()));
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

TEST_CASE("a batch that makes no sense is refused") {
  Serial serial;
  const auto layout = tiny();
  const Parameters p = initialise(layout, 3);
  Objective objective(layout);
  const std::vector<Token> tokens{1, 2, 3}, foreign{1, 29, 3};
  const std::vector<float> weights{1.0f, 1.0f}, none{0.0f, 0.0f}, negative{1.0f, -1.0f};
  const State<> other(DynamicShape(Dimensions{}));
  const auto refused = [&](ErrorCategory category, const Sample& sample, const char* because) {
    CHECK(mentions(error_of(category, [&] { objective.loss(p, std::span(&sample, 1), serial); }),
                   because));
  };
  Sample s;
  s.tokens = tokens;
  CHECK(objective.loss(p, std::span(&s, 1), serial) > 0.0);
  s.tokens = std::span(tokens).first(1);
  refused(ErrorCategory::argument, s, "sample 0 has 1 tokens");
  s.targets = std::span(tokens).first(1);
  CHECK(objective.loss(p, std::span(&s, 1), serial) > 0.0);
  s.targets = foreign;
  refused(ErrorCategory::argument, s, "3 targets for 1 tokens");
  s.tokens = tokens;
  refused(ErrorCategory::argument, s, "token 29");
  s.targets = {};
  s.tokens = foreign;
  refused(ErrorCategory::argument, s, "token 29");
  s.tokens = tokens;
  s.weights = std::span(weights).first(1);
  refused(ErrorCategory::argument, s, "1 weights for 2 predictions");
  s.weights = none;
  refused(ErrorCategory::argument, s, "every weight");
  s.weights = negative;
  refused(ErrorCategory::argument, s, "weight -1");
  s.weights = weights;
  s.initial = &other;
  refused(ErrorCategory::shape, s, "another shape");
  CHECK(mentions(error_of(ErrorCategory::argument, [&] { objective.loss(p, {}, serial); }),
                 "at least one sample"));
}

TEST_CASE("a model with tensors that RWKV-7 does not have is not trained") {
  const test::TemporaryDirectory directory;
  const auto file = directory / "model.safetensors";
  write_model(file, initialise(tiny(), 3));
  io::Checkpoint c = golden::read(file);
  CHECK(read_parameters(c).layout() == *tiny());
  c.tensors.emplace("head.bias", c.get("ln_out.bias"));
  const std::string message =
      error_of(ErrorCategory::unsupported, [&] { return read_parameters(c); });
  CHECK(mentions(message, "model.safetensors: tensor \"head.bias\" [32]"));

  // The second parts of tables of DeepEmbed are read, if they are of this model's blocks.
  const auto refused = [](auto spoil, ErrorCategory category) {
    io::Checkpoint parts = golden::read(golden::deep_case().model);
    CHECK_NOTHROW((void)read_parameters(parts));
    spoil(parts.tensors);
    return error_of(category, [&] { return read_parameters(parts); });
  };
  const std::string first = "blocks.0.ffn.s_emb_x.weight", second = "blocks.1.ffn.s_emb_x.weight";
  const std::string other = "x.ffn.s_emb_x.weight";
  CHECK(mentions(refused([&](auto& all) { all[other] = all[first]; }, ErrorCategory::unsupported),
                 other));
  CHECK(mentions(refused([&](auto& all) { all.erase(first); }, ErrorCategory::unsupported),
                 "which block 0 lacks"));
  CHECK(mentions(
      refused([&](auto& all) { all[second].dtype = DType::i32; }, ErrorCategory::unsupported),
      second + " has elements of type i32"));
}

TEST_CASE("a checkpoint of another run is refused and changes nothing") {
  Serial serial;
  const test::TemporaryDirectory directory;
  const auto file = directory / "other.safetensors";
  auto t = trainer();
  t.step(serial);
  t.save(file);

  SUBCASE("other options") {
    auto other = trainer(Mode::full, 6);
    CHECK(mentions(error_of(ErrorCategory::argument, [&] { other.resume(file); }), "batch"));
    CHECK(other.steps() == 0);
    other.resume(file, true);
    CHECK(other.steps() == 1);
  }
  SUBCASE("other mode") {
    auto other = trainer(Mode::lora);
    error_of(ErrorCategory::argument, [&] { other.resume(file, true); });
  }
  SUBCASE("other shape") {
    Dimensions d = tiny()->shape().dimensions();
    d.ffn = 96;
    const Parameters fresh = initialise(std::make_shared<const Layout>(d), 1);
    Trainer<TextWindows> other(fresh, TextWindows(text(2000), 37, 11), options());
    const std::string message = error_of(ErrorCategory::shape, [&] { other.resume(file); });
    CHECK(mentions(message, "ffn.key.weight"));
    CHECK(mentions(message, "[96, 32]"));
    CHECK(test::same_bits(fresh.values(), other.model().values()));
  }
  SUBCASE("fewer tensors") {
    const auto refused = [&](Dimensions d, const std::string& name) {
      const Parameters fresh = initialise(std::make_shared<const Layout>(d), 1);
      Trainer<TextWindows> other(fresh, TextWindows(text(2000), 37, 11), options());
      for (const bool other_options : {false, true}) {
        const std::string message =
            error_of(ErrorCategory::shape, [&] { other.resume(file, other_options); });
        CHECK(mentions(message, "other.safetensors: this run has a tensor \"" + name));
        CHECK(test::same_bits(fresh.values(), other.model().values()));
        CHECK(other.steps() == 0);
      }
    };
    Dimensions without = tiny()->shape().dimensions(), shorter = without;
    without.deep_rank = 0;
    refused(without, "blocks.0.ffn.s0\" [64]");
    shorter.layers = 1;
    refused(shorter, "blocks.1.att.");
  }
  SUBCASE("not a checkpoint") {
    write_model(file, t.model());
    error_of(ErrorCategory::format, [&] { t.resume(file); });
  }
  SUBCASE("random numbers that are always 0, which some choices would wait for ever for") {
    std::string bytes = test::read_file(file);
    for (const char* word : {"0", "1", "2", "3"}) {
      const std::string key = "\"train.random." + std::string(word) + "\":\"";
      std::size_t at = bytes.find(key);
      REQUIRE(at != std::string::npos);
      for (at += key.size(); bytes[at] != '"'; ++at) bytes[at] = '0';
    }
    test::write_file(file, bytes);
    auto other = trainer();
    CHECK(mentions(error_of(ErrorCategory::format, [&] { other.resume(file); }), "random numbers"));
    CHECK(other.steps() == 0);
  }
  SUBCASE("no such file") {
    error_of(ErrorCategory::io, [&] { t.resume("/nonexistent/checkpoint"); });
  }
  SUBCASE("nowhere to write") {
    error_of(ErrorCategory::io, [&] { t.save("/nonexistent/checkpoint"); });
    auto other = trainer();
    other.resume(file);
    CHECK(test::same_bits(other.model().values(), t.model().values()));
  }
}

#if __has_include(<sys/resource.h>)
TEST_CASE("a full disk leaves the earlier checkpoint, and training can go on") {
  Serial serial;
  const test::TemporaryDirectory directory;
  const auto file = directory / "run.safetensors";
  auto t = trainer();
  t.step(serial);
  t.save(file);
  const Parameters saved = t.model();
  const std::string before = test::read_file(file);
  const double second = t.step(serial).loss;

  ::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  rlimit small = limit;
  small.rlim_cur = before.size() / 2;
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = error_of(ErrorCategory::io, [&] { t.save(file); });
  ::setrlimit(RLIMIT_FSIZE, &limit);

  CHECK(mentions(message, "run.safetensors: cannot write this file"));
  CHECK(test::read_file(file) == before);
  CHECK(directory.entries() == std::vector<std::string>{"run.safetensors"});
  auto resumed = trainer();
  resumed.resume(file);
  CHECK(test::same_bits(resumed.model().values(), saved.values()));
  CHECK(resumed.step(serial).loss == second);
  t.save(file);  // there is space again
  CHECK(test::read_file(file) != before);
}
#endif

#if defined(__GLIBC__) && !defined(RWKV_TEST_SANITIZER)
// Set before any thread starts, because an arena of its own would come with memory in reserve.
const int one_arena = ::mallopt(M_ARENA_MAX, 1);

TEST_CASE("running out of memory inside a worker reaches the caller") {
  REQUIRE(one_arena == 1);
  // In a process of its own, which gets no more memory once everything but the packed operands of
  // matrix products has been allocated.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::mallopt(M_MMAP_THRESHOLD, 1 << 16);  // freed at once, and not kept for the next product
    Dimensions d = tiny()->shape().dimensions();
    d.embed = 512;
    d.ffn = 1024;
    const auto layout = std::make_shared<const Layout>(d);
    const Parameters p = initialise(layout, 3);
    Parameters gradient(layout);
    const auto tokens = text(200);
    std::vector<Sample> batch(2);
    for (Sample& s : batch) s.tokens = tokens;
    Objective objective(layout);
    ThreadPool pool(2);
    const auto step = [&] {
      objective.gradient(p, batch, {.parameters = &gradient, .initial = nullptr}, pool);
    };
    step();
    rlimit limit{};
    ::getrlimit(RLIMIT_AS, &limit);
    rlimit none = limit;
    none.rlim_cur = 1;
    ::setrlimit(RLIMIT_AS, &none);
    constexpr std::size_t piece = std::size_t{1} << 16;  // smaller than a packed operand
    for (void* volatile taken = &limit; taken != nullptr;) taken = std::malloc(piece);
    bool caught = false;
    try {
      step();
    } catch (const std::bad_alloc&) {
      caught = true;
    }
    ::setrlimit(RLIMIT_AS, &limit);
    step();
    ::_exit(caught ? 0 : 1);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif
