// SPDX-License-Identifier: Apache-2.0
// Training for int8 computes what the converted model does.
#include "../support/temporary_directory.hpp"
#include "support.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/model.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/train.hpp>
#include <rwkv/train/rounding.hpp>

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
                                                   .gate_rank = 4,
                                                   .deep_rank = 8});
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
                        t.name == "head.weight" || t.name == "blocks.1.att.output.weight" ||
                        t.name.ends_with("s_emb.weight");
    CAPTURE(t.name);
    CHECK(same == !matrix);
    CHECK(test::relative_error(b, a) < 0.006);
    changed += same ? 0 : 1;
  }
  CHECK(changed == 2 * 6 + 3);
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
    // Where the model's kernels round fewer times than training, which does not follow the
    // processor, a few inputs between two steps fall to the other side.
    const bool same_rounding = simd::level() == simd::Level::compiled;
    CHECK(distance(trained, converted) < (same_rounding ? 0.01 : 0.1) * effect);
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

TEST_CASE("gradients pass through the step of a block's rounding") {
  Random random(7);
  std::vector<float> x(3 * 64), dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(random.normal());
    dx[i] = static_cast<float>(random.normal());
  }
  std::fill_n(x.begin() + 64, 32, 0.0f);
  const std::vector<float> before = x, gradient = dx;
  round_inputs_backward(Precision::exact, x.data(), dx.data(), 3, 64);
  round_inputs_backward(Precision::int8, x.data(), dx.data(), 4, 48);
  CHECK(x == before);
  CHECK(dx == gradient);
  round_inputs_backward(Precision::int8, x.data(), dx.data(), 3, 64);
  std::vector<float> rounded = before;
  round_inputs(Precision::int8, rounded.data(), 3, 64);
  CHECK(x == rounded);
  for (std::size_t block = 0; block < x.size(); block += 32) {
    // Rounding is homogeneous of the first degree, so that x and its gradient have Euler's product.
    double of_x = 0.0, of_rounded = 0.0;
    std::size_t changed = 0, largest = block;
    for (std::size_t i = block; i < block + 32; ++i) {
      of_x += static_cast<double>(before[i]) * static_cast<double>(dx[i]);
      of_rounded += static_cast<double>(rounded[i]) * static_cast<double>(gradient[i]);
      changed += dx[i] != gradient[i];
      if (std::abs(before[i]) > std::abs(before[largest])) largest = i;
    }
    CHECK(of_x == doctest::Approx(of_rounded).epsilon(1e-5));
    CHECK(changed == (before[largest] == 0.0f ? 0 : 1));
    CHECK((dx[largest] != gradient[largest]) == (before[largest] != 0.0f));
  }
}

TEST_CASE("scaling a product's inputs up and its weights down changes nothing, in gradients too") {
  // d loss / d log(scale) of what makes the inputs is that of the weights they meet. It would not
  // be if the inputs' gradients passed the rounding alone: their share in the loss is that of the
  // rounded inputs.
  const Parameters p = test::random_parameters(layout_for(32), 8);
  Parameters multiplied(p.shared_layout()), gradient(p.shared_layout());
  round_weights(p, multiplied);
  Random random(9);
  const auto tokens = test::random_tokens(50, 24, random);
  std::vector<Sample> batch(1);
  batch[0].tokens = tokens;
  Serial serial;
  Objective(p.shared_layout(), for_int8()).gradient(p, batch, {.parameters = &gradient}, serial);
  const auto by_scale = [&](std::initializer_list<const char*> names, const std::string& prefix) {
    double sum = 0.0;
    for (const std::string name : names) {
      const auto tensors = p.layout().tensors();
      const TensorInfo& t = *std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& i) {
        return i.name == prefix + name;
      });
      const auto x = multiplied.values(t), d = gradient.values(t);
      for (std::size_t i = 0; i < x.size(); ++i)
        sum += static_cast<double>(x[i]) * static_cast<double>(d[i]);
    }
    return sum;
  };
  const auto same = [](double a, double b) {
    CHECK(std::abs(a) > 1e-4);
    CHECK(a == doctest::Approx(b).epsilon(1e-3));
  };
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    CAPTURE(block);
    double products = by_scale({"att.receptance.weight", "att.key.weight", "att.value.weight",
                                "att.w1", "att.a1", "att.g1"},
                               block);
    if (block == "blocks.1.") products += by_scale({"att.v1"}, block);
    same(by_scale({"ln1.weight", "ln1.bias"}, block), products);
    same(by_scale({"att.g2"}, block), by_scale({"att.output.weight"}, block));
    same(by_scale({"ln2.weight", "ln2.bias"}, block),
         by_scale({"ffn.key.weight", "ffn.s1"}, block));
    same(by_scale({"ffn.key.weight"}, block), 2.0 * by_scale({"ffn.value.weight"}, block));
  }
  same(by_scale({"ln_out.weight", "ln_out.bias"}, ""), by_scale({"head.weight"}, ""));
}

TEST_CASE("hybrids are refused") {
  SparseLayout sparse;
  sparse.blocks = 1;
  sparse.ffn = 96;
  Dimensions d = layout_for(64)->shape().dimensions();
  const auto layout = std::make_shared<const Layout>(d, Eigenvalues::standard, false, sparse);
  CHECK_THROWS_AS(Objective(layout, for_int8()), Error);
}
