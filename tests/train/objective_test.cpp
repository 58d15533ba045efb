// SPDX-License-Identifier: Apache-2.0
// Losses, logits and gradients against a naive double-precision model: its own values, and central
// differences of its loss.
#include "../support/golden.hpp"
#include "../support/sanitizers.hpp"
#include "reference.hpp"
#include "support.hpp"
#include <rwkv/exec/thread_pool.hpp>

#include <doctest/doctest.h>

using namespace rwkv;
using namespace rwkv::train;

namespace {

std::shared_ptr<const Layout> layout_for(std::size_t head_size, Eigenvalues eigenvalues) {
  return std::make_shared<const Layout>(
      Dimensions{.layers = 2,
                 .embed = head_size < 32 ? 3 * head_size : 64,  // also widths that fill no vector
                 .head_size = head_size,
                 .ffn = 72,
                 .vocab = 19,
                 .decay_rank = 5,
                 .icl_rank = 4,
                 .value_rank = 3,
                 .gate_rank = 7,
                 .deep_rank = head_size == 16 || head_size == 32 ? std::size_t{3} : 0},
      eigenvalues);
}

State<> random_state(const DynamicShape& shape, Random& random) {
  State<> s(shape);
  for (float& x : s.values()) x = static_cast<float>(0.5 * random.normal());
  return s;
}

/// A batch with everything a batch can have: odd lengths around the distance of stored states, a
/// mask, other targets than the next token, an initial state or none.
struct Batch {
  std::vector<Token> text, masked, tagged, tags, shortest;
  std::vector<float> mask;
  std::vector<State<>> initial, gradients;
  std::vector<Sample> samples;

  Batch(const DynamicShape& shape, Random& random)
      : text(test::random_tokens(18, shape.vocab(), random)),
        masked(test::random_tokens(10, shape.vocab(), random)),
        tagged(test::random_tokens(33, shape.vocab(), random)),
        tags(test::random_tokens(33, shape.vocab(), random)),
        shortest(test::random_tokens(2, shape.vocab(), random)),
        mask{0, 0, 1, 0.25f, 0, 2, 1, 1, 0} {
    for (int i = 0; i < 4; ++i) {
      initial.push_back(random_state(shape, random));
      gradients.push_back(random_state(shape, random));  // to be overwritten
    }
    samples.resize(4);
    samples[0].tokens = text;
    samples[1].tokens = masked;
    samples[1].weights = mask;
    samples[2].tokens = tagged;
    samples[2].targets = tags;
    samples[3].tokens = shortest;
    for (std::size_t i = 0; i < 4; ++i) {
      if (i < 3) samples[i].initial = &initial[i];  // the last one begins a text
      samples[i].initial_gradient = &gradients[i];
    }
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  static constexpr double weight = 17 + 5.25 + 33 + 1;
};

/// Largest disagreement between a gradient and the differences of `loss`, a function of double
/// numbers at which `at` stands, over the range [begin, begin + gradient.size()): along the
/// gradient itself and along a random direction, relative to the gradient's length unless that is
/// 0.
template <class Loss>
double worst_derivative(Loss loss, test::Vector& at, std::size_t begin,
                        std::span<const float> gradient, Random& random) {
  constexpr double h = 1e-4;
  double length = 0.0;
  for (const float g : gradient) length += double{g} * g;
  length = std::sqrt(length);
  double worst = 0.0;
  for (const bool along : {true, false}) {
    if (along && length == 0.0) continue;
    test::Vector direction(gradient.size());
    double norm = 0.0, expected = 0.0;
    for (std::size_t i = 0; i < direction.size(); ++i) {
      direction[i] = along ? double{gradient[i]} : random.normal();
      norm += direction[i] * direction[i];
    }
    norm = std::sqrt(norm);
    double ends[2];
    for (const int sign : {-1, 1}) {
      const test::Vector before(at.begin() + static_cast<std::ptrdiff_t>(begin),
                                at.begin() + static_cast<std::ptrdiff_t>(begin + gradient.size()));
      for (std::size_t i = 0; i < direction.size(); ++i)
        at[begin + i] += sign * h * direction[i] / norm;
      ends[sign > 0] = loss(at);
      std::copy(before.begin(), before.end(), at.begin() + static_cast<std::ptrdiff_t>(begin));
    }
    for (std::size_t i = 0; i < direction.size(); ++i)
      expected += direction[i] / norm * double{gradient[i]};
    const double error =
        std::abs((ends[1] - ends[0]) / (2 * h) - expected) / (length > 0.0 ? length : 1.0);
    worst = error <= worst ? worst : error;  // NaN wins
  }
  return worst;
}

}  // namespace

TEST_CASE("reference, training and inference compute the same logits") {
  auto cases = golden::cases();
  cases.push_back(golden::deep_case());
  for (const auto& c : cases) {
    CAPTURE(c.name);
    const auto golden = golden::read(c.golden);
    const auto checkpoint = golden::read(c.model);
    const Parameters p = read_parameters(checkpoint);
    const Model<> model(checkpoint);
    const std::size_t vocab = model.shape().vocab();
    const auto positions = golden.get("positions").values<std::size_t>();
    const auto expected = golden.get("logits").values<double>();
    auto tokens = golden::tokens(golden, "tokens");
    tokens.resize(std::min<std::size_t>(tokens.size(), 100));

    test::Vector state(State<>(p.shape()).values().size());
    const auto reference =
        test::Reference(p.layout()).logits(test::widen(p.values()), tokens, state);
    const auto trained = Objective(p.shared_layout()).logits(p, tokens);
    State<> inference_state(p.shape());
    Workspace work(p.shape(), 32);
    std::vector<float> inferred(tokens.size() * vocab);
    const Slot<> slot{&inference_state, tokens};
    model.forward(std::span(&slot, 1), Logits::all, inferred, work);

    double reference_error = 0.0, training_error = 0.0, difference = 0.0;
    for (std::size_t p_index = 0; p_index < positions.size(); ++p_index) {
      const std::size_t t = positions[p_index];
      if (t >= tokens.size()) continue;
      for (std::size_t v = 0; v < vocab; ++v) {
        const double want = expected[p_index * vocab + v];
        const float got = trained[t * vocab + v];
        reference_error = std::max(reference_error, std::abs(reference[t][v] - want));
        training_error = std::max(training_error, std::abs(got - want));
        difference = std::max(difference, std::abs(double{got} - inferred[t * vocab + v]));
      }
    }
    MESSAGE(c.name << ": reference " << reference_error << ", training " << training_error
                   << ", training against inference " << difference);
    // Tables of DeepEmbed that are sums of two parts are rounded.
    CHECK(reference_error <= (p.shape().deep_rank() > 0 ? 1e-6 : 1e-9));
    CHECK(training_error <= 1e-4);
    CHECK(difference <= 1e-4);
  }
}

TEST_CASE("gradients equal finite differences") {
  double worst_of_all = 0.0;
  for (const Eigenvalues eigenvalues : {Eigenvalues::standard, Eigenvalues::extended})
    for (const std::size_t head_size :
         {std::size_t{8}, std::size_t{16}, std::size_t{32}, std::size_t{64}}) {
      if (test::sanitized && head_size != 32) continue;  // the one with threads
      if (eigenvalues == Eigenvalues::extended && head_size != 16) continue;  // a factor of a
      const bool extended = eigenvalues == Eigenvalues::extended;
      CAPTURE(extended);
      CAPTURE(head_size);
      const bool l2wrap = head_size == 16;
      const std::size_t threads = head_size == 32 ? 2 : 1;
      const auto layout = layout_for(head_size, eigenvalues);
      const Parameters p = test::random_parameters(layout, head_size);
      Random random(head_size + 1);
      Batch batch(layout->shape(), random);
      Parameters gradient(layout);
      State<> summed(layout->shape());
      ThreadPool pool(threads);
      // Passes of 40 rows: samples share one, and the batch needs two.
      Objective objective(layout, {.l2wrap = l2wrap, .rows_per_pass = 40});
      const double loss =
          objective.gradient(p, batch.samples, {.parameters = &gradient, .initial = &summed}, pool);

      const test::Reference reference(*layout);
      const test::Vector zero(summed.values().size());
      test::Vector parameters = test::widen(p.values());
      std::vector<test::Vector> states;
      for (const Sample& s : batch.samples)
        states.push_back(s.initial ? test::widen(s.initial->values()) : zero);
      const auto total = [&](const test::Vector& at, bool with_l2wrap) {
        double sum = 0.0;
        for (std::size_t i = 0; i < batch.samples.size(); ++i)
          sum += reference.loss(at, batch.samples[i], states[i], with_l2wrap);
        return sum / Batch::weight;
      };
      CHECK(loss == doctest::Approx(total(parameters, false)).epsilon(1e-6));

      constexpr double tolerance = 1e-5;
      for (const TensorInfo& t : layout->tensors()) {
        CAPTURE(t.name);
        const double error =
            worst_derivative([&](const test::Vector& at) { return total(at, l2wrap); }, parameters,
                             t.offset, gradient.values(t), random);
        CHECK(error <= tolerance);
        worst_of_all = std::max(worst_of_all, error);
      }

      // Every sample's own initial state, part by part, and their sum.
      test::Vector sum = zero;
      for (std::size_t i = 0; i < 4; ++i) {
        CAPTURE(i);
        const State<>& g = batch.gradients[i];
        for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += double{g.values()[j]};
        for (std::size_t layer = 0; layer < 2; ++layer)
          for (const auto part : {g.att_x_prev(layer), g.ffn_x_prev(layer), g.wkv(layer)}) {
            CAPTURE(part.size());
            const double error = worst_derivative(
                [&](const test::Vector& at) {
                  return reference.loss(parameters, batch.samples[i], at, l2wrap) / Batch::weight;
                },
                states[i], static_cast<std::size_t>(part.data() - g.values().data()), part, random);
            CHECK(error <= tolerance);
            worst_of_all = std::max(worst_of_all, error);
          }
      }
      CHECK(test::relative_error(summed.values(), sum) <= 1e-6);
      State<> alone(layout->shape());  // state tuning: no gradient of the parameters
      objective.gradient(p, batch.samples, {.parameters = nullptr, .initial = &alone}, pool);
      CHECK(alone == summed);
    }
  MESSAGE("worst relative error of a derivative: " << worst_of_all);
}
