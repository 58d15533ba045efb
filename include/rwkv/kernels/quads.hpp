// SPDX-License-Identifier: Apache-2.0
// Matrices of 8-bit codes (layouts of 8 bits with halves as scales) in an order for processors
// without vectors: four outputs at a time, one stream of memory, and codes in the form that SMLAD is
// fastest with. A blob may be written in it (static_blob.hpp). The bits of products are those of
// every other kernel in a program that is compiled with a fused multiply-add, or for a processor
// without one; a portable program on a newer processor fuses in panels alone. Freestanding.
//
// RWKV_ONLY_QUADS leaves the kernels out that multiply blocks in panels, for programs whose blocks are
// q8_0 and whose blob was written in quads; others are then refused.
//
// Four outputs make a quad, whose tiles of 32 inputs follow each other: 4 scales, then, for each
// four inputs, 4 words, the codes of one output each; even codes are stored as if 128 were added.
//
// Of matrices of floats those with up to 12 outputs are in quads: column after column, of which each
// has so many outputs, rounded up to a multiple of four, instead of the 16 of a panel.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/cortex_m.hpp>
#include <rwkv/kernels/quantised_activations.hpp>
#include <rwkv/simd/scalar.hpp>

#include <cstring>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Whether matrices of this layout can be in quads.
[[nodiscard]] constexpr bool has_quads(const QuantisedLayout& layout) noexcept {
  return layout.bits == 8 && layout.form == ScaleForm::halves && !layout.min;
}

[[nodiscard]] constexpr bool has_quads(DType type) noexcept {
  return is_block(type) && has_quads(layout_of(type));
}

/// Outputs in a column of floats in quads.
[[nodiscard]] constexpr std::size_t quad_column(std::size_t rows) noexcept {
  return (rows + 3) / 4 * 4;
}
/// Whether matrices of floats with so many outputs can be in quads.
[[nodiscard]] constexpr bool few_enough_for_quads(std::size_t rows) noexcept {
  return quad_column(rows) < panel_rows;
}

/// Whether matrices of this type are in quads, whatever they say.
[[nodiscard]] constexpr bool only_quads([[maybe_unused]] DType type) noexcept {
#if defined(RWKV_ONLY_QUADS)
  return is_block(type);
#else
  return false;
#endif
}

/// A matrix in quads. It occupies what it does in panels.
struct QuadMatrix {
  const std::byte* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
};

namespace detail {

inline constexpr std::size_t quad_outputs = 4;
inline constexpr std::size_t quads_per_panel = panel_rows / quad_outputs;
inline constexpr std::size_t quad_scale_bytes = 2 * quad_outputs;
inline constexpr std::size_t quad_tile_bytes = quad_scale_bytes + quad_outputs * tile_cols;
inline constexpr std::uint32_t quad_offsets = 0x00800080;

/// Word `i` of some bytes at a multiple of 4. (Freestanding compilers call memcpy for 4 bytes.)
RWKV_INLINE std::uint32_t word_at(const std::byte* p, std::size_t i) noexcept {
#if defined(__GNUC__)
  using Word [[gnu::may_alias]] = std::uint32_t;
  return reinterpret_cast<const Word*>(p)[i];
#else
  std::uint32_t word;
  std::memcpy(&word, p + 4 * i, sizeof word);
  return word;
#endif
}

RWKV_INLINE half half_at(const std::byte* p, std::size_t i) noexcept {
#if defined(__GNUC__)
  using Bits [[gnu::may_alias]] = std::uint16_t;
  return {reinterpret_cast<const Bits*>(p)[i]};
#else
  half h;
  std::memcpy(&h, p + 2 * i, sizeof h);
  return h;
#endif
}

/// Adds the products of a quad's tile, byte by byte.
RWKV_INLINE void add_quad(const std::byte* tile, const std::int8_t* x,
                          std::int32_t (&sum)[quad_outputs]) noexcept {
  const auto* w = reinterpret_cast<const std::uint8_t*>(tile + quad_scale_bytes);
  std::int32_t even = 0;
  for (const std::int8_t* const end = x + tile_cols; x != end; x += 8, w += 2 * 4 * quad_outputs) {
    RWKV_UNROLL
    for (std::size_t half = 0; half < 2; ++half) {
      const std::int8_t* const from = x + 4 * half;
      const std::int32_t in[4] = {from[0], from[1], from[2], from[3]};
      even += in[0] + in[2];
      RWKV_UNROLL
      for (std::size_t k = 0; k < quad_outputs; ++k) {
        const std::uint8_t* const four = w + 4 * (quad_outputs * half + k);
        sum[k] += four[0] * in[0];
        sum[k] += static_cast<std::int8_t>(four[1]) * in[1];
        sum[k] += four[2] * in[2];
        sum[k] += static_cast<std::int8_t>(four[3]) * in[3];
      }
    }
  }
  RWKV_UNROLL
  for (std::int32_t& s : sum) s -= 128 * even;
}

}  // namespace detail

/// Turns panels (kernels/quantised_layout.hpp) into quads; `to` has room for as many bytes.
inline void pack_quads(const QuantisedMatrix& w, std::byte* to) noexcept {
  RWKV_ASSERT(has_quads(w.layout));
  const std::size_t tiles = w.cols / tile_cols;
  for (std::size_t quad = 0; quad < detail::quads_per_panel * panels_for(w.rows); ++quad) {
    const std::byte* tile =
        w.data + quad / detail::quads_per_panel * w.layout.bytes_per_panel(w.cols);
    const std::size_t first = quad % detail::quads_per_panel * detail::quad_outputs;
    for (std::size_t t = 0; t < tiles; ++t, tile += w.layout.tile_bytes()) {
      std::memcpy(to, tile + 2 * first, detail::quad_scale_bytes);
      to += detail::quad_scale_bytes;
      for (std::size_t q = 0; q < tile_cols / 4; ++q)
        for (std::size_t k = 0; k < detail::quad_outputs; ++k, to += 4) {
          std::uint32_t word;
          std::memcpy(&word, tile + w.layout.code_offset() + 4 * (q * panel_rows + first + k),
                      sizeof word);
          word ^= detail::quad_offsets;
          std::memcpy(to, &word, sizeof word);
        }
    }
  }
}

/// The same for floats with few outputs, which are in one panel.
template <class T>
void pack_quads(const T* panel, std::size_t rows, std::size_t cols, T* to) noexcept {
  RWKV_ASSERT(few_enough_for_quads(rows));
  const std::size_t column = quad_column(rows);
  for (std::size_t i = 0; i < cols; ++i)
    for (std::size_t o = 0; o < column; ++o) to[i * column + o] = panel[i * panel_rows + o];
}

/// y[m][o] = sum_i W[o][i] x[m][i] for such a matrix and rows m < rows, as kernels/matmul.hpp computes
/// it.
template <class T>
RWKV_INNER_LOOP void multiply_quads(const T* w, std::size_t outputs, std::size_t cols,
                                    const float* x, std::size_t ldx, std::size_t rows, float* y,
                                    std::size_t ldy) noexcept {
  using L = simd::Scalar;
  constexpr std::size_t n = detail::quad_outputs;
  const std::size_t column = quad_column(outputs);
  for (std::size_t m = 0; m < rows; ++m, x += ldx, y += ldy)
    for (std::size_t o = 0; o < outputs; o += n) {
      L sums[n] = {};
      const T* from = w + o;
      for (std::size_t i = 0; i < cols; ++i, from += column) {
        RWKV_UNROLL
        for (std::size_t k = 0; k < n; ++k) sums[k] = fma(L{to_float(from[k])}, L{x[i]}, sums[k]);
      }
      for (std::size_t k = 0; k < n && o + k < outputs; ++k) y[o + k] = sums[k].v;
    }
}

/// Whether panels are multiplied by the vector extension of Cortex-M.
inline constexpr bool vectors_are_faster = RWKV_CORTEX_M_VECTOR != 0;

namespace detail {

/// Products with panels instead.
inline void codes_in_panels([[maybe_unused]] const QuantisedMatrix& w,
                            [[maybe_unused]] Range panels,
                            [[maybe_unused]] const QuantisedActivations& x,
                            [[maybe_unused]] std::size_t rows, [[maybe_unused]] float* y,
                            [[maybe_unused]] std::size_t ldy) noexcept {
#if RWKV_CORTEX_M_VECTOR
  const std::size_t bytes = w.layout.bytes_per_panel(w.cols), tiles = w.cols / tile_cols;
  const std::size_t whole = w.rows / panel_rows < panels.end ? w.rows / panel_rows : panels.end;
  for (std::size_t m = 0; m < rows; ++m, y += ldy) {
    if (panels.begin < whole) {
      const cortex_m::CodesArguments arguments{
          w.data + panels.begin * bytes, x.codes(m),           x.steps(m),
          y + panels.begin * panel_rows, whole - panels.begin, tiles};
      cortex_m::codes_in_panels(&arguments);
    }
    if (whole == panels.end) continue;
    float last[panel_rows];
    const cortex_m::CodesArguments arguments{
        w.data + whole * bytes, x.codes(m), x.steps(m), last, 1, tiles};
    cortex_m::codes_in_panels(&arguments);
    for (std::size_t o = 0; o < w.rows % panel_rows; ++o) y[whole * panel_rows + o] = last[o];
  }
#endif
}

}  // namespace detail

/// What products with quads want made of their inputs.
inline constexpr ActivationFormat quad_activations =
    RWKV_CORTEX_M ? ActivationFormat::wide : ActivationFormat::codes;

/// y[m][o] = sum_i W[o][i] x[m][i] for the outputs of panels [panels.begin, panels.end) and rows m
/// < rows, as quantised_matmul computes it. y outside the asked outputs is not touched.
RWKV_INNER_LOOP inline void multiply_quads(const QuadMatrix& w, Range panels,
                                           const QuantisedActivations& x, std::size_t rows,
                                           float* y, std::size_t ldy) noexcept {
  constexpr std::size_t n = detail::quad_outputs;
  const std::size_t tiles = w.cols / tile_cols;
  const std::byte* const first =
      w.data + panels.begin * detail::quads_per_panel * tiles * detail::quad_tile_bytes;
  const std::size_t begin = panels.begin * panel_rows;
  const std::size_t end = panels.end * panel_rows < w.rows ? panels.end * panel_rows : w.rows;
  for (std::size_t m = 0; m < rows; ++m) {
    const std::byte* quad = first;
    std::size_t o = begin;
#if RWKV_CORTEX_M
    const std::size_t whole = (end - begin) / n;
    if (whole > 0) cortex_m::quads(quad, x.wide(m), y + m * ldy + o, whole, tiles);
    quad += whole * tiles * detail::quad_tile_bytes;
    o += whole * n;
    if (o < end) {
      float sums[n];
      cortex_m::quads(quad, x.wide(m), sums, 1, tiles);
      for (std::size_t k = 0; o < end; ++k, ++o) y[m * ldy + o] = sums[k];
    }
#else
    using L = simd::Scalar;
    for (; o < end; o += n) {
      L sums[n] = {};
      for (std::size_t t = 0; t < tiles; ++t, quad += detail::quad_tile_bytes) {
        std::int32_t products[n] = {};
        detail::add_quad(quad, x.codes(m) + t * tile_cols, products);
        const L step = L::broadcast(x.steps(m)[t]);
        RWKV_UNROLL
        for (std::size_t k = 0; k < n; ++k) {
          const L scale{to_float(detail::half_at(quad, k))};
          sums[k] = fma(L{static_cast<float>(products[k])}, scale * step, sums[k]);
        }
      }
      for (std::size_t k = 0; k < n && o + k < end; ++k) y[m * ldy + o + k] = sums[k].v;
    }
#endif
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
