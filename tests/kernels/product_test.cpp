// SPDX-License-Identifier: Apache-2.0
// Several products in one parallel region: nothing is left out, done twice or changed by the number
// of workers.
#include "support/executors.hpp"
#include "support/packed.hpp"
#include "support/wide_lanes.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/product.hpp>
#include <rwkv/kernels/quantised_formats.hpp>
#include <rwkv/quant/quantise.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

namespace {

namespace kernels = rwkv::kernels;
using kernels::Activation;
using rwkv::simd::Chosen;
using test::Misaligned;
using test::Packed;

/// Three products of different sizes and activations, and one without outputs.
struct Work {
  static constexpr std::size_t gap = 3;
  std::size_t rows;
  Packed<float> first, second, third;
  Misaligned<float> x1, x2, x3;

  Work(std::size_t rows_, test::Random random)
      : rows(rows_),
        first(100, 60, random),
        second(33, 70, random),
        third(7, 200, random),
        x1(rows * 60),
        x2(rows * 70, 2),
        x3(rows * 200, 3) {
    test::fill(x1, random);
    test::fill(x2, random);
    test::fill(x3, random);
  }

  using Results = std::vector<Misaligned<float>>;
  [[nodiscard]] Results results() const {
    return {test::untouched(rows * (100 + gap)), test::untouched(rows * (33 + gap)),
            test::untouched(rows * (7 + gap))};
  }

  /// One after the other, without `run`.
  [[nodiscard]] Results expected() const {
    Results y = results();
    const auto one = [&](const Packed<float>& w, const Misaligned<float>& x,
                         Misaligned<float>& to) {
      kernels::multiply<Chosen>(w.view(), {0, w.panels()}, {x.data(), w.cols, {}}, rows, to.data(),
                                w.rows + gap);
    };
    one(first, x1, y[0]);
    one(second, x2, y[1]);
    one(third, x3, y[2]);
    for (std::size_t m = 0; m < rows; ++m) {
      kernels::activate<Chosen>(Activation::tanh, y[1].data() + m * (33 + gap), {0, 33});
      kernels::activate<Chosen>(Activation::relu_squared, y[2].data() + m * (7 + gap), {0, 7});
    }
    return y;
  }

  template <class Exec>
  [[nodiscard]] Results run(Exec& exec) const {
    using Matrix = kernels::PanelMatrix<float>;
    Results y = results();
    kernels::run<Chosen, Matrix>(
        {{first.view(), x1.data(), 60, y[0].data(), 100 + gap},
         {Matrix{}, x1.data(), 60, nullptr, 0, Activation::sigmoid},
         {second.view(), x2.data(), 70, y[1].data(), 33 + gap, Activation::tanh},
         {third.view(), x3.data(), 200, y[2].data(), 7 + gap, Activation::relu_squared}},
        rows, {}, exec);
    return y;
  }
};

bool same(const Work::Results& a, const Work::Results& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& p, const auto& q) {
    return test::same_bits({p.data(), p.size()}, {q.data(), q.size()});
  });
}

}  // namespace

TEST_CASE("products are the same for every number of workers, and nothing else is touched") {
  for (const std::size_t rows : {1u, 2u, 16u, 150u}) {
    CAPTURE(rows);
    const Work work(rows, test::Random(1));
    const auto expected = work.expected();
    rwkv::Serial serial;
    CHECK(same(work.run(serial), expected));
    for (std::size_t workers = 1; workers <= 40; ++workers) {
      CAPTURE(workers);
      test::Backwards exec(workers);
      CHECK(same(work.run(exec), expected));
      if (rows == 150)  // 7 panels of 60 inputs, 3 of 70, 1 of 200
        CHECK(exec.largest() == kernels::parts_for(830 * 16 * 150, workers));
    }
  }
}

TEST_CASE("products are the same on threads") {
  const Work work(64, test::Random(2));
  const auto expected = work.expected();
  for (const std::size_t threads : {2u, 3u, 5u}) {
    rwkv::ThreadPool pool({.threads = threads, .oversubscribe = true});
    for (int i = 0; i < 3; ++i) CHECK(same(work.run(pool), expected));
  }
}

TEST_CASE("products without rows and products without outputs do nothing") {
  const Work work(0, test::Random(3));
  test::Backwards exec(4);
  CHECK(same(work.run(exec), work.results()));
  using Matrix = kernels::PanelMatrix<float>;
  kernels::run<Chosen, Matrix>({{Matrix{}, nullptr, 0, nullptr, 0}}, 5, {}, exec);
}

TEST_CASE_TEMPLATE("a matrix of a type known at run time gives the bits of the typed one", T, float,
                   rwkv::half, rwkv::bfloat16) {
  test::Random random(4);
  const Packed<T> w(40, 30, random);
  Misaligned<float> x(2 * 30);
  test::fill(x, random);
  auto typed = test::untouched(80);
  auto any = typed;
  rwkv::Serial serial;
  kernels::run<Chosen, kernels::PanelMatrix<T>>({{w.view(), x.data(), 30, typed.data(), 40}}, 2, {},
                                                serial);
  kernels::run<Chosen, rwkv::AnyMatrix>(
      {{{rwkv::dtype_of<T>, w.data.data(), 40, 30}, x.data(), 30, any.data(), 40}}, 2, {}, serial);
  CHECK(test::same_bits({typed.data(), typed.size()}, {any.data(), any.size()}));
}

TEST_CASE("inputs are quantised as each matrix wants them") {
  using L = test::WideLanes<8>;
  test::Random random(6);
  constexpr std::size_t outputs = 40;
  constexpr std::size_t cols = 64;
  constexpr std::size_t rows = 3;
  const Packed<float> floats(outputs, cols, random);
  const Packed<rwkv::bfloat16> bfloats(outputs, cols, random);
  std::vector<float> numbers(outputs * cols);
  test::fill(numbers, random);
  const auto blocks = rwkv::quant::quantise(numbers, outputs, cols, rwkv::DType::q8_0);
  rwkv::Buffer<std::byte, rwkv::dynamic> coded(
      kernels::packed_bytes(rwkv::DType::q8_0, outputs, cols));
  kernels::pack_quantised(rwkv::DType::q8_0, blocks.data(), rwkv::bytes_of(rwkv::DType::q8_0, cols),
                          outputs, cols, {0, floats.panels()}, coded.data());
  const rwkv::AnyMatrix matrices[] = {
      {rwkv::DType::bf16, bfloats.data.data(), outputs, cols, kernels::Inputs::fastest},
      {rwkv::DType::q8_0, coded.data(), outputs, cols},
      {rwkv::DType::f32, floats.data.data(), outputs, cols},
      {rwkv::DType::bf16, bfloats.data.data(), outputs, cols, kernels::Inputs::exact},
      {rwkv::DType::q8_0, coded.data(), outputs, cols, kernels::Inputs::exact},
      {rwkv::DType::bf16, bfloats.data.data(), outputs, cols, kernels::Inputs::fastest}};
  Misaligned<float> x(rows * cols);
  test::fill(x, random);
  rwkv::Serial serial;
  rwkv::Buffer<std::byte, rwkv::dynamic> scratch(6 * rows *
                                                 kernels::QuantisedActivations::bytes_for(cols));
  std::vector<Misaligned<float>> together(6, test::untouched(rows * outputs));
  const auto product = [&](std::size_t i, Misaligned<float>& y) {
    return kernels::Product<rwkv::AnyMatrix>{matrices[i], x.data(), cols, y.data(), outputs};
  };
  kernels::run<L, rwkv::AnyMatrix>(
      {product(0, together[0]), product(1, together[1]), product(2, together[2]),
       product(3, together[3]), product(4, together[4]), product(5, together[5])},
      rows, {scratch.data()}, serial);
  for (std::size_t i = 0; i < 6; ++i) {
    CAPTURE(i);
    auto alone = test::untouched(rows * outputs);
    kernels::run<L, rwkv::AnyMatrix>({product(i, alone)}, rows, {scratch.data()}, serial);
    CHECK(test::same_bits({alone.data(), alone.size()}, {together[i].data(), alone.size()}));
  }
  CHECK(!test::same_bits({together[0].data(), outputs}, {together[3].data(), outputs}));
  CHECK(!test::same_bits({together[1].data(), outputs}, {together[4].data(), outputs}));
}

TEST_CASE("small work stays with the caller; no more workers than there are") {
  static_assert(kernels::parts_for(0, 8) == 1);
  static_assert(kernels::parts_for(1000, 8) == 1);
  static_assert(kernels::parts_for(std::uint64_t{1} << 20, 1) == 1);
  static_assert(kernels::parts_for(std::uint64_t{1} << 17, 8) == 3);
  static_assert(kernels::parts_for(std::uint64_t{1} << 19, 8) == 8);
  static_assert(kernels::parts_for(std::uint64_t{12} << 20, 8) == 12);
  static_assert(kernels::parts_for(std::uint64_t{1} << 40, 8) == 32);
}

TEST_CASE("shares of any work cover it, also where a product with the workers would overflow") {
  for (const std::uint64_t work : {std::uint64_t{0}, std::uint64_t{1000}, ~std::uint64_t{0}}) {
    CHECK(kernels::share_begin(work, 7, 0) == 0);
    for (std::uint64_t i = 0; i < 7; ++i) {
      const std::uint64_t size =
          kernels::share_begin(work, 7, i + 1) - kernels::share_begin(work, 7, i);
      CHECK(size - work / 7 <= 1);
    }
    CHECK(kernels::share_begin(work, 7, 7) == work);
  }
}

TEST_CASE("for_each calls every index once, with no more workers than indices") {
  for (const std::size_t n : {0u, 1u, 2u, 7u, 100u})
    for (const std::size_t cost : {std::size_t{1}, std::size_t{1} << 20})
      for (const std::size_t workers : {1u, 3u, 16u}) {
        test::Backwards exec(workers);
        std::vector<int> calls(n);
        kernels::for_each(n, cost, exec, [&](std::size_t i) { ++calls[i]; });
        CHECK(calls == std::vector<int>(n, 1));
        CHECK(exec.largest() <= std::min(n, 4 * workers));
        if (cost == 1) CHECK(exec.largest() <= 1);
      }
}
