// SPDX-License-Identifier: Apache-2.0
// Chooses the kernels: what the translation unit is compiled for, or, in a program for any
// processor, what this processor turns out to have.
#pragma once

#include <rwkv/kernels/attention.hpp>
#include <rwkv/kernels/dispatched.hpp>
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/on_floats.hpp>
#include <rwkv/simd/level.ipp>
#include <rwkv/simd/native.hpp>

#if RWKV_DISPATCH
#include <rwkv/simd/neon_lanes.hpp>
#include <rwkv/simd/x86_lanes.hpp>

#if RWKV_HEADER_ONLY
#define RWKV_READ <rwkv/kernels/all_kernels.hpp>
#define RWKV_READ_BF16 <rwkv/kernels/matmul.hpp>
#else  // each is in a translation unit of its own (rwkv/compiled/)
#include <rwkv/simd/amx_tiles.hpp>
#define RWKV_READ <rwkv/kernels/entries.hpp>
#define RWKV_READ_BF16 <rwkv/kernels/entries.hpp>
#endif
#include <rwkv/kernels/read_per_isa.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

#if RWKV_DISPATCH && RWKV_TARGET_AMX && !RWKV_HEADER_ONLY
namespace amx_int8 {
template <class L, class Tiles>
bool multiply_in_tiles(const AnyMatrix& w, Range panels, const ProductInputs& x, std::size_t rows,
                       float* y, std::size_t ldy) noexcept;
}
#endif

template <>
RWKV_FUNCTION ActivationFormat activation_format<simd::Chosen>(const AnyMatrix& w) noexcept {
#if RWKV_DISPATCH && RWKV_TARGET_AVX2
  return activation_format_of(w, simd::level() >= simd::Level::avx512_bf16);
#else
  return activation_format<simd::Native>(w);
#endif
}

template <>
RWKV_FUNCTION void multiply<simd::Chosen>(const AnyMatrix& w, Range panels,
                                          const ProductInputs& inputs, std::size_t rows, float* y,
                                          std::size_t ldy) noexcept {
  ProductInputs x = inputs;
  if (rows == 1) x.ahead = simd::bytes_ahead();
#if RWKV_DISPATCH
  using simd::Level;
  const bool blocks = is_block(w.type);
  const Level level = simd::level();
#if RWKV_TARGET_AVX2
#if RWKV_TARGET_AMX && !RWKV_HEADER_ONLY
  if (blocks && level >= Level::amx_int8 &&
      amx_int8::multiply_in_tiles<simd::Avx512Vnni, simd::AmxTiles>(w, panels, x, rows, y, ldy))
    return;
#endif
  if (blocks && level >= Level::avx512_vnni)
    return avx512_vnni::multiply_blocks<simd::Avx512Vnni>(w, panels, x, rows, y, ldy);
#if !RWKV_HEADER_ONLY
  if (blocks && level == Level::avx_vnni)
    return avx_vnni::multiply_blocks<simd::AvxVnni>(w, panels, x, rows, y, ldy);
#endif
  if (blocks && level >= Level::avx2)
    return avx2::multiply_blocks<simd::Avx2>(w, panels, x, rows, y, ldy);
  if (x.quantised.data != nullptr && level >= Level::avx512_bf16)
    return avx512_bf16::matmul_of_pairs<simd::Avx512Bf16>(
        {static_cast<const bfloat16*>(w.data), w.rows, w.cols}, panels, x.quantised, rows, y, ldy);
  if (level >= Level::avx512)
    return avx512::multiply_floats<simd::Avx512>(w, panels, x, rows, y, ldy);
  if (level >= Level::avx2) return avx2::multiply_floats<simd::Avx2>(w, panels, x, rows, y, ldy);
#else
  if (blocks && level >= Level::i8mm)
    return i8mm::multiply_blocks<simd::NeonMatrix>(w, panels, x, rows, y, ldy);
  if (blocks && level >= Level::dotprod)
    return dotprod::multiply_blocks<simd::NeonDot>(w, panels, x, rows, y, ldy);
#endif
#endif
  multiply<simd::Native>(w, panels, x, rows, y, ldy);
}

template <>
RWKV_FUNCTION void quantise_row<simd::Chosen>(ActivationFormat how, const float* x,
                                              const QuantisedActivations& to,
                                              std::size_t m) noexcept {
#if RWKV_DISPATCH && RWKV_TARGET_AVX2
  if (simd::level() >= simd::Level::avx2) return avx2::quantise_row<simd::Avx2>(how, x, to, m);
#endif
  quantise_row<simd::Native>(how, x, to, m);
}

template <>
RWKV_FUNCTION void advance<simd::Chosen>(const WkvTokens& t, std::size_t n, float* state) noexcept {
  RWKV_ON_FLOATS(wkv, t, n, state);
}
template <>
RWKV_FUNCTION void head_operands<simd::Chosen>(const HeadParameters& p, std::size_t n,
                                               const HeadRow& h) noexcept {
  RWKV_ON_FLOATS(head_operands, p, n, h);
}
template <>
RWKV_FUNCTION void head_output<simd::Chosen>(const HeadParameters& p, std::size_t n, const float* r,
                                             const float* k, const float* v, const float* g,
                                             float* y) noexcept {
  RWKV_ON_FLOATS(head_output, p, n, r, k, v, g, y);
}
template <>
RWKV_FUNCTION void normalise<simd::Chosen>(const float* x, const float* weight, const float* bias,
                                           float epsilon, float* y, std::size_t n) noexcept {
  RWKV_ON_FLOATS(normalise, x, weight, bias, epsilon, y, n);
}
template <>
RWKV_FUNCTION void activate<simd::Chosen>(Activation f, float* y, Range range) noexcept {
  RWKV_ON_FLOATS(activate, f, y, range);
}
template <>
RWKV_FUNCTION void add<simd::Chosen>(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y,
                                     std::size_t n) noexcept {
  RWKV_ON_FLOATS(add, x, y, n);
}
template <>
RWKV_FUNCTION void add_unsigned_zeros<simd::Chosen>(const float* RWKV_RESTRICT x,
                                                    float* RWKV_RESTRICT y,
                                                    std::size_t n) noexcept {
  RWKV_ON_FLOATS(add_unsigned_zeros, x, y, n);
}
template <>
RWKV_FUNCTION void token_shift<simd::Chosen>(const float* x, const float* previous, const float* mu,
                                             float* RWKV_RESTRICT y, std::size_t n) noexcept {
  RWKV_ON_FLOATS(token_shift, x, previous, mu, y, n);
}
template <>
RWKV_FUNCTION void row_times<simd::Chosen>(const float* x, const float* m, float* RWKV_RESTRICT y,
                                           std::size_t n) noexcept {
  RWKV_ON_FLOATS(row_times, x, m, y, n);
}
template <>
RWKV_FUNCTION void gate<simd::Chosen>(const float* x, const float* bias, float* RWKV_RESTRICT y,
                                      std::size_t n) noexcept {
  RWKV_ON_FLOATS(gate, x, bias, y, n);
}

template <class T>
void key_scores(const HeadPage<T>& page, Range entries, const float* q, float* scores) noexcept {
  RWKV_ON_FLOATS(key_scores, page, entries, q, scores);
}
template <class T>
void attend(const HeadPage<T>& page, Range entries, const float* q,
            RunningSoftmax& softmax) noexcept {
  RWKV_ON_FLOATS(attend, page, entries, q, softmax);
}
#if !RWKV_HEADER_ONLY
template void key_scores(const HeadPage<float>&, Range, const float*, float*) noexcept;
template void key_scores(const HeadPage<half>&, Range, const float*, float*) noexcept;
template void key_scores(const HeadPage<std::int8_t>&, Range, const float*, float*) noexcept;
template void attend(const HeadPage<float>&, Range, const float*, RunningSoftmax&) noexcept;
template void attend(const HeadPage<half>&, Range, const float*, RunningSoftmax&) noexcept;
template void attend(const HeadPage<std::int8_t>&, Range, const float*, RunningSoftmax&) noexcept;
#endif

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
