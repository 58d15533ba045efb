// SPDX-License-Identifier: Apache-2.0
// Every instruction-set level that this machine has, chosen by name: the same bits as plain loops.
// No emulator is needed for what the machine has.
#include "support/executors.hpp"
#include "support/packed.hpp"
#include "support/sanitizers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/core/error.hpp>
#include <rwkv/kernels/all_kernels.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/product.hpp>
#include <rwkv/kernels/quantised_formats.hpp>
#include <rwkv/quant/quantise.hpp>
#include <rwkv/simd/gnu_lanes.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/simd/native.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <string>

namespace {

namespace kernels = rwkv::kernels;
namespace simd = rwkv::simd;
using rwkv::AnyMatrix;
using rwkv::DType;
using simd::Chosen;
using simd::Level;

/// Calls f(level, reference lanes) with every level in use, and puts the best one back.
template <class F>
void at_every_level(F&& f) {
  struct Back {
    ~Back() { simd::use_level(simd::best_level()); }
  } back;
  for (const Level level : simd::available_levels()) {
    simd::use_level(level);
    REQUIRE(simd::level() == level);
    CAPTURE(simd::name_of(level));
    if (level >= Level::avx2 && level <= Level::amx_int8)  // the same bits in any width
      f.template operator()<test::WideLanes<8, true>>();
    else
      f.template operator()<test::WideLanes<simd::Native::width>>();
#if RWKV_GNU_VECTORS  // fused, or not, as what the test is compiled for
    if (level == Level::compiled) f.template operator()<simd::GnuLanes>();
#endif
  }
}

/// Whether loops without vectors shall multiply this often. Sanitizers, for which they are not
/// optimised, look at the library's kernels.
constexpr bool affordable(std::size_t multiplications) {
  return !test::sanitized || multiplications <= 21'000;
}

bool same(const test::Misaligned<float>& a, const test::Misaligned<float>& b) {
  return test::same_bits({a.data(), a.size()}, {b.data(), b.size()});
}

}  // namespace

TEST_CASE("levels have names, and those that are not there are refused") {
  const auto available = simd::available_levels();
  const auto compiled = simd::compiled_levels();
  REQUIRE(available.size() >= 1);
  REQUIRE(available.size() <= compiled.size());
  CHECK(available[0] == Level::compiled);
  CHECK(available.back() == simd::best_level());
  CHECK(simd::level() == simd::best_level());
  for (const Level level : compiled) CHECK(simd::level_named(simd::name_of(level)) == level);
  CHECK_FALSE(simd::level_named("avx1024"));
  CHECK_FALSE(simd::level_named(""));
  for (const Level level : {Level::avx2, Level::avx_vnni, Level::avx512, Level::avx512_vnni,
                            Level::avx512_bf16, Level::amx_int8, Level::dotprod, Level::i8mm}) {
    if (std::find(available.begin(), available.end(), level) != available.end()) continue;
    try {
      simd::use_level(level);
      FAIL("used");
    } catch (const rwkv::Error& error) {
      CHECK(error.category() == rwkv::ErrorCategory::argument);
      CHECK(std::string(error.what()).find(simd::name_of(level)) != std::string::npos);
      CHECK(std::string(error.what()).find("there are: compiled") != std::string::npos);
    }
    CHECK(simd::level() == simd::best_level());
  }
}

TEST_CASE_TEMPLATE("products of floats, at every level", T, float, rwkv::half, rwkv::bfloat16) {
  test::Random random(1);
  for (const std::size_t outputs : {1u, 40u, 129u})
    for (const std::size_t cols : {1u, 33u, 300u}) {
      const test::Packed<T> packed(outputs, cols, random);
      const AnyMatrix w{rwkv::dtype_of<T>, packed.data.data(), outputs, cols};
      for (const std::size_t rows : {1u, 3u, 7u, 13u}) {
        test::Misaligned<float> x(rows * cols);
        test::fill(x, random);
        const kernels::ProductInputs inputs{x.data(), cols, {}};
        simd::use_bytes_ahead(outputs % 2 * 4096);  // changes no bits
        at_every_level([&]<class L>() {
          auto chosen = test::untouched(rows * outputs), plain = chosen;
          kernels::multiply<Chosen>(w, {0, packed.panels()}, inputs, rows, chosen.data(), outputs);
          if (!affordable(rows * outputs * cols)) return;
          kernels::compiled::multiply_floats<L>(w, {0, packed.panels()}, inputs, rows, plain.data(),
                                                outputs);
          CHECK(same(chosen, plain));
        });
      }
    }
}

TEST_CASE_TEMPLATE("inputs that are zero may be left out, at every level", T, float, rwkv::half,
                   rwkv::bfloat16) {
  test::Random random(7);
  test::Thinned combinations(61);
  for (const std::size_t outputs : {1u, 16u, 40u, 129u})
    for (const std::size_t cols : {1u, 33u, 300u, 2100u}) {
      const test::Packed<T> packed(outputs, cols, random);
      AnyMatrix w{rwkv::dtype_of<T>, packed.data.data(), outputs, cols};
      for (const std::size_t rows : {1u, 2u, 3u, 4u, 5u})
        for (const std::size_t apart : {std::size_t{1}, std::size_t{7}, cols, cols + 1}) {
          if (combinations.leaves_out()) continue;
          CAPTURE(rows);
          CAPTURE(apart);
          test::Misaligned<float> x(rows * cols);
          test::fill(x, random);
          for (std::size_t i = 0; i < x.size(); ++i)  // all, some, one in each row, none
            if (apart > 1 && (i / cols + i % cols) % apart != apart - 1) x[i] = 0.0f;
          const rwkv::Range panels{0, packed.panels()};
          std::vector<std::uint16_t> list;
          for (std::size_t i = 0; i < cols; ++i)
            for (std::size_t m = 0; m < rows; ++m)
              if (x[m * cols + i] != 0.0f) {
                list.push_back(static_cast<std::uint16_t>(i));
                break;
              }
          list.push_back(0);
          kernels::ProductInputs inputs{x.data(), cols};
          at_every_level([&]<class L>() {
            const auto with = [&](auto&& multiply) {
              auto y = test::untouched(rows * outputs);
              multiply(y.data());
              for (float& v : y) v += 0.0f;  // zeros without sign
              return y;
            };
            inputs.listed = {};
            const auto dense = with(
                [&](float* y) { kernels::multiply<Chosen>(w, panels, inputs, rows, y, outputs); });
            inputs.listed = {list.data(), list.size() - 1};
            CHECK(same(dense, with([&](float* y) {
                         kernels::multiply<Chosen>(w, panels, inputs, rows, y, outputs);
                       })));
            if (affordable(rows * outputs * cols))
              CHECK(same(dense, with([&](float* y) {
                           kernels::compiled::multiply_floats<L>(w, panels, inputs, rows, y,
                                                                 outputs);
                         })));
            // What is said of a matrix is what `run` needs to do the same, for all workers alike.
            inputs.listed = {};
            w.skips_zeros = true;
            std::vector<std::byte> room(rows * kernels::QuantisedActivations::bytes_for(cols));
            test::Backwards exec(3);
            CHECK(same(dense, with([&](float* y) {
                         kernels::run<Chosen, AnyMatrix>({{w, x.data(), cols, y, outputs}}, rows,
                                                         {room.data(), nullptr, 0}, exec);
                       })));
          });
        }
    }
}

TEST_CASE("products of blocks, at every level") {
  test::Random random(2);
  test::Thinned combinations(4);
  constexpr std::size_t outputs = 40, cols = 512;
  for (const DType type :
       {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k, DType::q3_k,
        DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl})
    for (const auto how : {kernels::Inputs::rounded, kernels::Inputs::exact}) {
      CAPTURE(rwkv::name_of(type));
      std::vector<float> numbers(outputs * cols);
      test::fill(numbers, random);
      const auto blocks = rwkv::quant::quantise(numbers, outputs, cols, type);
      rwkv::Buffer<std::byte, rwkv::dynamic> packed(kernels::packed_bytes(type, outputs, cols));
      const rwkv::Range panels{0, kernels::panels_for(outputs)};
      kernels::pack_quantised(type, blocks.data(), rwkv::bytes_of(type, cols), outputs, cols,
                              panels, packed.data());
      const AnyMatrix w{type, packed.data(), outputs, cols, how};
      for (const std::size_t rows : {1u, 9u, 21u}) {
        if (combinations.leaves_out()) continue;
        test::Misaligned<float> x(rows * cols);
        test::fill(x, random);
        simd::use_bytes_ahead(8192);
        at_every_level([&]<class L>() {
          const std::size_t stride = kernels::QuantisedActivations::bytes_for(cols);
          std::vector<std::byte> memory(2 * rows * stride);
          const kernels::QuantisedActivations a{memory.data(), stride, cols};
          const kernels::QuantisedActivations b{memory.data() + rows * stride, stride, cols};
          const auto format = kernels::activation_format<Chosen>(w);
          for (std::size_t m = 0; m < rows; ++m) {
            kernels::quantise_row<Chosen>(format, x.data() + m * cols, a, m);
            kernels::compiled::quantise_row<L>(format, x.data() + m * cols, b, m);
          }
          auto chosen = test::untouched(rows * outputs), plain = chosen;
          kernels::multiply<Chosen>(w, panels, {x.data(), cols, a}, rows, chosen.data(), outputs);
          if (!affordable(rows * outputs * cols)) return;
          kernels::compiled::multiply_blocks<L>(w, panels, {x.data(), cols, b}, rows, plain.data(),
                                                outputs);
          CHECK(same(chosen, plain));
        });
      }
    }
}

TEST_CASE("products of blocks that lie input by input, at every level") {
  test::Random random(8);
  constexpr std::size_t outputs = 128, cols = 4224;  // 132 tiles
  test::Thinned combinations(23);
  for (const DType type : {DType::q8_0, DType::iq4_nl}) {
    CAPTURE(rwkv::name_of(type));
    std::vector<float> numbers(outputs * cols);
    test::fill(numbers, random);
    const auto blocks = rwkv::quant::quantise(numbers, outputs, cols, type);
    const std::size_t bytes = kernels::packed_bytes(type, outputs, cols);
    rwkv::Buffer<std::byte, rwkv::dynamic> in_panels(bytes), by_input(bytes), back(bytes);
    const rwkv::Range panels{0, kernels::panels_for(outputs)};
    kernels::pack_quantised(type, blocks.data(), rwkv::bytes_of(type, cols), outputs, cols, panels,
                            in_panels.data());
    REQUIRE(kernels::ByInput::exists(type, outputs));
    constexpr std::size_t groups = outputs / kernels::ByInput::outputs;
    CHECK(kernels::pack_by_input(type, blocks.data(), rwkv::bytes_of(type, cols), cols, {0, groups},
                                 by_input.data()));
    for (std::size_t at = 0; at < bytes; at += bytes / groups)
      kernels::to_panels(by_input.data() + at, cols, {0, cols / 32}, back.data() + at);
    CHECK(std::equal(back.data(), back.data() + bytes, in_panels.data()));

    for (const auto how : {kernels::Inputs::rounded, kernels::Inputs::exact})
      for (const std::size_t rows : {1u, 2u, 3u, 4u, 5u, 10u, 33u})
        for (const std::size_t apart : {std::size_t{1}, std::size_t{15}, cols, cols * rows + 1}) {
          if (how == kernels::Inputs::exact && (apart != 15 || rows % 2 == 0)) continue;
          if (combinations.leaves_out()) continue;
          CAPTURE(rows);
          CAPTURE(apart);
          test::Misaligned<float> x(rows * cols);
          test::fill(x, random);
          for (std::size_t i = 0; i < x.size(); ++i)  // all, some, one in each row, none
            if (apart > 1 && (i / cols + i % cols) % apart != apart - 1) x[i] = 0.0f;
          if (rows == 3) x[2 * cols + 40] = std::numeric_limits<float>::quiet_NaN();
          if (rows == 2) x[cols + 700] = std::numeric_limits<float>::infinity();
          const AnyMatrix dense{type, in_panels.data(), outputs, cols, how};
          AnyMatrix sparse{type, by_input.data(), outputs, cols, how};
          sparse.by_input = true;
          at_every_level([&]<class L>() {
            const auto product = [&](const AnyMatrix& w) {
              auto y = test::untouched(rows * outputs);
              std::vector<std::byte> room(rows * kernels::QuantisedActivations::bytes_for(cols));
              test::Backwards exec(3);
              kernels::run<Chosen, AnyMatrix>({{w, x.data(), cols, y.data(), outputs}}, rows,
                                              {room.data(), nullptr, 0}, exec);
              for (float& v : y) v += 0.0f;  // zeros without sign
              return y;
            };
            const auto expected = product(dense);
            sparse.skips_zeros = false;
            CHECK(same(expected, product(sparse)));
            sparse.skips_zeros = true;
            CHECK(same(expected, product(sparse)));
          });
        }
    // Whatever is not finite is found.
    for (const std::size_t output : {std::size_t{0}, outputs - 1}) {
      auto spoilt = blocks;
      const std::size_t last = (output + 1) * rwkv::bytes_of(type, cols) - rwkv::block_bytes(type);
      spoilt[last + 1] = std::byte{0x7c};  // the scale
      CHECK_FALSE(kernels::pack_by_input(type, spoilt.data(), rwkv::bytes_of(type, cols), cols,
                                         {0, groups}, back.data()));
    }
  }
}

TEST_CASE("what surrounds products, at every level") {
  // Whole vectors of every width: what is left over is rounded as the compiler likes.
  for (const std::size_t n : {16u, 48u, 64u, 768u}) {
    CAPTURE(n);
    test::Random random(static_cast<std::uint32_t>(n));
    const auto numbers = [&] {
      test::Misaligned<float> x(n);
      test::fill(x, random, -4.0f, 4.0f);
      return x;
    };
    const auto x = numbers(), z = numbers(), mu = numbers(), weight = numbers(), bias = numbers();
    at_every_level([&]<class L>() {
      const auto both = [&](auto&& chosen, auto&& plain) {
        auto a = x, b = x;
        chosen(a.data());
        plain(b.data());
        return same(a, b);
      };
      using kernels::Activation;
      for (const auto f : {Activation::tanh, Activation::sigmoid, Activation::relu_squared})
        CHECK(both(
            [&](float* y) {
              kernels::activate<Chosen>(f, y, {0, n});
            },
            [&](float* y) {
              kernels::compiled::activate<L>(f, y, {0, n});
            }));
      CHECK(both([&](float* y) { kernels::add<Chosen>(z.data(), y, n); },
                 [&](float* y) { kernels::compiled::add<L>(z.data(), y, n); }));
      CHECK(
          both([&](float* y) { kernels::token_shift<Chosen>(x.data(), z.data(), mu.data(), y, n); },
               [&](float* y) {
                 kernels::compiled::token_shift<L>(x.data(), z.data(), mu.data(), y, n);
               }));
      CHECK(both([&](float* y) { kernels::gate<Chosen>(x.data(), z.data(), y, n); },
                 [&](float* y) { kernels::compiled::gate<L>(x.data(), z.data(), y, n); }));
      constexpr std::size_t side = 16;  // of a matrix in these numbers
      if (n >= side * side)
        CHECK(
            both([&](float* y) { kernels::row_times<Chosen>(mu.data(), z.data(), y, side); },
                 [&](float* y) { kernels::compiled::row_times<L>(mu.data(), z.data(), y, side); }));
      CHECK(both(
          [&](float* y) {
            kernels::normalise<Chosen>(x.data(), weight.data(), bias.data(), 1e-5f, y, n);
          },
          [&](float* y) {
            kernels::compiled::normalise<L>(x.data(), weight.data(), bias.data(), 1e-5f, y, n);
          }));
    });
  }
}

TEST_CASE("the recurrence, at every level") {
  for (const std::size_t n : {16u, 32u, 64u}) {
    CAPTURE(n);
    constexpr std::size_t count = 9;
    test::Random random(static_cast<std::uint32_t>(n));
    test::Misaligned<float> r(count * n), w(count * n), k(count * n), v(count * n), a(count * n),
        b(count * n), state(n * n);
    for (auto* x : {&r, &k, &v, &state}) test::fill(*x, random);
    test::fill(w, random, 0.5f, 1.0f);
    const float unit = 1.0f / std::sqrt(static_cast<float>(n));
    test::fill(a, random, -unit, unit);
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = -0.5f * a[i];
    at_every_level([&]<class L>() {
      const auto run = [&](auto&& step) {
        auto s = state;
        auto y = test::untouched(count * n);
        step(kernels::WkvTokens{r.data(), w.data(), k.data(), v.data(), a.data(), b.data(),
                                y.data(), n, count},
             n, s.data());
        return std::pair{s, y};
      };
      const auto chosen = run(kernels::advance<Chosen>), plain = run(kernels::compiled::wkv<L>);
      CHECK(same(chosen.first, plain.first));
      CHECK(same(chosen.second, plain.second));
    });
  }
}
