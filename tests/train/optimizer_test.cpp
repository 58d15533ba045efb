// SPDX-License-Identifier: Apache-2.0
// The optimizer and the schedule against their published formulas in double, and against a recorded
// run of PyTorch (tests/data/make_adamw.py).
#include "../support/executors.hpp"
#include "../support/numbers.hpp"
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/train/adamw.hpp>
#include <rwkv/train/schedule.hpp>

#include <doctest/doctest.h>

using rwkv::Serial;
using rwkv::train::AdamW;
using rwkv::train::Schedule;
using rwkv::train::Segment;

namespace {

double max_error(std::span<const float> got, std::span<const double> want) {
  REQUIRE(got.size() == want.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i)
    worst = std::max(worst, std::abs(double{got[i]} - want[i]));
  return worst;
}

/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2, whose decay is
/// multiplied by the learning rate as PyTorch does, for a gradient that is scaled to a norm of at
/// most `clip` first:
///   g <- g min(1, clip / |g|)
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   x <- x - rate decay x - rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
struct Reference {
  AdamW::Options options;
  std::vector<double> x, m, v;
  int t = 0;

  Reference(const AdamW::Options& o, std::span<const float> start)
      : options(o), x(start.begin(), start.end()), m(x.size()), v(x.size()) {}

  /// `rate` and `decay` of every parameter.
  void step(std::span<const float> gradient, const std::vector<double>& rate,
            const std::vector<double>& decay) {
    double norm = 0.0;
    for (const float g : gradient) norm += double{g} * double{g};
    norm = std::sqrt(norm);
    double scale = 1.0;
    if (options.clip > 0.0 && norm > options.clip) scale = options.clip / norm;
    ++t;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double g = scale * double{gradient[i]};
      m[i] = options.beta1 * m[i] + (1.0 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1.0 - options.beta2) * g * g;
      const double mean = m[i] / (1.0 - std::pow(options.beta1, t));
      const double square = v[i] / (1.0 - std::pow(options.beta2, t));
      x[i] -= rate[i] * decay[i] * x[i];
      x[i] -= rate[i] * mean / (std::sqrt(square) + options.epsilon);
    }
  }
};

/// Two segments with a gap that belongs to none, as between the tensors of a model. The second is
/// long enough for the norm to be added up in pieces.
const std::vector<Segment> segments{{0, 13, 2.0f, false}, {16, 2500, 0.5f, true}};
constexpr std::size_t size = 2516;

template <class E>
void compare(const AdamW::Options& options, E executor) {
  test::Random random(3);
  std::vector<float> x(size), gradient(size);
  test::fill(x, random);
  for (std::size_t i = 13; i < 16; ++i) x[i] = 0.0f;
  Reference reference(options, x);
  AdamW optimizer(size, segments, options);
  std::vector<double> rate(size), decay(size);
  // From 0.03 to 70: on both sides of every limit.
  for (const float scale : {0.001f, 0.1f, 2.0f, 0.02f, 0.5f, 0.001f, 0.04f, 1.0f}) {
    for (std::size_t i = 0; i < size; ++i) gradient[i] = scale * random(-0.8f, 1.2f);
    for (std::size_t i = 13; i < 16; ++i) gradient[i] = 0.0f;
    const double learning_rate = 0.01 * (1.0 + reference.t);
    for (const Segment& s : segments)
      for (std::size_t i = s.begin; i < s.begin + s.size; ++i) {
        rate[i] = learning_rate * double{s.rate};
        decay[i] = s.decay ? options.weight_decay : 0.0;
      }
    reference.step(gradient, rate, decay);
    double squares = 0.0;
    for (const float g : gradient) squares += double{g} * double{g};
    const double norm = optimizer.norm(gradient);
    CHECK(norm == doctest::Approx(std::sqrt(squares)).epsilon(1e-6));
    optimizer.step(x, gradient, norm, learning_rate, executor);
    CHECK(optimizer.steps() == static_cast<std::uint64_t>(reference.t));
    CHECK(max_error(x, reference.x) <= 1e-6);
  }
  for (std::size_t i = 13; i < 16; ++i) CHECK(x[i] == 0.0f);
  CHECK(max_error(optimizer.first_moment(), reference.m) <= 1e-6);
  CHECK(max_error(optimizer.second_moment(), reference.v) <= 1e-6);
}

}  // namespace

TEST_CASE("two steps worked out by hand") {
  // beta = (0.9, 0.99), rate 0.1. The first step is the rate itself, whatever the gradient's size,
  // because both averages are corrected for having begun at zero.
  Serial serial;
  AdamW::Options options;
  options.clip = 0.0;
  AdamW optimizer(1, {{0, 1, 1.0f, false}}, options);
  std::vector<float> x{1.0f}, g{0.5f};
  optimizer.step(x, g, 0.5, 0.1, serial);
  CHECK(x[0] == doctest::Approx(0.9).epsilon(1e-6));
  CHECK(optimizer.first_moment()[0] == doctest::Approx(0.05));
  CHECK(optimizer.second_moment()[0] == doctest::Approx(0.0025));
  g = {-0.25f};
  optimizer.step(x, g, 0.25, 0.1, serial);
  // m = 0.9 0.05 - 0.1 0.25 = 0.02, v = 0.99 0.0025 + 0.01 0.0625 = 0.0031
  CHECK(optimizer.first_moment()[0] == doctest::Approx(0.02));
  CHECK(optimizer.second_moment()[0] == doctest::Approx(0.0031));
  CHECK(x[0] ==
        doctest::Approx(0.9 - 0.1 * (0.02 / 0.19) / std::sqrt(0.0031 / 0.0199)).epsilon(1e-6));
}

TEST_CASE("weight decay shrinks what it applies to by rate times decay, and nothing else") {
  Serial serial;
  AdamW::Options options;
  options.weight_decay = 0.25;
  AdamW optimizer(32, {{0, 1, 1.0f, false}, {16, 1, 1.0f, true}, {17, 1, 2.0f, true}}, options);
  std::vector<float> x(32, 8.0f);
  const std::vector<float> none(32, 0.0f);
  optimizer.step(x, none, 0.0, 0.5, serial);
  CHECK(x[0] == 8.0f);
  CHECK(x[16] == 7.0f);
  CHECK(x[17] == 6.0f);
  CHECK(x[18] == 8.0f);  // outside of every segment
}

TEST_CASE("a gradient at the limit is left alone, one beyond it is scaled to the limit") {
  Serial serial;
  AdamW::Options options;
  options.clip = 5.0;
  for (const float factor : {1.0f, 2.0f}) {
    AdamW optimizer(2, {{0, 2, 1.0f, false}}, options);
    std::vector<float> x(2);
    const std::vector<float> g{3.0f * factor, 4.0f * factor};
    CHECK(optimizer.norm(g) == 5.0 * double{factor});
    optimizer.step(x, g, optimizer.norm(g), 0.1, serial);
    CHECK(optimizer.first_moment()[0] == doctest::Approx(0.3));
    CHECK(optimizer.first_moment()[1] == doctest::Approx(0.4));
  }
  options.clip = 0.0;  // no limit
  AdamW optimizer(2, {{0, 2, 1.0f, false}}, options);
  std::vector<float> x(2);
  const std::vector<float> g{6.0f, 8.0f};
  optimizer.step(x, g, 10.0, 0.1, serial);
  CHECK(optimizer.first_moment()[0] == doctest::Approx(0.6));
}

TEST_CASE("a run equals the formulas in double, for every set of options and number of workers") {
  AdamW::Options options;
  compare(options, Serial{});
  options.weight_decay = 2.0;
  compare(options, test::Backwards(3));
  options = {.beta1 = 0.5, .beta2 = 0.999, .epsilon = 0.01, .weight_decay = 0.1, .clip = 0.25};
  compare(options, Serial{});
  options.clip = 0.0;
  compare(options, test::Backwards(40));
}

TEST_CASE("a run continues from its moments and its number of steps") {
  Serial serial;
  const AdamW::Options options;
  AdamW whole(size, segments, options), first(size, segments, options),
      second(size, segments, options);
  test::Random random(4);
  std::vector<float> x(size), y, gradient(size);
  test::fill(x, random);
  y = x;
  for (int t = 0; t < 4; ++t) {
    test::fill(gradient, random);
    whole.step(x, gradient, whole.norm(gradient), 0.1, serial);
    if (t == 2) {
      std::ranges::copy(first.first_moment(), second.first_moment().begin());
      std::ranges::copy(first.second_moment(), second.second_moment().begin());
      second.set_steps(first.steps());
    }
    (t < 2 ? first : second).step(y, gradient, whole.norm(gradient), 0.1, serial);
  }
  CHECK(test::same_bits(x, y));
}

TEST_CASE("a run equals PyTorch's") {
  const rwkv::io::MappedFile file(RWKV_TEST_DATA "/adamw.golden.safetensors");
  const auto data = rwkv::io::read_safetensors(file.bytes(), "adamw.golden");
  const auto start = data.get("start").values();
  const auto gradients = data.get("gradient").values();
  const auto rates = data.get("rate").values<double>();
  const std::size_t n = start.size();
  Serial serial;
  for (const std::string name : {"recipe", "defaults"}) {
    CAPTURE(name);
    AdamW::Options options;  // the recipe's betas, epsilon and limit
    options.weight_decay = 0.1;
    if (name == "defaults")
      options = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-2, .weight_decay = 0.5, .clip = 1.0};
    // matrix, w0, rest
    AdamW optimizer(n, {{0, 20, 1.0f, true}, {20, 9, 2.0f, false}, {29, 13, 1.0f, false}}, options);
    auto x = start;
    const auto expected = data.get(name + ".parameters").values<double>();
    REQUIRE(expected.size() == rates.size() * n);
    for (std::size_t t = 0; t < rates.size(); ++t) {
      const auto gradient = std::span(gradients).subspan(t * n, n);
      optimizer.step(x, gradient, optimizer.norm(gradient), rates[t], serial);
      CHECK(max_error(x, std::span(expected).subspan(t * n, n)) <= 1e-6);
    }
    CHECK(max_error(optimizer.first_moment(), data.get(name + ".first_moment").values<double>()) <=
          1e-7);
    CHECK(max_error(optimizer.second_moment(),
                    data.get(name + ".second_moment").values<double>()) <= 1e-7);
  }
  // The same cosine, which there has its end at the last step.
  const Schedule schedule{.initial = 0.02, .final = 0.002, .steps = rates.size() - 1, .warm_up = 0};
  for (std::size_t t = 0; t < rates.size(); ++t)
    CHECK(schedule.at(t) == doctest::Approx(rates[t]).epsilon(1e-12));
}

TEST_CASE("the rate rises in a line, falls in half a cosine and stays") {
  // RWKV-LM: lr_final + (lr_init - lr_final) (1 + cos(pi progress)) / 2 after the warm-up, and
  // lr_init (0.01 + 0.99 s / warm-up) in it.
  const Schedule s{.initial = 8.0, .final = 2.0, .steps = 70, .warm_up = 10};
  const auto near = [](double x) { return doctest::Approx(x).epsilon(1e-12); };
  CHECK(s.at(0) == near(0.08));
  CHECK(s.at(1) == near(8.0 * (0.01 + 0.099)));
  CHECK(s.at(5) == near(8.0 * 0.505));
  CHECK(s.at(9) == near(8.0 * (0.01 + 0.891)));
  CHECK(s.at(10) == near(8.0));
  CHECK(s.at(20) == near(2.0 + 3.0 * (1.0 + std::sqrt(3.0) / 2.0)));  // 30 degrees
  CHECK(s.at(25) == near(2.0 + 3.0 * (1.0 + std::sqrt(0.5))));        // 45 degrees
  CHECK(s.at(30) == near(6.5));                                       // 60 degrees
  CHECK(s.at(40) == near(5.0));
  CHECK(s.at(50) == near(3.5));
  CHECK(s.at(69) == near(2.0 + 3.0 * (1.0 - std::cos(std::acos(-1.0) / 60.0))));
  CHECK(s.at(70) == near(2.0));
  CHECK(s.at(71) == near(2.0));
  CHECK(s.at(1'000'000) == near(2.0));
}

TEST_CASE(
    "a schedule without a warm-up begins at its first rate; one that is all warm-up ends it") {
  const Schedule none{.initial = 8.0, .final = 2.0, .steps = 2, .warm_up = 0};
  CHECK(none.at(0) == doctest::Approx(8.0));
  CHECK(none.at(1) == doctest::Approx(5.0));
  CHECK(none.at(2) == doctest::Approx(2.0));
  for (const std::uint64_t steps : {0u, 3u, 4u}) {
    CAPTURE(steps);
    const Schedule all{.initial = 8.0, .final = 2.0, .steps = steps, .warm_up = 4};
    CHECK(all.at(0) == doctest::Approx(0.08));
    CHECK(all.at(2) == doctest::Approx(4.04));
    CHECK(all.at(4) == doctest::Approx(2.0));
    CHECK(all.at(9) == doctest::Approx(2.0));
  }
  const Schedule one_more{.initial = 8.0, .final = 2.0, .steps = 5, .warm_up = 4};
  CHECK(one_more.at(4) == doctest::Approx(8.0));
  CHECK(one_more.at(5) == doctest::Approx(2.0));
}
