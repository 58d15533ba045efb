// SPDX-License-Identifier: Apache-2.0
// Losses and gradients against differences of a float64 model (tests/data/make_gradients.py), and
// with logits against float64 automatic differentiation of the official form.
#include "../support/golden.hpp"
#include "support.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/train/objective.hpp>

#include <doctest/doctest.h>

using namespace rwkv;

namespace {

/// The gradient of a matrix is given by its first rows and the alternating sums of all its rows and
/// columns.
void check_gradient(const io::Checkpoint& data, const train::TensorInfo& t,
                    std::span<const float> gradient) {
  const auto want = [&](const char* what) { return data.get(what + t.name).values<double>(); };
  if (data.find("all." + t.name) != nullptr) {
    CHECK(test::relative_error(gradient, want("all.")) <= 1e-4);
    return;
  }
  const std::size_t rows = t.shape.at(0), columns = t.shape.at(1);
  std::vector<double> row_sums(rows), column_sums(columns);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) {
      const double g = gradient[i * columns + j];
      row_sums[i] += j % 2 == 0 ? g : -g;
      column_sums[j] += i % 2 == 0 ? g : -g;
    }
  CHECK(test::relative_error(gradient, want("rows.")) <= 1e-4);
  CHECK(test::relative_error(row_sums, want("row_sums.")) <= 1e-4);
  CHECK(test::relative_error(column_sums, want("column_sums.")) <= 1e-4);
}

void check_own_case(const std::string& name, const std::string& model, bool l2wrap) {
  CAPTURE(name);
  const std::string folder = RWKV_TEST_DATA "/";
  const train::Parameters p =
      train::read_parameters(golden::read(folder + model + ".model.safetensors"));
  const io::Checkpoint data = golden::read(folder + name + ".gradients.safetensors");
  const auto& ids = data.get("tokens");
  const auto tokens = ids.values<Token>();
  const bool has_state = data.find("state0.wkv") != nullptr;
  const State<> initial =
      has_state ? golden::state(data, "state0.", p.shape()) : State<>(p.shape());
  std::vector<train::Sample> samples(ids.shape[0]);
  for (std::size_t b = 0; b < samples.size(); ++b) {
    samples[b].tokens = std::span(tokens).subspan(b * ids.shape[1], ids.shape[1]);
    samples[b].initial = &initial;
  }
  train::Objective objective(p.shared_layout(), {.l2wrap = l2wrap});
  train::Parameters gradient(p.shared_layout());
  State<> dstate(p.shape());
  Serial serial;
  const double loss =
      objective.gradient(p, samples, {.parameters = &gradient, .initial = &dstate}, serial);
  CHECK(loss == doctest::Approx(data.get("loss").at_offset<double>(0)).epsilon(1e-6));
  for (const auto& t : p.layout().tensors()) {
    CAPTURE(t.name);
    check_gradient(data, t, gradient.values(t));
  }
  if (!has_state) return;
  const State<> expected = golden::state(data, "all.state0.", p.shape());
  for (std::size_t i = 0; i < p.shape().layers(); ++i) {
    CHECK(test::relative_error(dstate.wkv(i), expected.wkv(i)) <= 1e-4);
    CHECK(test::relative_error(dstate.att_x_prev(i), expected.att_x_prev(i)) <= 1e-4);
    CHECK(test::relative_error(dstate.ffn_x_prev(i), expected.ffn_x_prev(i)) <= 1e-4);
  }
}

}  // namespace

TEST_CASE("gradients equal differences of the float64 model's loss") {
  check_own_case("ce_batch", "golden_l2_c32_f32", false);
  check_own_case("l2wrap_state", "golden_l2_c32_extended_f16", true);
}

#ifdef RWKV_GOLDENS

namespace {

void check_case(const std::string& name, bool l2wrap) {
  CAPTURE(name);
  const std::string folder = RWKV_GOLDENS "/grad/g7_l3_c32/";
  const train::Parameters p = train::read_parameters(golden::read(folder + "model.safetensors"));
  const io::Checkpoint data = golden::read(folder + name + ".safetensors");
  const DynamicShape& shape = p.shape();

  const auto& ids = data.get("tokens");
  const std::size_t batch = ids.shape[0], length = ids.shape[1];
  const auto tokens = ids.values<Token>();
  State<> initial(shape);
  if (data.find("state0.wkv") != nullptr) initial = golden::state(data, "state0.", shape);
  std::vector<train::Sample> samples(batch);
  for (std::size_t b = 0; b < batch; ++b) {
    samples[b].tokens = std::span(tokens).subspan(b * length, length);
    samples[b].initial = &initial;
  }

  train::Objective objective(p.shared_layout(), {.l2wrap = l2wrap, .rows_per_pass = 256});
  train::Parameters gradient(p.shared_layout());
  State<> dstate(shape);
  for (const std::size_t threads : {1u, 2u}) {
    ThreadPool pool(threads);
    const double loss =
        objective.gradient(p, samples, {.parameters = &gradient, .initial = &dstate}, pool);
    CHECK(loss == doctest::Approx(data.get("loss").at_offset<double>(0)).epsilon(1e-6));
    double worst = 0.0;
    for (const auto& t : p.layout().tensors()) {
      CAPTURE(t.name);
      const double error =
          test::relative_error(gradient.values(t), data.get("grad." + t.name).values<double>());
      CHECK(error <= 1e-4);
      worst = std::max(worst, error);
    }
    if (data.find("grad_state0.wkv") != nullptr) {
      const State<> expected = golden::state(data, "grad_state0.", shape);
      for (std::size_t i = 0; i < shape.layers(); ++i) {
        CHECK(test::relative_error(dstate.wkv(i), expected.wkv(i)) <= 1e-4);
        CHECK(test::relative_error(dstate.att_x_prev(i), expected.att_x_prev(i)) <= 1e-4);
        CHECK(test::relative_error(dstate.ffn_x_prev(i), expected.ffn_x_prev(i)) <= 1e-4);
      }
    }
    MESSAGE(name, " worst relative error of a gradient ", worst);
  }

  const auto expected = data.get("logits").values<double>();
  const std::size_t predictions = (length - 1) * shape.vocab();
  for (std::size_t b = 0; b < batch; ++b) {
    const auto logits =
        objective.logits(p, std::span(tokens).subspan(b * length, length - 1), &initial);
    const std::span row(expected.data() + b * predictions, predictions);
    double error = 0.0;
    for (std::size_t i = 0; i < predictions; ++i)
      error = std::max(error, std::abs(static_cast<double>(logits[i]) - row[i]));
    CHECK(error <= 1e-4);
  }
}

}  // namespace

TEST_CASE("gradients equal the float64 goldens") {
  check_case("ce_zero_state", false);
  check_case("ce_random_state", false);
  check_case("ce_l2wrap", true);
  check_case("ce_batch2", false);
}

#endif
