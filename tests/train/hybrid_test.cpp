// SPDX-License-Identifier: Apache-2.0
// Training of hybrid models: the same logits as inference and as a naive model in double, gradients
// against its finite differences, files that inference reads, and a task that is learned.
#include "../support/sanitizers.hpp"
#include "../support/temporary_directory.hpp"
#include "reference.hpp"
#include "support.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/train/longce.hpp>
#include <rwkv/train/trainer.hpp>

#include <doctest/doctest.h>

using namespace rwkv;
using namespace rwkv::train;

namespace {

std::shared_ptr<const Layout> layout_for(std::size_t sparse_blocks, std::size_t chunk,
                                         std::size_t top_k, std::size_t embed = 64) {
  SparseLayout sparse{.blocks = sparse_blocks, .ffn = 40, .config = {}};
  sparse.config.chunk = chunk;
  sparse.config.top_k = top_k;
  return std::make_shared<const Layout>(Dimensions{.layers = 3,
                                                   .embed = embed,
                                                   .head_size = 32,
                                                   .ffn = 24,
                                                   .vocab = 19,
                                                   .decay_rank = 5,
                                                   .icl_rank = 4,
                                                   .value_rank = 3,
                                                   .gate_rank = 7},
                                        Eigenvalues::standard, false, sparse);
}

/// The derivative of `loss` along a direction, by central differences.
template <class Loss>
double slope(Loss loss, const test::Vector& at, std::size_t begin, const test::Vector& direction) {
  constexpr double h = 1e-5;
  double ends[2];
  for (const int sign : {-1, 1}) {
    test::Vector moved = at;
    for (std::size_t i = 0; i < direction.size(); ++i) moved[begin + i] += sign * h * direction[i];
    ends[sign > 0] = loss(moved);
  }
  return (ends[1] - ends[0]) / (2 * h);
}

}  // namespace

TEST_CASE("reference, training and inference of a hybrid model compute the same logits") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "hybrid.safetensors";
  for (const auto& [blocks, chunk, top_k] :
       {std::tuple{1u, 4u, 2u}, std::tuple{2u, 8u, 1u}, std::tuple{3u, 16u, 3u}}) {
    const auto layout = layout_for(blocks, chunk, top_k, 128);
    const Parameters p = test::random_parameters(layout, chunk);
    Random random(3);
    const auto tokens = test::random_tokens(150, 19, random);
    test::Vector state(State<>(p.shape()).values().size());
    const auto want = test::Reference(*layout).logits(test::widen(p.values()), tokens, state);
    const auto trained = Objective(layout).logits(p, tokens);

    write_model(path, p);
    const Parameters back = read_parameters(io::read_checkpoint(path));
    CHECK(back.layout() == *layout);
    CHECK(std::equal(back.values().begin(), back.values().end(), p.values().begin()));
    const auto model = HybridModel::load(path);
    CHECK(model.config() == layout->sparse().config);
    HybridState inference_state(model.shape());
    HybridWorkspace work(model.shape(), 32);
    std::vector<float> inferred(trained.size());
    const HybridSlot slot{&inference_state, tokens};
    model.forward(std::span(&slot, 1), Logits::all, inferred, work);
    double training_error = 0.0, inference_error = 0.0;
    for (std::size_t i = 0; i < trained.size(); ++i) {
      const double reference = want[i / 19][i % 19];
      training_error = std::max(training_error, std::abs(trained[i] - reference));
      inference_error = std::max(inference_error, std::abs(inferred[i] - reference));
    }
    MESSAGE("training " << training_error << ", inference " << inference_error);
    CHECK(training_error <= 1e-4);
    CHECK(inference_error <= 1e-4);
  }
}

TEST_CASE("gradients of hybrid models equal finite differences") {
  double worst = 0.0;
  for (const auto& [blocks, chunk, top_k] :
       {std::tuple{1u, 4u, 2u}, std::tuple{2u, 3u, 4u}, std::tuple{1u, 100u, 3u}}) {
    if (test::sanitized && blocks != 2) continue;  // the one with threads
    const auto layout = layout_for(blocks, chunk, top_k);
    const Parameters p = test::random_parameters(layout, blocks + chunk);
    Random random(5);
    const auto first = test::random_tokens(30, 19, random);
    const auto second = test::random_tokens(12, 19, random);
    const std::vector<float> weights{0, 0, 1, 2, 1, 0, 1, 0.5f, 1, 1, 1};
    std::vector<Sample> samples(2);
    samples[0].tokens = first;
    samples[1].tokens = second;
    samples[1].weights = weights;
    Parameters gradient(layout);
    ThreadPool pool(blocks);
    Objective objective(layout, {.l2wrap = false, .rows_per_pass = 64});
    const double loss =
        objective.gradient(p, samples, {.parameters = &gradient, .initial = nullptr}, pool);

    const test::Reference reference(*layout);
    const test::Vector zero(State<>(p.shape()).values().size());
    const auto total = [&](const test::Vector& at) {
      double sum = 0.0;
      for (const Sample& s : samples) sum += reference.loss(at, s, zero, false);
      return sum / (29 + 8.5);
    };
    const test::Vector at = test::widen(p.values());
    CHECK(loss == doctest::Approx(total(at)).epsilon(1e-6));
    for (const TensorInfo& t : layout->tensors()) {
      CAPTURE(t.name);
      double length = 0.0;
      for (const float g : gradient.values(t)) length += double{g} * g;
      length = std::sqrt(length);
      const bool runs = blocks != 2 || !t.name.starts_with("blocks.2.");  // left over: 3 = 2 + 1
      CHECK((length > 0.0) == runs);
      for (const bool along : {true, false}) {
        if (along && length == 0.0) continue;
        test::Vector direction(t.size);
        double norm = 0.0;
        for (std::size_t i = 0; i < t.size; ++i) {
          direction[i] = along ? double{gradient.values(t)[i]} : random.normal();
          norm += direction[i] * direction[i];
        }
        double expected = 0.0;
        for (std::size_t i = 0; i < t.size; ++i) {
          direction[i] /= std::sqrt(norm);
          expected += direction[i] * double{gradient.values(t)[i]};
        }
        const double error = std::abs(slope(total, at, t.offset, direction) - expected) /
                             (length > 0.0 ? length : 1.0);
        CHECK(error <= 1e-4);
        worst = std::max(worst, error);
      }
    }
  }
  MESSAGE("worst relative error of a derivative: " << worst);
}

TEST_CASE("LongCE weighs what a long context helps to predict") {
  const auto layout = layout_for(1, 4, 2);
  const Parameters p = test::random_parameters(layout, 9);
  Objective objective(layout);
  Random random(6);
  const auto tokens = test::random_tokens(41, 19, random);
  const auto all_one = longce_weights(objective, p, tokens, {.context = 40, .targets = 10});
  for (const float w : all_one) CHECK(w == doctest::Approx(1.0).epsilon(1e-3));

  const LongCe options{.context = 5, .targets = 10, .most = 1.2};
  const auto weights = longce_weights(objective, p, tokens, options);
  REQUIRE(weights.size() == 40);
  const test::Reference reference(*layout);
  const test::Vector at = test::widen(p.values());
  const auto loss_at = [&](std::size_t first, std::size_t t) {  // of token t + 1 seen from `first`
    std::vector<float> only(t + 1 - first, 0.0f);
    only.back() = 1.0f;
    Sample s;
    s.tokens = std::span(tokens).subspan(first, t + 2 - first);
    s.weights = only;
    return reference.loss(at, s, test::Vector(State<>(p.shape()).values().size()), false);
  };
  bool capped = false;
  for (std::size_t t = 0; t < 40; ++t) {
    CAPTURE(t);
    const std::size_t first = t < 10 ? 0 : t / 10 * 10 - 5;
    const double want = std::min(1.2, std::exp(loss_at(first, t) - loss_at(0, t)));
    capped = capped || want == 1.2;
    CHECK(weights[t] == doctest::Approx(want).epsilon(1e-3));
  }
  CHECK(capped);
  CHECK_THROWS_AS(static_cast<void>(longce_weights(objective, p, std::span(tokens).first(1))),
                  Error);
  CHECK_THROWS_AS(static_cast<void>(longce_weights(objective, p, tokens, {.targets = 0})), Error);
}

TEST_CASE("layouts that no hybrid model has are refused") {
  SparseLayout sparse{.blocks = 1, .ffn = 0, .config = {}};
  const Dimensions d{.layers = 1,
                     .embed = 64,
                     .head_size = 32,
                     .ffn = 8,
                     .vocab = 9,
                     .decay_rank = 2,
                     .icl_rank = 2,
                     .value_rank = 2,
                     .gate_rank = 2};
  CHECK_THROWS_AS(Layout(d, Eigenvalues::standard, false, sparse), Error);
  sparse.ffn = 8;
  CHECK_NOTHROW(Layout(d, Eigenvalues::standard, false, sparse));
  sparse.config.top_k = 0;
  CHECK_THROWS_AS(Layout(d, Eigenvalues::standard, false, sparse), Error);
  sparse.config = {};
  Dimensions narrow = d;
  narrow.embed = 32;
  CHECK_THROWS_AS(Layout(narrow, Eigenvalues::standard, false, sparse), Error);
}
