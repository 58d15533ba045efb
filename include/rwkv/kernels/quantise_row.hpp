// SPDX-License-Identifier: Apache-2.0
// Makes quantised activations (kernels/quantised_activations.hpp). Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_QUANTISE_ROW) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_QUANTISE_ROW

#ifndef RWKV_AGAIN
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/kernels/quantised_activations.hpp>
#include <rwkv/simd/scalar.hpp>

#include <bit>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

/// a b + c, rounded once where this instruction set can. (Left to themselves, compilers fuse it or
/// not as they optimise.)
RWKV_INLINE float times_plus(float a, float b, float c) noexcept {
#if defined(RWKV_AGAIN) || RWKV_FUSES  // all that is read again has the instruction
  return simd::fused_multiply_add(a, b, c);
#else
  return a * b + c;
#endif
}

/// Quantises row m: the largest of 32 inputs becomes 127 or -127. NaNs and infinities make every
/// product with their 32 inputs a NaN.
RWKV_INNER_LOOP inline void row_to_codes(const float* x, const QuantisedActivations& to,
                                         std::size_t m) noexcept {
#if RWKV_CORTEX_M_VECTOR
  const cortex_m::RowArguments arguments{
      x, to.codes(m), to.steps(m), to.negative_sums(m), to.offsets(m), to.cols / tile_cols};
  return cortex_m::row_to_codes(&arguments);
#endif
  std::int8_t* codes = to.codes(m);
  float* steps = to.steps(m);
  float* sums = to.negative_sums(m);
  std::int32_t* offsets = to.offsets(m);
  for (std::size_t tile = 0; tile < to.cols / tile_cols; ++tile, x += tile_cols) {
    std::uint32_t largest = 0;  // floats without sign are ordered as integers
    for (std::size_t i = 0; i < tile_cols; ++i) {
      const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    const float step = std::bit_cast<float>(largest) * (1.0f / 127.0f);
    // Below the smallest normal step nothing is left of the inputs, and 1 / step might overflow.
    const float by = step > 0x1p-120f ? 1.0f / step : 0.0f;
    constexpr float shift = 0x1.8p23f;  // leaves the nearest integer in the low bits
    std::uint32_t integers[tile_cols];
    for (std::size_t i = 0; i < tile_cols; ++i)
      integers[i] = std::bit_cast<std::uint32_t>(times_plus(x[i], by, shift)) -
                    std::bit_cast<std::uint32_t>(shift);
    for (std::size_t i = 0; i < tile_cols; ++i)
      codes[tile * tile_cols + i] = static_cast<std::int8_t>(integers[i]);
    // The sums of both halves, of 12 bits each, in one: compilers make vectors of a sum of 32.
    for (std::size_t i = tile_cols / 2; i < tile_cols; ++i) integers[i] <<= 16;
    std::uint32_t both = 0;
    for (std::size_t i = 0; i < tile_cols; ++i) both += integers[i];
    const std::int32_t first = static_cast<std::int16_t>(both);
    const std::int32_t sum[2] = {
        first, static_cast<std::int16_t>((both - static_cast<std::uint32_t>(first)) >> 16)};
    steps[tile] = step;
    offsets[tile] = -128 * (sum[0] + sum[1]);
    sums[2 * tile] = -step * static_cast<float>(sum[0]);
    sums[2 * tile + 1] = -step * static_cast<float>(sum[1]);
  }
}

/// Only the sums of row m's inputs.
inline void row_to_sums(const float* x, const QuantisedActivations& to, std::size_t m) noexcept {
  float* sums = to.negative_sums(m);
  for (std::size_t part = 0; part < to.cols / 16; ++part, x += 16) {
    float sum = 0;
    for (std::size_t i = 0; i < 16; ++i) sum += x[i];
    sums[part] = -sum;
  }
}

/// Rounds row m to bfloat16.
inline void row_to_bfloat16(const float* x, const QuantisedActivations& to,
                            std::size_t m) noexcept {
  bfloat16* const rounded = to.bfloats16(m);
  for (std::size_t i = 0; i < to.cols; ++i) rounded[i] = to_bfloat16(x[i]);
}

/// Quantises row m in this format.
template <class L>
void quantise_row(ActivationFormat how, const float* x, const QuantisedActivations& to,
                  std::size_t m) noexcept {
#if RWKV_CORTEX_M && defined(RWKV_ONLY_QUADS)
  if (how == ActivationFormat::wide) cortex_m::wide_tiles(x, to.wide(m), to.cols / tile_cols);
  return;
#endif
  switch (how) {
    case ActivationFormat::codes:
      return row_to_codes(x, to, m);
    case ActivationFormat::sums:
      return row_to_sums(x, to, m);
    case ActivationFormat::bfloats16:
      return row_to_bfloat16(x, to, m);
    case ActivationFormat::wide:
#if RWKV_CORTEX_M
      cortex_m::wide_tiles(x, to.wide(m), to.cols / tile_cols);
#endif
      break;
    case ActivationFormat::none:
      break;
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
