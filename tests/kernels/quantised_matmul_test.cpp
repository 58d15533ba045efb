// SPDX-License-Identifier: Apache-2.0
// Products with matrices of every block type against double precision, and their bits against each
// other: for any number of rows, any division of the work and any width of the registers.
#include "support/executors.hpp"
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/product.hpp>
#include <rwkv/kernels/quantised_formats.hpp>
#include <rwkv/quant/quantise.hpp>
#include <rwkv/quant/rows.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/simd/x86_lanes.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace {

namespace kernels = rwkv::kernels;
using kernels::Inputs;
using rwkv::DType;
using rwkv::simd::Chosen;

constexpr DType block_types[] = {DType::q4_0, DType::q4_1, DType::q5_0,  DType::q5_1,
                                 DType::q8_0, DType::q2_k, DType::q3_k,  DType::q4_k,
                                 DType::q5_k, DType::q6_k, DType::iq4_nl};

/// A random matrix in blocks, packed, and the numbers that the blocks stand for.
struct Coded {
  DType type;
  std::size_t rows, cols;
  std::vector<float> w;  // [rows][cols]
  rwkv::Buffer<std::byte, rwkv::dynamic> packed;

  Coded(DType type_, std::size_t rows_, std::size_t cols_, test::Random& random)
      : type(type_), rows(rows_), cols(cols_), w(rows * cols), packed(bytes()) {
    test::fill(w, random);
    for (std::size_t o = 0; o < rows; ++o)  // rows of different sizes, and one that is all zeros
      for (std::size_t i = 0; i < cols; ++i) w[o * cols + i] *= static_cast<float>(o % 5);
    const auto blocks = rwkv::quant::quantise(w, rows, cols, type);
    rwkv::quant::decode_row(type, blocks.data(), w.size(), w.data());
    for (std::size_t p = 0; p < panels(); ++p)
      kernels::pack_quantised(type, blocks.data(), rwkv::bytes_of(type, cols), rows, cols,
                              {p, p + 1}, packed.data());
  }
  [[nodiscard]] std::size_t bytes() const { return kernels::packed_bytes(type, rows, cols); }
  [[nodiscard]] std::size_t panels() const { return kernels::panels_for(rows); }
  [[nodiscard]] rwkv::AnyMatrix view(Inputs inputs) const {
    return {type, packed.data(), rows, cols, inputs};
  }
};

/// Some rows of inputs, quantised.
struct Rows {
  std::size_t count, cols, ldx;
  test::Misaligned<float> x;
  std::vector<std::byte> memory;
  kernels::QuantisedActivations quantised;

  Rows(std::size_t count_, const rwkv::AnyMatrix& w, test::Random& random)
      : count(count_),
        cols(w.cols),
        ldx(cols + 3),
        x(count * ldx),
        memory(count * kernels::QuantisedActivations::bytes_for(cols)),
        quantised{memory.data(), kernels::QuantisedActivations::bytes_for(cols), cols} {
    test::fill(x, random);
    for (std::size_t m = 0; m < count; ++m)
      kernels::quantise_row<Chosen>(kernels::activation_format<Chosen>(w), x.data() + m * ldx,
                                    quantised, m);
  }
  [[nodiscard]] kernels::ProductInputs view() const { return {x.data(), ldx, quantised}; }
  [[nodiscard]] kernels::ProductInputs row(std::size_t m) const {
    auto one = quantised;
    one.data += m * one.stride;
    return {x.data() + m * ldx, ldx, one};
  }
  /// What the products multiply with.
  [[nodiscard]] double input(std::size_t m, std::size_t i, Inputs inputs) const {
    return inputs == Inputs::exact
               ? static_cast<double>(x[m * ldx + i])
               : quantised.codes(m)[i] * static_cast<double>(quantised.steps(m)[i / 32]);
  }
};

template <class L>
std::vector<float> product(const rwkv::AnyMatrix& w, const kernels::ProductInputs& x,
                           std::size_t rows) {
  std::vector<float> y(rows * w.rows, test::canary);
  kernels::multiply<L>(w, {0, kernels::panels_for(w.rows)}, x, rows, y.data(), w.rows);
  return y;
}

}  // namespace

TEST_CASE("products with blocks are those of the numbers that the blocks stand for") {
  test::Random random(1);
  test::Thinned combinations(4);
  for (const DType type : block_types)
    for (const std::size_t outputs : {1u, 16u, 75u}) {
      if (combinations.leaves_out()) continue;
      CAPTURE(rwkv::name_of(type));
      CAPTURE(outputs);
      const Coded w(type, outputs, 512, random);
      for (const Inputs inputs : {Inputs::rounded, Inputs::exact}) {
        const Rows x(11, w.view(inputs), random);
        const auto y = product<Chosen>(w.view(inputs), x.view(), x.count);
        for (std::size_t m = 0; m < x.count; ++m)
          for (std::size_t o = 0; o < outputs; ++o) {
            double sum = 0;
            double size = 0;
            for (std::size_t i = 0; i < w.cols; ++i) {
              const double term = w.w[o * w.cols + i] * x.input(m, i, inputs);
              sum += term;
              size += std::abs(term);
            }
            REQUIRE(std::abs(y[m * outputs + o] - sum) <= 4e-6 * size);
          }
      }
    }
}

TEST_CASE("quantised inputs are within half a step, and their sums are right") {
  test::Random random(2);
  const Coded w(DType::q8_0, 1, 320, random);
  const Rows x(3, w.view(Inputs::rounded), random);
  for (std::size_t m = 0; m < x.count; ++m)
    for (std::size_t part = 0; part < 20; ++part) {
      std::int32_t sum = 0;
      for (std::size_t i = part * 16; i < part * 16 + 16; ++i) {
        CHECK(std::abs(x.input(m, i, Inputs::rounded) - x.input(m, i, Inputs::exact)) <=
              0.5001 * static_cast<double>(x.quantised.steps(m)[i / 32]));
        sum += x.quantised.codes(m)[i];
      }
      CHECK(x.quantised.negative_sums(m)[part] ==
            -x.quantised.steps(m)[part / 2] * static_cast<float>(sum));
    }
}

TEST_CASE("inputs of every size: zeros, denormals, the largest floats, NaN") {
  std::vector<float> x(32 * 5, 0.0f);
  for (std::size_t i = 0; i < 32; ++i) {
    x[32 + i] = 1e-41f * static_cast<float>(i);
    x[64 + i] = i % 2 == 0 ? 3e38f : -3e38f;
    x[96 + i] = static_cast<float>(i);
  }
  x[96] = std::numeric_limits<float>::quiet_NaN();
  x[128] = std::numeric_limits<float>::infinity();
  std::vector<std::byte> memory(kernels::QuantisedActivations::bytes_for(x.size()));
  const kernels::QuantisedActivations rows{memory.data(), memory.size(), x.size()};
  kernels::compiled::row_to_codes(x.data(), rows, 0);
  for (std::size_t i = 0; i < 64; ++i) CHECK(rows.codes(0)[i] == 0);
  for (std::size_t i = 64; i < 96; ++i) CHECK(rows.codes(0)[i] == (i % 2 == 0 ? 127 : -127));
  CHECK(std::isnan(rows.steps(0)[3]));
  CHECK(!std::isfinite(rows.steps(0)[4]));
}

TEST_CASE("a row has the same bits alone and among others, however the work is divided") {
  test::Random random(3);
  test::Thinned lone(8), few(5);
  for (const DType type : block_types) {
    CAPTURE(rwkv::name_of(type));
    const Coded w(type, 150, 256, random);
    for (const Inputs inputs : {Inputs::rounded, Inputs::exact}) {
      const Rows x(21, w.view(inputs), random);
      const auto all = product<Chosen>(w.view(inputs), x.view(), x.count);
      for (std::size_t m = 0; m < x.count; ++m) {
        if (lone.leaves_out()) continue;
        const auto alone = product<Chosen>(w.view(inputs), x.row(m), 1);
        REQUIRE(test::same_bits({alone.data(), alone.size()}, {&all[m * w.rows], w.rows}));
      }
      for (std::size_t rows = 2; rows <= 13; ++rows) {
        if (few.leaves_out()) continue;
        const auto some = product<Chosen>(w.view(inputs), x.view(), rows);
        REQUIRE(test::same_bits({some.data(), some.size()}, {all.data(), some.size()}));
      }
      std::vector<float> pieces(all.size(), test::canary);
      for (std::size_t p = 0; p < w.panels(); ++p)
        kernels::multiply<Chosen>(w.view(inputs), {p, p + 1}, x.view(), x.count, pieces.data(),
                                  w.rows);
      CHECK(test::same_bits({pieces.data(), pieces.size()}, {all.data(), all.size()}));
    }
  }
}

TEST_CASE("a layout that no list of block types has is multiplied all the same") {
  using L = rwkv::simd::Native;
  test::Random random(6);
  const Coded w(DType::q4_0, 40, 256, random);
  const Rows x(3, w.view(Inputs::rounded), random);
  kernels::QuantisedLayout layout = kernels::layout_of(DType::q4_0);
  layout.zero = 7;
  const kernels::QuantisedMatrix m{layout, w.packed.data(), w.rows, w.cols};
  std::vector<float> all(3 * w.rows, test::canary), alone(w.rows, test::canary);
  const rwkv::Range panels{0, w.panels()};
  kernels::compiled::quantised_matmul<L>(m, Inputs::rounded, panels, x.view(), 3, all.data(),
                                         w.rows);
  for (std::size_t row = 0; row < 3; ++row) {
    kernels::compiled::quantised_matmul<L>(m, Inputs::rounded, panels, x.row(row), 1, alone.data(),
                                           w.rows);
    CHECK(test::same_bits({alone.data(), alone.size()}, {&all[row * w.rows], w.rows}));
  }
}

TEST_CASE("integers are the same in registers of every kind") {
  using L = rwkv::simd::Scalar;
  test::Random random(4);
  for (const DType type : block_types) {
    CAPTURE(rwkv::name_of(type));
    const Coded w(type, 40, 512, random);
    const Rows x(9, w.view(Inputs::rounded), random);
    const auto native = product<Chosen>(w.view(Inputs::rounded), x.view(), x.count);
    const auto plain = product<L>(w.view(Inputs::rounded), x.view(), x.count);
    const auto close = [&](const auto& got) {
      for (std::size_t i = 0; i < got.size(); ++i)
        if (!(std::abs(got[i] - plain[i]) <= 1e-5f * (1.0f + std::abs(plain[i])))) return false;
      return true;
    };
    CHECK(close(native));
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)  // few processors have AVX-VNNI too
    CHECK(close(product<rwkv::simd::AvxVnni>(w.view(Inputs::rounded), x.view(), x.count)));
#endif
  }
}

TEST_CASE("matrices that share an input share its quantised form") {
  test::Random random(5);
  const Coded a(DType::q4_k, 48, 256, random);
  const Coded b(DType::q8_0, 33, 256, random);
  const Coded c(DType::q5_1, 20, 64, random);
  const Inputs inputs = Inputs::rounded;
  const Rows x(7, a.view(inputs), random);
  const Rows z(7, c.view(inputs), random);
  const auto ya = product<Chosen>(a.view(inputs), x.view(), 7);
  const auto yb = product<Chosen>(b.view(inputs), x.view(), 7);
  const auto yc = product<Chosen>(c.view(inputs), z.view(), 7);
  std::vector<float> got[3] = {std::vector<float>(ya.size()), std::vector<float>(yb.size()),
                               std::vector<float>(yc.size())};
  std::vector<std::byte> scratch(7 * (kernels::QuantisedActivations::bytes_for(256) +
                                      kernels::QuantisedActivations::bytes_for(64)));
  for (const std::size_t workers : {1u, 3u}) {
    test::Backwards exec(workers);
    kernels::run<Chosen, rwkv::AnyMatrix>({{a.view(inputs), x.x.data(), x.ldx, got[0].data(), 48},
                                           {c.view(inputs), z.x.data(), z.ldx, got[2].data(), 20},
                                           {b.view(inputs), x.x.data(), x.ldx, got[1].data(), 33}},
                                          7, {scratch.data()}, exec);
    CHECK(got[0] == ya);
    CHECK(got[1] == yb);
    CHECK(got[2] == yc);
  }
}
