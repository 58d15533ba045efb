// SPDX-License-Identifier: Apache-2.0
// States of static models: in 16 bits, as bytes, and in flash while the power is cut.
#include "support/numbers.hpp"
#include "support/static_cases.hpp"
#include "support/static_weights.hpp"
#include <rwkv/model.hpp>
#include <rwkv/simd/chosen.hpp>
#include <rwkv/static_compact_state.hpp>
#include <rwkv/static_memory.hpp>
#include <rwkv/static_state_store.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

namespace {

using rwkv::CompactState;
using rwkv::Rounding;
using Shape = test::F32::Shape;

constinit CompactState<Shape> needs_no_constructor;
constinit rwkv::CompactWorkspace<Shape> nor_does_this;
constinit rwkv::Workspace<Shape, 1> nor_this;

/// Two pages of flash: erased to ones, bits only fall. The power fails after `power` bytes.
struct Flash {
  std::vector<std::byte> pages[2];
  std::size_t power = SIZE_MAX;

  explicit Flash(std::size_t size) {
    for (auto& page : pages) page.assign(size, std::byte{0xff});
  }
  bool erase(unsigned area) {
    for (std::byte& b : pages[area])
      if (!spend())
        return false;
      else
        b = std::byte{0xff};
    return true;
  }
  bool write(unsigned area, std::size_t offset, std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) {
      if (!spend()) return false;
      pages[area].at(offset++) &= b;
    }
    return true;
  }
  void read(unsigned area, std::size_t offset, std::span<std::byte> bytes) const {
    for (std::byte& b : bytes) b = pages[area].at(offset++);
  }
  bool spend() { return power > 0 && power-- > 0; }
};

template <class S>
void fill(S& state, std::uint32_t seed) {
  test::Random random(seed);
  for (float& x : state.values()) x = static_cast<float>(random.below(1000)) / 100;
}

}  // namespace

TEST_CASE("a power cut at any byte leaves the old state or the new one") {
  using S = rwkv::State<rwkv::Shape<1, 8, 4, 8, 8, 1, 1, 1, 1>>;
  constexpr std::uint64_t weights = 77;
  S first, second, third, loaded;
  fill(first, 1);
  fill(second, 2);
  fill(third, 3);
  Flash flash(rwkv::saved_bytes<S>);
  CHECK(std::string(rwkv::load_state(loaded, weights, flash)) == "there is no saved state");
  REQUIRE(rwkv::save_state(first, weights, flash));
  REQUIRE(rwkv::save_state(second, weights, flash));
  REQUIRE(rwkv::load_state(loaded, weights, flash) == nullptr);
  REQUIRE(loaded == second);
  bool done = false;
  std::size_t cut = 0;
  for (; !done; ++cut) {
    Flash cut_off = flash;
    cut_off.power = cut;
    done = rwkv::save_state(third, weights, cut_off);
    cut_off.power = SIZE_MAX;
    loaded.reset();
    REQUIRE(rwkv::load_state(loaded, weights, cut_off) == nullptr);
    REQUIRE(loaded == (done ? third : second));
    // And saving goes on from there.
    REQUIRE(rwkv::save_state(first, weights, cut_off));
    REQUIRE(rwkv::load_state(loaded, weights, cut_off) == nullptr);
    REQUIRE(loaded == first);
  }
  CHECK(cut > 2 * sizeof(S));
  CHECK(std::string(rwkv::load_state(loaded, weights + 1, flash)) ==
        "the saved state belongs to other weights");
  // Both pages damaged: nothing is loaded.
  for (auto& page : flash.pages) page[sizeof(rwkv::SavedStateHeader) + 5] ^= std::byte{4};
  const S before = loaded;
  CHECK(std::string(rwkv::load_state(loaded, weights, flash)) == "the saved state is damaged");
  CHECK(loaded == before);
}

TEST_CASE("states as bytes: every one of them counts") {
  using S = rwkv::State<rwkv::Shape<1, 8, 4, 8, 8, 1, 1, 1, 1>>;
  S state, loaded;
  fill(state, 5);
  std::vector<std::byte> bytes(rwkv::saved_bytes<S>);
  const std::size_t size = rwkv::save_state(state, 3, bytes);
  REQUIRE(size == sizeof(rwkv::SavedStateHeader) + state.bytes());
  CHECK(rwkv::save_state(state, 3, std::span(bytes).first(size - 1)) == 0);
  REQUIRE(rwkv::load_state(loaded, 3, bytes) == nullptr);
  CHECK(loaded == state);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] ^= std::byte{1};
    CHECK(rwkv::load_state(loaded, 3, bytes) != nullptr);
    bytes[i] ^= std::byte{1};
  }
  CHECK(rwkv::load_state(loaded, 3, std::span(bytes).first(size - 1)) != nullptr);
  // Another kind of state.
  CompactState<rwkv::Shape<1, 8, 4, 8, 8, 1, 1, 1, 1>> compact;
  CHECK(rwkv::load_state(compact, 3, bytes) != nullptr);
  REQUIRE(rwkv::save_state(compact, 3, bytes) > 0);
  CHECK(rwkv::load_state(compact, 3, bytes) == nullptr);
  CompactState<rwkv::Shape<1, 8, 4, 8, 8, 1, 1, 1, 1>, rwkv::bfloat16> as_wide;
  CHECK(rwkv::load_state(as_wide, 3, bytes) != nullptr);
}

namespace {

/// The largest difference of logits from those of a state in floats, relative to their size.
template <class Compact>
double difference(bool cut) {
  const rwkv::Model<> loaded(test::checkpoint_of<test::F32>());
  const auto weights = test::static_weights<Shape, float>(loaded.weights());
  const rwkv::StaticModel<rwkv::StaticWeights<Shape>, rwkv::simd::Chosen> model(*weights);
  static rwkv::State<Shape> state;
  state.reset();
  static Compact compact;
  compact.reset();
  static rwkv::Workspace<Shape, 1> work;
  static rwkv::CompactWorkspace<Shape> compact_work;
  const auto tokens = test::tokens_of<test::F32>();
  double worst = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::size_t n = cut ? 1 : std::min<std::size_t>(3, tokens.size() - t);
    const auto want = model.forward(state, std::span(tokens).subspan(t, n), work);
    const auto got = model.forward(compact, std::span(tokens).subspan(t, n), compact_work);
    double error = 0, size = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      error += std::pow(want[i] - got[i], 2);
      size += std::pow(want[i], 2);
    }
    worst = std::max(worst, std::sqrt(error / size));
    t += n - 1;
  }
  return worst;
}

}  // namespace

TEST_CASE("a state in 16 bits") {
  CHECK(needs_no_constructor.values().size() == 2 * (2 * 32 + 32 * 16));
  CHECK(nor_does_this.rows() == nor_this.rows());
  CHECK(sizeof(CompactState<Shape>) < sizeof(rwkv::State<Shape>) / 2 + 64);
  for (const bool cut : {true, false}) {
    const double nearest = difference<CompactState<Shape>>(cut);
    const double chance = difference<CompactState<Shape, rwkv::half, Rounding::stochastic>>(cut);
    const double coarse = difference<CompactState<Shape, rwkv::bfloat16>>(cut);
    CHECK(nearest > 0);
    CHECK(nearest < 3e-3);
    CHECK(chance > 0);
    CHECK(chance < 6e-3);
    CHECK(coarse < 3e-2);
  }
  // To and from floats; what half cannot hold stops at its end.
  rwkv::State<Shape> state;
  state.values()[0] = 1e6f;
  state.values()[1] = -1e9f;
  state.values()[2] = 0.5f;
  CompactState<Shape> compact;
  compact.round(state);
  compact.widen(state);
  CHECK(state.values()[0] == 65504);
  CHECK(state.values()[1] == -65504);
  CHECK(state.values()[2] == 0.5f);
}

TEST_CASE("stochastic rounding is right on average") {
  using Small = rwkv::Shape<1, 8, 4, 8, 8, 1, 1, 1, 1>;
  rwkv::State<Small> state, back;
  for (float& x : state.values()) x = 1.0003f;  // between 1 and 1 + 2^-10
  CompactState<Small, rwkv::half, Rounding::stochastic> compact;
  double sum = 0;
  const int rounds = 400;
  for (int i = 0; i < rounds; ++i) {
    compact.round(state);
    compact.widen(back);
    for (const float x : back.values()) sum += static_cast<double>(x);
  }
  const double mean = sum / rounds / static_cast<double>(state.values().size());
  CHECK(mean == doctest::Approx(1.0003).epsilon(2e-5));
}

TEST_CASE("the memory of a static model is known beforehand") {
  using Small = rwkv::Shape<1, 8, 4, 8, 8, 1, 1, 1, 1>;
  constexpr auto memory = rwkv::static_memory<rwkv::State<Small>, rwkv::Workspace<Small, 1>>();
  static_assert(memory.state == sizeof(rwkv::State<Small>));
  static_assert(memory.total() == memory.state + memory.workspace + memory.sampler + memory.stack);
  CHECK(memory.sampler == sizeof(rwkv::StaticSampler<>));
}
