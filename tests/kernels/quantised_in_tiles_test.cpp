// SPDX-License-Identifier: Apache-2.0
// Products of many rows in tile registers: the kernel on a model of them, whose bits are those of
// the kernels without. What the processor itself makes of it, if it has tiles, levels_test.cpp says,
// and here, whether other threads and signals disturb it (tests/emulated_x86 has such a processor).
#include "support/model_of_tiles.hpp"
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/core/buffer.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/quantised_formats.hpp>
#include <rwkv/kernels/quantised_in_tiles.hpp>
#include <rwkv/quant/quantise.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <limits>
#include <thread>
#if defined(__linux__)
#include <csignal>
#include <sys/time.h>
#endif

namespace {

namespace kernels = rwkv::kernels;
using kernels::Inputs;
using rwkv::AnyMatrix;
using rwkv::DType;
using test::ModelOfTiles;
using L = test::WideLanes<16, true>;  // 512 bits

constexpr DType types[] = {DType::q4_0, DType::q4_1, DType::q5_0,  DType::q5_1,
                           DType::q8_0, DType::q2_k, DType::q3_k,  DType::q4_k,
                           DType::q5_k, DType::q6_k, DType::iq4_nl};

std::vector<std::byte> random_blocks(DType type, std::size_t rows, std::size_t cols,
                                     test::Random& random) {
  std::vector<float> numbers(rows * cols);
  test::fill(numbers, random);
  return rwkv::quant::quantise(numbers, rows, cols, type);
}

/// Rows of inputs, quantised, some of them of codes at their limits, NaN and infinity.
struct Rows {
  std::size_t count, cols;
  std::vector<float> x;
  std::vector<std::byte> memory;
  kernels::QuantisedActivations quantised;

  Rows(std::size_t count_, std::size_t cols_, test::Random& random)
      : count(count_),
        cols(cols_),
        x(count * cols),
        memory(count * kernels::QuantisedActivations::bytes_for(cols)),
        quantised{memory.data(), kernels::QuantisedActivations::bytes_for(cols), cols} {
    test::fill(x, random);
    for (std::size_t m = 0; m < count; ++m) {
      float* const row = x.data() + m * cols;
      for (std::size_t i = 0; m % 5 == 1 && i < cols; ++i) row[i] = i % 3 == 0 ? -3e38f : 3e38f;
      if (m % 7 == 2) row[cols / 2] = std::numeric_limits<float>::quiet_NaN();
      if (m % 7 == 3) row[cols - 1] = std::numeric_limits<float>::infinity();
      if (m % 7 == 4) std::fill_n(row, cols, 0.0f);
      kernels::compiled::quantise_row<L>(kernels::ActivationFormat::codes, row, quantised, m);
    }
  }
  [[nodiscard]] kernels::ProductInputs view() const { return {x.data(), cols, quantised}; }
};

/// Tiles one of whose sums is wrong.
struct Wrong : ModelOfTiles {
  template <unsigned C, unsigned A, unsigned B>
  static void add_products() noexcept {
    ModelOfTiles::add_products<C, A, B>();
    registers.data[C][15][60] ^= 1;
  }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  const auto computed_nan = [](float x) {
    return x != x && !test::same_bits({&x, 1}, {&test::canary, 1});
  };
  for (std::size_t i = 0; i < a.size(); ++i)  // a NaN is a NaN, but for what nobody has written
    if (!test::same_bits({&a[i], 1}, {&b[i], 1}) && !(computed_nan(a[i]) && computed_nan(b[i])))
      return false;
  return a.size() == b.size();
}

}  // namespace

TEST_CASE("products in tiles have the bits of those without, of every block type") {
  test::Random random(1);
  test::Thinned combinations(5);  // some of every type
  for (const DType type : types)
    for (const std::size_t outputs : {1u, 16u, 75u})
      for (const std::size_t cols : {256u, 768u}) {  // less than the tiles at once, and more
        if (combinations.leaves_out()) continue;
        CAPTURE(rwkv::name_of(type));
        CAPTURE(outputs);
        CAPTURE(cols);
        const auto blocks = random_blocks(type, outputs, cols, random);
        rwkv::Buffer<std::byte, rwkv::dynamic> packed(kernels::packed_bytes(type, outputs, cols));
        const rwkv::Range all{0, kernels::panels_for(outputs)};
        kernels::pack_quantised(type, blocks.data(), rwkv::bytes_of(type, cols), outputs, cols, all,
                                packed.data());
        const AnyMatrix w{type, packed.data(), outputs, cols, Inputs::rounded};
        const Rows x(40, cols, random);
        std::vector<float> expected(x.count * outputs);
        kernels::compiled::multiply_blocks<L>(w, all, x.view(), x.count, expected.data(), outputs);
        for (const std::size_t rows : {8u, 9u, 15u, 16u, 17u, 23u, 32u, 39u}) {
          CAPTURE(rows);
          if (cols > 256 && rows % 2 == 0) continue;  // enough
          const std::size_t ldy = outputs + 5;
          std::vector<float> y(rows * ldy, test::canary), wanted = y;
          for (std::size_t m = 0; m < rows; ++m)
            std::copy_n(&expected[m * outputs], outputs, &wanted[m * ldy]);
          const rwkv::Range first{0, all.end / 2}, rest{all.end / 2, all.end};
          for (const rwkv::Range part : {first, rest})
            REQUIRE(kernels::compiled::multiply_in_tiles<L, test::TilesOfModel>(
                w, part, x.view(), rows, y.data(), ldy));
          CHECK(same(y, wanted));
          CHECK(ModelOfTiles::faults == 0);
          CHECK_FALSE(ModelOfTiles::registers.configured);
        }
      }
  CHECK(ModelOfTiles::products > 0);
}

TEST_CASE("products in tiles of weights that lie input by input, and of those that go on") {
  test::Random random(2);
  constexpr std::size_t outputs = 128, cols = 1056;  // 33 tiles
  for (const DType type : {DType::q8_0, DType::iq4_nl}) {
    CAPTURE(rwkv::name_of(type));
    const auto blocks = random_blocks(type, outputs, cols, random);
    const std::size_t bytes = kernels::packed_bytes(type, outputs, cols);
    rwkv::Buffer<std::byte, rwkv::dynamic> in_panels(bytes), by_input(bytes);
    const rwkv::Range all{0, kernels::panels_for(outputs)};
    kernels::pack_quantised(type, blocks.data(), rwkv::bytes_of(type, cols), outputs, cols, all,
                            in_panels.data());
    REQUIRE(kernels::pack_by_input(type, blocks.data(), rwkv::bytes_of(type, cols), cols,
                                   {0, outputs / kernels::ByInput::outputs}, by_input.data()));
    const Rows x(35, cols, random);
    const AnyMatrix dense{type, in_panels.data(), outputs, cols, Inputs::rounded};
    AnyMatrix sparse{type, by_input.data(), outputs, cols, Inputs::rounded};
    sparse.by_input = true;
    for (const std::size_t rows : {16u, 31u, 35u}) {
      CAPTURE(rows);
      std::vector<float> expected(rows * outputs), y(rows * outputs, test::canary);
      kernels::compiled::multiply_blocks<L>(dense, all, x.view(), rows, expected.data(), outputs);
      REQUIRE(kernels::compiled::multiply_in_tiles<L, test::TilesOfModel>(sparse, all, x.view(),
                                                                          rows, y.data(), outputs));
      CHECK(same(y, expected));

      // The first sixteen tiles, then the others: of one panel, whose tiles follow each other.
      std::vector<float> parts(rows * outputs, test::canary);
      auto inputs = x.view();
      const std::size_t tile_bytes = kernels::layout_of(type).tile_bytes();
      for (const std::size_t tiles : {16u, 17u}) {
        const AnyMatrix part{type, in_panels.data() + inputs.quantised.first_tile * tile_bytes,
                             kernels::panel_rows, tiles * kernels::tile_cols, Inputs::rounded};
        REQUIRE(kernels::compiled::multiply_in_tiles<L, test::TilesOfModel>(
            part, {0, 1}, inputs, rows, parts.data(), outputs));
        inputs.quantised.first_tile += tiles;
      }
      for (std::size_t m = 0; m < rows; ++m)
        CHECK(same({&parts[m * outputs], &parts[m * outputs + 16]},
                   {&expected[m * outputs], &expected[m * outputs + 16]}));
      CHECK(ModelOfTiles::faults == 0);
    }
  }
}

TEST_CASE("products that are not worth it are left to others") {
  const AnyMatrix w{DType::q8_0, nullptr, 64, 32, Inputs::rounded};
  AnyMatrix exact = w, by_input = w;
  exact.inputs = Inputs::exact;
  by_input.by_input = true;
  const kernels::ProductInputs x{nullptr, 0};
  const auto in_tiles = kernels::compiled::multiply_in_tiles<L, test::TilesOfModel>;
  CHECK_FALSE(in_tiles(w, {0, 4}, x, 7, nullptr, 0));
  CHECK_FALSE(in_tiles(exact, {0, 4}, x, 64, nullptr, 0));
  CHECK_FALSE(in_tiles(by_input, {0, 4}, x, 15, nullptr, 0));
}

TEST_CASE("the model faults where a processor would") {
  const auto faults = [](auto&& use) {
    ModelOfTiles::faults = 0;
    use();
    ModelOfTiles::release();
    return std::exchange(ModelOfTiles::faults, std::size_t{0}) > 0;
  };
  std::int8_t a[16 * 64] = {};
  std::byte b[16 * 64] = {};
  std::int32_t c[16 * 16];
  const auto product = [&](std::size_t rows, std::size_t inputs) {
    return faults([&] { test::TilesOfModel(rows, inputs).multiply(a, 64, b, c); });
  };
  CHECK_FALSE(product(16, 64));
  CHECK_FALSE(product(1, 4));
  CHECK(product(17, 64));  // more rows than a register has
  CHECK(product(16, 68));
  CHECK(product(16, 6));  // no whole groups of four
  CHECK(product(0, 32));
  CHECK(faults([] { ModelOfTiles::zero<0>(); }));  // not configured
  rwkv::simd::TileConfiguration shapes;
  shapes.palette = 2;
  CHECK(faults([&] { ModelOfTiles::configure(shapes); }));
}

TEST_CASE("tiles that multiply something else are found out") {
  CHECK(rwkv::simd::multiplies_exactly<test::TilesOfModel>());
  CHECK(ModelOfTiles::faults == 0);
  CHECK_FALSE(rwkv::simd::multiplies_exactly<rwkv::simd::TilesOf<Wrong>>());
}

#if defined(__linux__)
namespace {

/// A product at the level in use, and what it is without neighbours and interruptions.
struct Product {
  static constexpr std::size_t outputs = 48, cols = 768;
  rwkv::Buffer<std::byte, rwkv::dynamic> packed;
  AnyMatrix w;
  Rows x;
  std::vector<float> expected, y;

  Product(DType type, std::size_t rows, test::Random random)
      : packed(kernels::packed_bytes(type, outputs, cols)),
        w{type, packed.data(), outputs, cols, Inputs::rounded},
        x(rows, cols, random),
        expected(rows * outputs),
        y(expected) {
    const auto blocks = random_blocks(type, outputs, cols, random);
    kernels::pack_quantised(type, blocks.data(), rwkv::bytes_of(type, cols), outputs, cols,
                            {0, kernels::panels_for(outputs)}, packed.data());
    multiply(expected);
  }
  void multiply(std::vector<float>& to) const noexcept {
    kernels::multiply<rwkv::simd::Chosen>(w, {0, kernels::panels_for(outputs)}, x.view(), x.count,
                                          to.data(), outputs);
  }
  [[nodiscard]] bool again() noexcept {
    multiply(y);
    return same(y, expected);
  }
};

Product* of_handler = nullptr;
std::atomic<std::size_t> handled{0}, wrong_in_handler{0};

}  // namespace

TEST_CASE("other threads and signals do not disturb products") {
  Product interrupting(DType::q6_k, 9, test::Random(3));
  of_handler = &interrupting;
  struct sigaction handler = {}, before = {};
  handler.sa_handler = [](int) {
    ++handled;
    if (!of_handler->again()) ++wrong_in_handler;
  };
  handler.sa_flags = SA_RESTART;
  sigfillset(&handler.sa_mask);
  REQUIRE(sigaction(SIGALRM, &handler, &before) == 0);
  std::atomic<bool> done{false};
  std::atomic<std::size_t> wrong{0};
  std::vector<std::thread> threads;
  sigset_t all, usual;  // signals go to this thread alone: the handler has one product
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &usual);
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q6_k})
    threads.emplace_back([&, type] {
      Product mine(type, 37, test::Random(4));
      while (!done) wrong += mine.again() ? 0 : 1;
    });
  Product mine(DType::q4_k, 16, test::Random(5));
  pthread_sigmask(SIG_SETMASK, &usual, nullptr);
  const itimerval soon{{0, 0}, {0, 200}}, never{};  // once, however long the handler takes
  for (std::size_t i = 0; i < 2000 && handled < 100; ++i) {
    setitimer(ITIMER_REAL, &soon, nullptr);
    for (std::size_t k = 0; k < 5; ++k) wrong += mine.again() ? 0 : 1;
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  done = true;
  for (std::thread& thread : threads) thread.join();
  sigaction(SIGALRM, &before, nullptr);
  CHECK(handled > 0);
  CHECK(wrong == 0);
  CHECK(wrong_in_handler == 0);
}
#endif
