// SPDX-License-Identifier: Apache-2.0
// The kernels that a program spends its time in, for the best instruction set that the processor
// has. Freestanding.
#pragma once

#include <rwkv/kernels/every_level.hpp>
#include <rwkv/simd/level.hpp>

#if RWKV_DISPATCH
#include <rwkv/simd/neon_lanes.hpp>
#include <rwkv/simd/x86_lanes.hpp>

#define RWKV_READ <rwkv/kernels/every_level.hpp>
#define RWKV_READ_BF16 <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/each_level.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels {

/// How products with `w` want their inputs prepared.
template <class L>
[[nodiscard]] Preparation preparation(const AnyMatrix& w) noexcept {
  if (is_block(w.type)) return w.inputs == Inputs::exact ? Preparation::sums : Preparation::codes;
  if (w.type != DType::bf16 || w.inputs != Inputs::fastest || w.cols % 2 != 0)
    return Preparation::none;
  bool pairs = simd::HasPairs<L>;
#if RWKV_DISPATCH && RWKV_TARGET_AVX2
  if constexpr (simd::replaceable<L>) pairs = simd::level() >= simd::Level::avx512_bf16;
#endif
  return pairs ? Preparation::bfloats16 : Preparation::none;
}

/// y = W x for panels of a matrix of any type, whose inputs are prepared as it wants (or, if it is
/// of floats, are not prepared).
template <class L>
void multiply(const AnyMatrix& w, Range panels, const ProductInputs& x, std::size_t rows, float* y,
              std::size_t ldy) noexcept {
  const bool blocks = is_block(w.type);
#if RWKV_DISPATCH
  using simd::Level;
  if constexpr (simd::replaceable<L>) {
    const Level level = simd::level();
#if RWKV_TARGET_AVX2
    if (blocks && level >= Level::avx512_vnni)
      return avx512_vnni::multiply_blocks<simd::Avx512Vnni>(w, panels, x, rows, y, ldy);
    if (blocks && level >= Level::avx2)
      return avx2::multiply_blocks<simd::Avx2>(w, panels, x, rows, y, ldy);
    if (x.prepared.data != nullptr && level >= Level::avx512_bf16)
      return avx512_bf16::matmul_of_pairs<simd::Avx512Bf16>(
          {static_cast<const bfloat16*>(w.data), w.rows, w.cols}, panels, x.prepared, rows, y, ldy);
    if (level >= Level::avx512)
      return avx512::multiply_floats<simd::Avx512>(w, panels, x, rows, y, ldy);
    if (level >= Level::avx2) return avx2::multiply_floats<simd::Avx2>(w, panels, x, rows, y, ldy);
#else
    if (blocks && level >= Level::i8mm)
      return i8mm::multiply_blocks<simd::NeonMatrix>(w, panels, x, rows, y, ldy);
    if (blocks && level >= Level::dotprod)
      return dotprod::multiply_blocks<simd::NeonDot>(w, panels, x, rows, y, ldy);
#endif
  }
#endif
  return blocks ? compiled::multiply_blocks<L>(w, panels, x, rows, y, ldy)
                : compiled::multiply_floats<L>(w, panels, x, rows, y, ldy);
}

/// Prepares row m of a product's inputs.
template <class L>
void prepare(Preparation how, const float* x, const PreparedRows& to, std::size_t m) noexcept {
#if RWKV_DISPATCH && RWKV_TARGET_AVX2
  if constexpr (simd::replaceable<L>) {
    if (simd::level() >= simd::Level::avx2) return avx2::prepare_row(how, x, to, m);
  }
#endif
  compiled::prepare_row(how, x, to, m);
}

// A kernel on floats. (Those of ARM processors have the same registers at every level.)
#if RWKV_DISPATCH && RWKV_TARGET_AVX2
#define RWKV_ON_FLOATS(kernel, ...)                                                       \
  do {                                                                                    \
    if constexpr (simd::replaceable<L>) {                                                 \
      const simd::Level level = simd::level();                                            \
      if (level >= simd::Level::avx512) return avx512::kernel<simd::Avx512>(__VA_ARGS__); \
      if (level == simd::Level::avx2) return avx2::kernel<simd::Avx2>(__VA_ARGS__);       \
    }                                                                                     \
    return compiled::kernel<L>(__VA_ARGS__);                                              \
  } while (false)
#else
#define RWKV_ON_FLOATS(kernel, ...) return compiled::kernel<L>(__VA_ARGS__)
#endif

/// Advances one head's state over some tokens (kernels/wkv.hpp).
template <class L>
void advance(const WkvTokens& t, std::size_t n, float* state) noexcept {
  RWKV_ON_FLOATS(wkv, t, n, state);
}

// kernels/head_row.hpp
template <class L>
void head_operands(const HeadParameters& p, std::size_t n, const HeadRow& h) noexcept {
  RWKV_ON_FLOATS(head_operands, p, n, h);
}
template <class L>
void head_output(const HeadParameters& p, std::size_t n, const float* r, const float* k,
                 const float* v, const float* g, float* y) noexcept {
  RWKV_ON_FLOATS(head_output, p, n, r, k, v, g, y);
}

// kernels/norm.hpp
template <class L>
void normalise(const float* x, const float* weight, const float* bias, float epsilon, float* y,
               std::size_t n) noexcept {
  RWKV_ON_FLOATS(normalise, x, weight, bias, epsilon, y, n);
}

// kernels/elementwise.hpp
template <class L>
void activate(Activation f, float* y, Range range) noexcept {
  RWKV_ON_FLOATS(activate, f, y, range);
}
template <class L>
void add(const float* RWKV_RESTRICT x, float* RWKV_RESTRICT y, std::size_t n) noexcept {
  RWKV_ON_FLOATS(add, x, y, n);
}
template <class L>
void token_shift(const float* x, const float* previous, const float* mu, float* RWKV_RESTRICT y,
                 std::size_t n) noexcept {
  RWKV_ON_FLOATS(token_shift, x, previous, mu, y, n);
}

#undef RWKV_ON_FLOATS

}  // namespace rwkv::inline RWKV_ABI::kernels
