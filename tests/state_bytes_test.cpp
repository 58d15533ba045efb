// SPDX-License-Identifier: Apache-2.0
// States as bytes, without a file, and states between states.
#include "support/golden.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/sample_hybrid.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/hybrid.hpp>
#include <rwkv/mix_states.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

using rwkv::DynamicShape;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::Token;

namespace {

std::vector<std::byte> bytes_in(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

template <class F>
void refused(ErrorCategory category, const std::string& part, F&& f) {
  try {
    f();
    FAIL("accepted");
  } catch (const Error& error) {
    CAPTURE(error.what());
    CHECK(error.category() == category);
    CHECK(std::string(error.what()).find(part) != std::string::npos);
  }
}

const std::vector<Token> tokens{1, 5, 3, 2, 8, 1};

}  // namespace

TEST_CASE("the bytes of a state are those of its file, and are checked as such") {
  const auto model = rwkv::Model<>::load(golden::cases()[0].model);
  rwkv::State state = model.initial_state();
  rwkv::Workspace work(model.shape());
  model.forward(state, tokens, work);
  auto bytes = model.state_to_bytes(state, {{"note", "hi"}});
  const test::TemporaryDirectory directory;
  model.save_state(directory / "state", state, {{"note", "hi"}});
  CHECK(bytes == bytes_in(directory / "state"));
  CHECK(model.state_from_bytes(bytes) == state);

  const rwkv::Model<> other(test::sample_checkpoint());
  refused(ErrorCategory::argument, "the state in memory: this state was made by another model",
          [&] { (void)other.state_from_bytes(bytes); });
  refused(ErrorCategory::argument, "redis: this state",
          [&] { (void)other.state_from_bytes(bytes, {}, "redis"); });
  for (const std::size_t size : {0u, 7u, 100u}) {
    const auto some = std::span<const std::byte>(bytes).first(size);
    CHECK_THROWS_AS((void)model.state_from_bytes(some), Error);
  }
  CHECK_THROWS_AS(
      (void)model.state_from_bytes(std::span<const std::byte>(bytes).first(bytes.size() - 1)),
      Error);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + bytes.size() - 4, &nan, 4);
  refused(ErrorCategory::numeric, "not finite", [&] { (void)model.state_from_bytes(bytes); });

  // Nor is such a state written.
  state.wkv(1)[7] = nan;
  const char* const why = "the state has nan in blocks.1.att.wkv";
  refused(ErrorCategory::numeric, why, [&] { (void)model.state_to_bytes(state); });
  refused(ErrorCategory::numeric, why, [&] { model.save_state(directory / "broken", state); });
  CHECK_FALSE(std::filesystem::exists(directory / "broken"));
  const rwkv::HybridModel hybrid(test::sample_hybrid());
  rwkv::HybridState both = hybrid.initial_state();
  both.sparse_ffn_x_prev(1)[0] = -HUGE_VALF;
  refused(ErrorCategory::numeric, "the state has -inf in moba.1.ffn.x_prev",
          [&] { (void)hybrid.state_to_bytes(both); });
}

TEST_CASE("states of static shape and of hybrid models as bytes") {
  const rwkv::HybridModel model(test::sample_hybrid());
  rwkv::HybridState state = model.initial_state();
  rwkv::HybridWorkspace work(model.shape());
  model.forward(state, tokens, work);
  const auto bytes = model.state_to_bytes(state);
  const test::TemporaryDirectory directory;
  model.save_state(directory / "state", state);
  CHECK(bytes == bytes_in(directory / "state"));
  rwkv::HybridState back = model.state_from_bytes(bytes);
  CHECK(back == state);
  model.forward(back, tokens, work);
  model.forward(state, tokens, work);
  CHECK(back == state);

  using Shape = rwkv::Shape<2, 8, 4, 12, 10, 3, 2, 5, 7>;
  const rwkv::Model<Shape> constant(test::sample_checkpoint());
  rwkv::State<Shape> fixed;
  rwkv::Workspace<Shape> fixed_work(constant.shape());
  constant.forward(fixed, tokens, fixed_work);
  CHECK(constant.state_from_bytes(constant.state_to_bytes(fixed)) == fixed);
}

TEST_CASE("states are averaged number by number") {
  const auto model = rwkv::Model<>::load(golden::cases()[0].model);
  rwkv::Workspace work(model.shape());
  std::vector<rwkv::State<>> states(3, model.initial_state());
  for (std::size_t s = 0; s < 3; ++s)
    for (std::size_t n = 0; n <= s; ++n) model.forward(states[s], tokens, work);
  const rwkv::State<>&a = states[0], &b = states[1], &c = states[2];

  const rwkv::State<>* const all[] = {&a, &b, &c};
  const auto mean = rwkv::average<DynamicShape>(all);
  const float weights[] = {0.5f, -1.0f, 2.0f};
  const auto sum = rwkv::weighted_sum<DynamicShape>(all, weights);
  const auto between = rwkv::interpolate(a, b, 0.25f);
  for (std::size_t i = 0; i < a.values().size(); ++i) {
    const double x = a.values()[i], y = b.values()[i], z = c.values()[i];
    REQUIRE(mean.values()[i] == static_cast<float>((x + y + z) / 3));
    REQUIRE(sum.values()[i] == static_cast<float>(0.5 * x - y + 2 * z));
    REQUIRE(between.values()[i] == static_cast<float>(0.75 * x + 0.25 * y));
  }
  const rwkv::State<>* const same[] = {&b, &b, &b};
  CHECK(rwkv::average<DynamicShape>(same) == b);
  CHECK(rwkv::interpolate(a, b, 0.0f) == a);
  CHECK(rwkv::interpolate(a, b, 1.0f) == b);
  CHECK_FALSE(between == a);

  const rwkv::State<> other(DynamicShape(rwkv::Model<>(test::sample_checkpoint()).shape()));
  const rwkv::State<>* const unlike[] = {&a, &other};
  refused(ErrorCategory::shape, "state 1 has another shape than state 0",
          [&] { (void)rwkv::average<DynamicShape>(unlike); });
  refused(ErrorCategory::shape, "state 1", [&] { (void)rwkv::interpolate(a, other, 0.5f); });
  const float infinite[] = {0.5f, std::numeric_limits<float>::infinity(), 2.0f};
  refused(ErrorCategory::argument, "weighted by inf",
          [&] { (void)rwkv::weighted_sum<DynamicShape>(all, infinite); });
  refused(ErrorCategory::argument, "weighted by nan",
          [&] { (void)rwkv::interpolate(a, b, std::numeric_limits<float>::quiet_NaN()); });
  const float huge[] = {0.0f, 3e38f, 3e38f};
  rwkv::State<> ones = a;
  std::fill_n(ones.values().data(), ones.values().size(), 1.0f);
  const rwkv::State<>* const large[] = {&a, &ones, &ones};
  refused(ErrorCategory::numeric, "the sum of these states is not finite",
          [&] { (void)rwkv::weighted_sum<DynamicShape>(large, huge); });
  const rwkv::State<>* const missing[] = {&a, nullptr};
  refused(ErrorCategory::argument, "state 1 is missing",
          [&] { (void)rwkv::average<DynamicShape>(missing); });
  refused(ErrorCategory::argument, "no states",
          [&] { (void)rwkv::average<DynamicShape>(std::span<const rwkv::State<>* const>()); });
  refused(ErrorCategory::argument, "2 weights for 3 states",
          [&] { (void)rwkv::weighted_sum<DynamicShape>(all, std::span(weights).first(2)); });
}
