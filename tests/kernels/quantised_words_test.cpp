// SPDX-License-Identifier: Apache-2.0
// Products in general registers have the bits of the plain loops. What SMLAD computes is tested on
// the emulated microcontroller (../bare_metal).
#include "support/numbers.hpp"
#include <rwkv/core/buffer.hpp>
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/quantised_formats.hpp>
#include <rwkv/kernels/quantised_words.hpp>
#include <rwkv/quant/quantise.hpp>

#include <doctest/doctest.h>

#include <vector>

namespace kernels = rwkv::kernels;
using rwkv::DType;

TEST_CASE("products of words have the bits of plain loops") {
  test::Random random(5);
  for (const DType type : rwkv::block_types) {
    CAPTURE(rwkv::name_of(type));
    for (const std::size_t outputs : {1u, 16u, 37u}) {
      const std::size_t cols = 512;
      const std::size_t rows = 3;
      std::vector<float> numbers(outputs * cols);
      test::fill(numbers, random);
      const auto blocks = rwkv::quant::quantise(numbers, outputs, cols, type);
      rwkv::Buffer<std::byte, rwkv::dynamic> packed(kernels::packed_bytes(type, outputs, cols));
      const rwkv::Range all{0, kernels::panels_for(outputs)};
      kernels::pack_quantised(type, blocks.data(), rwkv::bytes_of(type, cols), outputs, cols, all,
                              packed.data());

      std::vector<float> x(rows * cols);
      test::fill(x, random);
      const std::size_t stride = kernels::QuantisedActivations::bytes_for(cols);
      rwkv::Buffer<std::byte, rwkv::dynamic> memory(rows * stride);
      const kernels::QuantisedActivations inputs{memory.data(), stride, cols};
      for (std::size_t m = 0; m < rows; ++m)
        kernels::compiled::row_to_codes(x.data() + m * cols, inputs, m);

      std::vector<float> plain(rows * outputs, test::canary);
      kernels::multiply<rwkv::simd::Scalar>(rwkv::AnyMatrix{type, packed.data(), outputs, cols},
                                            all, {x.data(), cols, inputs}, rows, plain.data(),
                                            outputs);
      std::vector<float> words(rows * outputs, test::canary);
      const kernels::QuantisedLayout layout = kernels::layout_of(type);
      const bool done = kernels::quantised_words({layout, packed.data(), outputs, cols}, all,
                                                 inputs, rows, words.data(), outputs);
      CHECK(done == (layout.form == kernels::ScaleForm::halves && layout.bits != 5));
      if (done) CHECK(test::same_bits(words, plain));
    }
  }
}
