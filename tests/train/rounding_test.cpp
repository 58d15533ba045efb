// SPDX-License-Identifier: Apache-2.0
// Training for int8 computes what the converted model does.
#include "../support/temporary_directory.hpp"
#include "support.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/model.hpp>
#include <rwkv/train.hpp>

#include <doctest/doctest.h>

#include <numeric>

using namespace rwkv;
using namespace rwkv::train;

namespace {

/// Rows of the channel mix's second matrix are whole blocks, those of the others too, or not.
std::shared_ptr<const Layout> layout_for(std::size_t embed) {
  return std::make_shared<const Layout>(Dimensions{.layers = 2,
                                                   .embed = embed,
                                                   .head_size = 16,
                                                   .ffn = 96,
                                                   .vocab = 24,
                                                   .decay_rank = 4,
                                                   .icl_rank = 4,
                                                   .value_rank = 4,
                                                   .gate_rank = 4});
}

double distance(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

Objective::Options for_int8() {
  Objective::Options options;
  options.precision = Precision::int8;
  return options;
}

}  // namespace

TEST_CASE("inputs are rounded to 255 steps per block; rows that are no blocks stay") {
  Random random(1);
  std::vector<float> x(3 * 64);
  for (float& v : x) v = static_cast<float>(random.normal());
  std::fill_n(x.begin() + 64, 32, 0.0f);
  const std::vector<float> before = x;
  round_inputs(Precision::exact, x.data(), 3, 64);
  CHECK(x == before);
  round_inputs(Precision::int8, x.data(), 4, 48);
  CHECK(x == before);
  round_inputs(Precision::int8, x.data(), 3, 64);
  CHECK(x != before);
  for (std::size_t block = 0; block < x.size(); block += 32) {
    float largest = 0.0f;
    for (std::size_t i = block; i < block + 32; ++i)
      largest = std::max(largest, std::abs(before[i]));
    for (std::size_t i = block; i < block + 32; ++i) {
      CHECK(std::abs(x[i] - before[i]) <= 0.5001f * largest / 127.0f);
      if (largest == 0.0f) continue;
      const float steps = x[i] / (largest / 127.0f);
      CHECK(std::abs(steps - std::nearbyint(steps)) < 1e-3f);
    }
  }
}

TEST_CASE("exactly those weights are rounded that a conversion rounds") {
  const Parameters p = test::random_parameters(layout_for(32), 2);
  Parameters rounded(p.shared_layout());
  round_weights(p, rounded);
  std::size_t changed = 0;
  for (const TensorInfo& t : p.layout().tensors()) {
    const std::span<const float> a = p.values(t), b = rounded.values(t);
    const bool same = std::equal(a.begin(), a.end(), b.begin());
    const bool matrix = t.name.ends_with("receptance.weight") || t.name.ends_with("key.weight") ||
                        t.name.ends_with("value.weight") || t.name == "emb.weight" ||
                        t.name == "head.weight" || t.name == "blocks.1.att.output.weight";
    CAPTURE(t.name);
    CHECK(same == !matrix);
    CHECK(test::relative_error(b, a) < 0.006);
    changed += same ? 0 : 1;
  }
  CHECK(changed == 2 * 5 + 3);
}

TEST_CASE("the loss is that of the converted model") {
  for (const std::size_t embed : {32u, 48u}) {
    CAPTURE(embed);
    const test::TemporaryDirectory directory;
    const auto floats = directory / "floats.safetensors", int8 = directory / "int8.gguf";
    Parameters p = test::random_parameters(layout_for(embed), 3);
    for (float& x : p.values()) x = to_float(to_half(x));  // other matrices keep 16 bits
    write_model(floats, p, DType::f32);
    convert(io::read_checkpoint(floats), int8, {.type = DType::q8_0, .self_test = false});
    Random random(4);
    const auto tokens = test::random_tokens(60, 24, random);

    const Model<> model = load(int8);
    State<> state(model.shape());
    Workspace<> work(model.shape(), 64);
    std::vector<float> converted(tokens.size() * 24);
    const Slot<> slot{&state, tokens};
    model.forward(std::span(&slot, 1), Logits::all, converted, work);

    const auto exact = Objective(p.shared_layout()).logits(p, tokens);
    const auto trained = Objective(p.shared_layout(), for_int8()).logits(p, tokens);
    const double effect = distance(exact, converted);
    CHECK(effect > 1e-3);
    CHECK(distance(trained, converted) < 0.01 * effect);
  }
}

TEST_CASE("gradients pass through the rounding") {
  const Parameters p = test::random_parameters(layout_for(32), 5);
  Random random(6);
  const auto tokens = test::random_tokens(50, 24, random);
  std::vector<Sample> batch(1);
  batch[0].tokens = tokens;
  Serial serial;
  Objective exact(p.shared_layout()), int8(p.shared_layout(), for_int8());
  Parameters a(p.shared_layout()), b(p.shared_layout());
  const double exact_loss = exact.gradient(p, batch, {.parameters = &a}, serial);
  const double int8_loss = int8.gradient(p, batch, {.parameters = &b}, serial);
  CHECK(int8_loss != exact_loss);
  CHECK(int8_loss == doctest::Approx(exact_loss).epsilon(0.02));
  CHECK(int8.loss(p, batch, serial) == int8_loss);
  for (const TensorInfo& t : p.layout().tensors()) {
    CAPTURE(t.name);
    CHECK(test::relative_error(b.values(t), a.values(t)) < 0.3);
  }
}

TEST_CASE("hybrids are refused") {
  SparseLayout sparse;
  sparse.blocks = 1;
  sparse.ffn = 96;
  Dimensions d = layout_for(64)->shape().dimensions();
  const auto layout = std::make_shared<const Layout>(d, Eigenvalues::standard, false, sparse);
  CHECK_THROWS_AS(Objective(layout, for_int8()), Error);
}
