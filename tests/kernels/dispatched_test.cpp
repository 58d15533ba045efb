// SPDX-License-Identifier: Apache-2.0
// Kernels for the instruction set that the processor turns out to have: the right one is chosen, it
// computes the same as the one the program was compiled for, and it keeps its promises about bits.
// This test means most in a program for any processor (CMakeLists.txt builds one), on different
// processors.
#include "support/packed.hpp"
#include "support/sanitizers.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/kernels/all_kernels.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/simd/target.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

namespace kernels = rwkv::kernels;
using rwkv::AnyMatrix;
using rwkv::simd::Chosen;
using rwkv::simd::Native;

#if RWKV_DISPATCH && defined(__linux__)
/// Whether the operating system lends tile registers, which older ones and sandboxes do not.
bool lends_tiles() {
#if defined(__x86_64__)
  constexpr long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

/// The level that the processor has according to the operating system, or to whoever runs the test
/// on an emulated one.
std::string expected_level() {
  if (const char* told = std::getenv("RWKV_TEST_LEVEL")) return told;
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  const std::string list = RWKV_TARGET_DOTPROD ? "Features" : "flags";
  while (std::getline(file, line) && !line.starts_with(list)) continue;
  const auto has = [&](const std::string& flag) {
    std::istringstream words(line);
    std::string word;
    while (words >> word)
      if (word == flag) return true;
    return false;
  };
  if (RWKV_TARGET_DOTPROD) return !has("asimddp") ? "compiled" : has("i8mm") ? "i8mm" : "dotprod";
  if (!has("avx2") || !has("fma")) return "compiled";
  if (!has("avx512f") || !has("avx512bw") || !has("avx512dq") || !has("avx512vl"))
    return has("avx_vnni") ? "avx_vnni" : "avx2";
  if (!has("avx512_vnni")) return "avx512";
  if (!has("avx512_bf16")) return "avx512_vnni";
  return !RWKV_HEADER_ONLY && has("amx_tile") && has("amx_int8") && lends_tiles() ? "amx_int8"
                                                                                  : "avx512_bf16";
}
#endif

/// Two sums in different orders, for every output of one row x.
template <class T>
void agree(const test::Packed<T>& w, const float* x, const float* a, const float* b) {
  for (std::size_t o = 0; o < w.rows; ++o) {
    double size = 0;
    for (std::size_t i = 0; i < w.cols; ++i)
      size += std::abs(w.w[o * w.cols + i] * static_cast<double>(x[i]));
    const double error = std::abs(static_cast<double>(a[o]) - static_cast<double>(b[o]));
    REQUIRE(error <= static_cast<double>(w.cols + 1) * 0x1p-23 * size);
  }
}

}  // namespace

#if RWKV_DISPATCH && defined(__linux__)
TEST_CASE("the level is the processor's") {
  CHECK(rwkv::simd::name_of(rwkv::simd::level()) == expected_level());
}
#endif

#if !RWKV_DISPATCH
TEST_CASE("a program for a certain processor does not choose") {
  CHECK(rwkv::simd::level() == rwkv::simd::Level::compiled);
}
#endif

TEST_CASE_TEMPLATE("products do not depend on the level, nor on their neighbours", T, float,
                   rwkv::half, rwkv::bfloat16) {
  test::Random random(1);
  constexpr std::size_t rows = 19;
  test::Thinned combinations(5);
  for (const std::size_t outputs : {1u, 16u, 40u, 129u})
    for (const std::size_t cols : {1u, 33u, 2500u}) {
      if (combinations.leaves_out()) continue;
      CAPTURE(outputs);
      CAPTURE(cols);
      const test::Packed<T> packed(outputs, cols, random);
      const AnyMatrix w{rwkv::dtype_of<T>, packed.data.data(), outputs, cols};
      test::Misaligned<float> x(rows * cols);
      test::fill(x, random);
      const auto product = [&](std::size_t first, std::size_t count, auto&& multiply) {
        auto y = test::untouched(count * outputs);
        multiply(w, rwkv::Range{0, packed.panels()},
                 kernels::ProductInputs{x.data() + first * cols, cols, {}}, count, y.data(),
                 outputs);
        return y;
      };
      const auto chosen = product(0, rows, kernels::multiply<Chosen>);
      const auto compiled = product(0, rows, kernels::compiled::multiply_floats<Native>);
      for (std::size_t m = 0; m < rows; ++m) {
        const auto alone = product(m, 1, kernels::multiply<Chosen>);
        REQUIRE(test::same_bits({alone.data(), outputs}, {chosen.data() + m * outputs, outputs}));
        agree(packed, x.data() + m * cols, chosen.data() + m * outputs,
              compiled.data() + m * outputs);
      }
    }
}

TEST_CASE("a processor that multiplies bfloat16 computes what plain loops do") {
  test::Random random(2);
  constexpr std::size_t rows = 19;
  test::Thinned combinations(4);
  for (const std::size_t outputs : {1u, 16u, 129u})
    for (const std::size_t cols : {2u, 34u, 2500u}) {
      if (combinations.leaves_out()) continue;
      CAPTURE(outputs);
      CAPTURE(cols);
      const test::Packed<rwkv::bfloat16> packed(outputs, cols, random);
      const AnyMatrix w{rwkv::DType::bf16, packed.data.data(), outputs, cols,
                        kernels::Inputs::fastest};
      const auto how = kernels::activation_format<Chosen>(w);
      if (how == kernels::ActivationFormat::none) return;  // this one does not
      const std::size_t stride = kernels::QuantisedActivations::bytes_for(cols);
      std::vector<std::byte> memory(rows * stride);
      const kernels::QuantisedActivations quantised{memory.data(), stride, cols};
      test::Misaligned<float> x(rows * cols);
      test::fill(x, random);
      for (std::size_t m = 0; m < rows; ++m)
        kernels::quantise_row<Chosen>(how, x.data() + m * cols, quantised, m);
      const rwkv::Range all{0, packed.panels()};
      auto chosen = test::untouched(rows * outputs);
      kernels::multiply<Chosen>(w, all, {x.data(), cols, quantised}, rows, chosen.data(), outputs);
      auto plain = test::untouched(rows * outputs);
      kernels::compiled::matmul_of_pairs<test::WideLanes<16>>(packed.view(), all, quantised, rows,
                                                              plain.data(), outputs);
      for (std::size_t m = 0; m < rows; ++m) {
        auto alone = test::untouched(outputs);
        const kernels::QuantisedActivations one{memory.data() + m * stride, stride, cols};
        kernels::multiply<Chosen>(w, all, {x.data() + m * cols, cols, one}, 1, alone.data(),
                                  outputs);
        REQUIRE(test::same_bits({alone.data(), outputs}, {chosen.data() + m * outputs, outputs}));
        agree(packed, x.data() + m * cols, chosen.data() + m * outputs, plain.data() + m * outputs);
      }
    }
}

TEST_CASE("the recurrence does not depend on the level, nor on how the tokens are cut") {
  for (const std::size_t n : {1u, 8u, 12u, 16u, 40u, 64u}) {
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
    const auto run = [&](auto&& step, const std::vector<std::size_t>& pieces) {
      test::Misaligned<float> s = state;
      auto y = test::untouched(count * n);
      std::size_t at = 0;
      for (const std::size_t piece : pieces) {
        const std::size_t i = at * n;
        step(kernels::WkvTokens{r.data() + i, w.data() + i, k.data() + i, v.data() + i,
                                a.data() + i, b.data() + i, y.data() + i, n, piece},
             n, s.data());
        at += piece;
      }
      std::vector<float> all(y.begin(), y.end());
      all.insert(all.end(), s.begin(), s.end());
      return all;
    };
    const auto whole = run(kernels::advance<Chosen>, {count});
    CHECK(test::same_bits(run(kernels::advance<Chosen>, {4, 1, 4}), whole));
    const auto compiled = run(kernels::compiled::wkv<Native>, {count});
    for (std::size_t i = 0; i < whole.size(); ++i)
      CHECK(whole[i] == doctest::Approx(compiled[i]).epsilon(1e-4).scale(1.0));
  }
}

TEST_CASE("what surrounds products and recurrence does not depend on the level") {
  const auto close = [](const test::Misaligned<float>& a, const test::Misaligned<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      REQUIRE(a[i] == doctest::Approx(b[i]).epsilon(2e-6).scale(1.0));
  };
  for (const std::size_t n : {1u, 8u, 16u, 40u, 64u, 769u}) {
    CAPTURE(n);
    test::Random random(static_cast<std::uint32_t>(n));
    const auto numbers = [&] {
      test::Misaligned<float> x(n);
      test::fill(x, random, -4.0f, 4.0f);
      return x;
    };
    const auto x = numbers(), z = numbers(), mu = numbers(), weight = numbers(), bias = numbers();
    const auto both = [&](const test::Misaligned<float>& start, auto&& chosen, auto&& compiled) {
      auto a = start, b = start;
      chosen(a.data());
      compiled(b.data());
      close(a, b);
    };
    using kernels::Activation;
    for (const auto f : {Activation::tanh, Activation::sigmoid, Activation::relu_squared})
      both(
          x,
          [&](float* y) {
            kernels::activate<Chosen>(f, y, {0, n});
          },
          [&](float* y) {
            kernels::compiled::activate<Native>(f, y, {0, n});
          });
    both(
        x, [&](float* y) { kernels::add<Chosen>(z.data(), y, n); },
        [&](float* y) { kernels::compiled::add<Native>(z.data(), y, n); });
    both(
        x, [&](float* y) { kernels::token_shift<Chosen>(x.data(), z.data(), mu.data(), y, n); },
        [&](float* y) {
          kernels::compiled::token_shift<Native>(x.data(), z.data(), mu.data(), y, n);
        });
    both(
        x,
        [&](float* y) {
          kernels::normalise<Chosen>(x.data(), weight.data(), bias.data(), 1e-5f, y, n);
        },
        [&](float* y) {
          kernels::compiled::normalise<Native>(x.data(), weight.data(), bias.data(), 1e-5f, y, n);
        });

    const auto w0 = numbers(), a0 = numbers(), v0 = numbers(), k_k = numbers(), k_a = numbers(),
               r_k = numbers(), r = numbers(), g = numbers();
    for (const bool extended : {false, true})
      for (const bool first : {false, true}) {
        const kernels::HeadParameters p{.w0 = w0.data(),
                                        .a0 = a0.data(),
                                        .v0 = first ? nullptr : v0.data(),
                                        .k_k = k_k.data(),
                                        .k_a = k_a.data(),
                                        .r_k = r_k.data(),
                                        .ln_x_weight = weight.data(),
                                        .ln_x_bias = bias.data(),
                                        .ln_x_epsilon = rwkv::kernels::group_norm_epsilon,
                                        .extended = extended};
        struct Arrays {
          test::Misaligned<float> k, v, v_first, w, a, v_mix, minus_kk, b;
        };
        Arrays chosen{x, z, mu, numbers(), numbers(), numbers(), numbers(), numbers()};
        Arrays compiled = chosen;
        const auto row = [](Arrays& of) {
          return kernels::HeadRow{.k = of.k.data(),
                                  .v = of.v.data(),
                                  .v_first = of.v_first.data(),
                                  .w = of.w.data(),
                                  .a = of.a.data(),
                                  .v_mix = of.v_mix.data(),
                                  .minus_kk = of.minus_kk.data(),
                                  .b = of.b.data()};
        };
        kernels::head_operands<Chosen>(p, n, row(chosen));
        kernels::compiled::head_operands<Native>(p, n, row(compiled));
        for (const auto array : {&Arrays::k, &Arrays::v, &Arrays::v_first, &Arrays::w, &Arrays::a,
                                 &Arrays::v_mix, &Arrays::minus_kk, &Arrays::b})
          close(chosen.*array, compiled.*array);
        both(
            x,
            [&](float* y) {
              kernels::head_output<Chosen>(p, n, r.data(), chosen.k.data(), z.data(), g.data(), y);
            },
            [&](float* y) {
              kernels::compiled::head_output<Native>(p, n, r.data(), chosen.k.data(), z.data(),
                                                     g.data(), y);
            });
      }
  }
}
