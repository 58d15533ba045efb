// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for quantised matrices on processors without vectors: four codes are a word, and
// products of bytes are summed in general registers, with SMLAD where ARM has it. The bits are those
// of every other kernel (kernels/quantised_matmul.hpp). Freestanding.
#pragma once

#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/quads.hpp>
#include <rwkv/quant/storage.hpp>

#if defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Whether these kernels are the faster ones: where registers are 32 bits wide.
inline constexpr bool words_are_faster = sizeof(void*) == 4;

namespace detail {

/// Bytes 0 and 2, and 1 and 3, of a word, each as 16 bits with sign.
struct FourInputs {
  std::int32_t even, odd;
};

#if defined(__ARM_FEATURE_SIMD32)
RWKV_INLINE FourInputs signed_bytes(std::uint32_t word) noexcept {
  FourInputs x;
  asm("sxtb16 %0, %1" : "=r"(x.even) : "r"(word));
  asm("sxtb16 %0, %1, ror #8" : "=r"(x.odd) : "r"(word));
  return x;
}
RWKV_INLINE std::int32_t dot(std::int32_t sum, FourInputs w, FourInputs x) noexcept {
  return __smlad(w.odd, x.odd, __smlad(w.even, x.even, sum));
}
#else
RWKV_INLINE FourInputs signed_bytes(std::uint32_t word) noexcept {
  const auto byte = [word](unsigned i) {
    return static_cast<std::uint32_t>(static_cast<std::int8_t>(word >> 8 * i));
  };
  return {static_cast<std::int32_t>((byte(0) & 0xffffu) | byte(2) << 16),
          static_cast<std::int32_t>((byte(1) & 0xffffu) | byte(3) << 16)};
}
RWKV_INLINE std::int32_t dot(std::int32_t sum, FourInputs w, FourInputs x) noexcept {
  const auto low = [](std::int32_t two) { return std::int32_t{static_cast<std::int16_t>(two)}; };
  return sum + low(w.even) * low(x.even) + (w.even >> 16) * (x.even >> 16) +
         low(w.odd) * low(x.odd) + (w.odd >> 16) * (x.odd >> 16);
}
#endif

/// Adds the products of a tile for 4 outputs, the first of which is `o`.
template <unsigned Bits>
RWKV_INLINE void add_words(const std::byte* codes, std::size_t o, const FourInputs (&x)[8],
                           std::int32_t (&sum)[4]) noexcept {
  if constexpr (Bits == 8) {
    RWKV_UNROLL
    for (std::size_t q = 0; q < 8; ++q) {
      RWKV_UNROLL
      for (std::size_t k = 0; k < 4; ++k)
        sum[k] = dot(sum[k], signed_bytes(word_at(codes, q * panel_rows + o + k)), x[q]);
    }
  } else {
    static_assert(Bits == 4);
    constexpr std::uint32_t mask = 0x000f000f;
    RWKV_UNROLL
    for (std::size_t q = 0; q < 4; ++q) {
      RWKV_UNROLL
      for (std::size_t k = 0; k < 4; ++k) {
        const std::uint32_t word = word_at(codes, q * panel_rows + o + k);
        const auto part = [&](unsigned by) { return static_cast<std::int32_t>(word >> by & mask); };
        sum[k] = dot(sum[k], {part(0), part(8)}, x[q]);
        sum[k] = dot(sum[k], {part(4), part(12)}, x[q + 4]);
      }
    }
  }
}

template <unsigned Bits>
RWKV_INNER_LOOP void quantised_words(const QuantisedMatrix& w, Range panels,
                                     const QuantisedActivations& x, std::size_t rows, float* y,
                                     std::size_t ldy) noexcept {
  using L = simd::Scalar;
  QuantisedLayout layout = w.layout;
  layout.bits = Bits;
  layout.form = ScaleForm::halves;
  if constexpr (Bits == 8) layout.min = false;
  RWKV_ASSERT(layout == w.layout);
  for (std::size_t p = panels.begin; p < panels.end; ++p) {
    const std::size_t first = p * panel_rows;
    const std::size_t outputs = w.rows - first < panel_rows ? w.rows - first : panel_rows;
    for (std::size_t m = 0; m < rows; ++m) {
      L sums[panel_rows] = {};
      const std::byte* tile = w.data + p * layout.bytes_per_panel(w.cols);
      for (std::size_t t = 0; t < w.cols / tile_cols; ++t, tile += layout.tile_bytes()) {
        FourInputs inputs[8];
        const auto* const from = reinterpret_cast<const std::byte*>(x.codes(m)) + t * tile_cols;
        RWKV_UNROLL
        for (std::size_t q = 0; q < 8; ++q) inputs[q] = signed_bytes(word_at(from, q));
        const L step = L::broadcast(x.steps(m)[t]);
        for (std::size_t o = 0; o < panel_rows; o += 4) {
          std::int32_t products[4] = {};
          add_words<Bits>(tile + layout.code_offset(), o, inputs, products);
          RWKV_UNROLL
          for (std::size_t k = 0; k < 4; ++k) {
            const compiled::detail::TileScales<L, 2> scales(layout, 1, tile, tile, o + k);
            const L sum =
                fma(L{static_cast<float>(products[k])}, scales.scale[0] * step, sums[o + k]);
            sums[o + k] = scales.subtract_offset(sum, layout, 1, x.negative_sums(m) + 2 * t);
          }
        }
      }
      for (std::size_t o = 0; o < outputs; ++o) y[m * ldy + first + o] = sums[o].v;
    }
  }
}

}  // namespace detail

/// y[m][o] = sum_i W[o][i] x[m][i] as quantised_matmul computes it, for layouts of 4 or 8 bits with
/// halves as scales; false for others, where nothing is done.
inline bool quantised_words(const QuantisedMatrix& w, Range panels, const QuantisedActivations& x,
                            std::size_t rows, float* y, std::size_t ldy) noexcept {
  if (w.layout.form != ScaleForm::halves) return false;
  if (w.layout.bits == 8)
    detail::quantised_words<8>(w, panels, x, rows, y, ldy);
  else if (w.layout.bits == 4)
    detail::quantised_words<4>(w, panels, x, rows, y, ldy);
  else
    return false;
  return true;
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
