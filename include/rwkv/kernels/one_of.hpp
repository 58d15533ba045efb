// SPDX-License-Identifier: Apache-2.0
// A packed matrix whose type is one of a few that a program names: only their kernels are linked.
// Freestanding.
#pragma once

#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/product.hpp>
#include <rwkv/kernels/quads.hpp>
#include <rwkv/kernels/quantised_words.hpp>
#include <rwkv/kernels/table.hpp>
#include <rwkv/quant/format.hpp>

#include <span>
#include <type_traits>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

template <DType... Types>
struct OneOfMatrix {
  DType type = DType::f32;  ///< one of Types
  const void* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  bool in_quads = false;  ///< in the order of kernels/quads.hpp
};

namespace detail {

template <DType Type>
using ElementOf = std::conditional_t<Type == DType::f16, half,
                                     std::conditional_t<Type == DType::bf16, bfloat16, float>>;

/// Bytes that a panel has for a block of inputs.
template <DType Type>
inline constexpr std::size_t panel_block_bytes = packed_bytes(Type, panel_rows,
                                                              block_elements(Type));

/// Calls f(std::integral_constant<DType, T>) for the T among Types that is `type`.
template <DType... Types, class F>
RWKV_INLINE void with_type([[maybe_unused]] DType type, F&& f) noexcept {
  static_assert(sizeof...(Types) > 0, "a matrix has a type");
  [[maybe_unused]] const bool found =
      ((type == Types && (f(std::integral_constant<DType, Types>{}), true)) || ...);
  RWKV_ASSERT(found);
}

}  // namespace detail

template <DType... Types>
[[nodiscard]] constexpr std::size_t weight_cost(const OneOfMatrix<Types...>& w) noexcept {
  std::size_t cost = 0;
  (void)((w.type == Types && (cost = block_bytes(Types) * (256 / block_elements(Types)), true)) ||
         ...);
  return cost;
}
template <class L, DType... Types>
[[nodiscard]] constexpr ActivationFormat activation_format(
    const OneOfMatrix<Types...>& w) noexcept {
  return !is_block(w.type) ? ActivationFormat::none
         : w.in_quads      ? quad_activations
                           : ActivationFormat::codes;
}
template <DType... Types>
[[nodiscard]] constexpr const LowRank* low_rank(const OneOfMatrix<Types...>&) noexcept {
  return nullptr;
}

/// Bytes of a panel; two of floats, which are stored together, take two of these.
template <DType... Types>
[[nodiscard]] constexpr std::size_t panel_bytes(const OneOfMatrix<Types...>& w) noexcept {
  std::size_t bytes = 0;
  (void)((w.type == Types &&
          (bytes = detail::panel_block_bytes<Types> * (w.cols / block_elements(Types)), true)) ||
         ...);
  if (w.in_quads && !is_block(w.type)) bytes = bytes / panel_rows * quad_column(w.rows);
  return bytes;
}
/// Panels of a matrix, the first of an even number, as a matrix of their own that lies at `data`.
template <DType... Types>
[[nodiscard]] constexpr OneOfMatrix<Types...> panels_at(OneOfMatrix<Types...> w, Range panels,
                                                        const std::byte* data) noexcept {
  const std::size_t left = w.rows - panels.begin * panel_rows;
  const std::size_t rows = (panels.end - panels.begin) * panel_rows;
  return {w.type, data, left < rows ? left : rows, w.cols, w.in_quads};
}

template <class L, DType... Types>
void multiply(const OneOfMatrix<Types...>& w, Range panels, const ProductInputs& x,
              std::size_t rows, float* y, std::size_t ldy) noexcept {
  if (w.in_quads)
    return detail::with_type<Types...>(
        w.type, [&]<DType Type>(std::integral_constant<DType, Type>) {
          if constexpr (has_quads(Type)) {
            multiply_quads({static_cast<const std::byte*>(w.data), w.rows, w.cols}, panels,
                           x.quantised, rows, y, ldy);
          } else if constexpr (!is_block(Type)) {
            using T = detail::ElementOf<Type>;
            multiply_quads(static_cast<const T*>(w.data), w.rows, w.cols, x.x, x.ldx, rows, y, ldy);
          }
        });
  if constexpr (std::is_same_v<L, simd::Chosen>) {
    multiply<L>(AnyMatrix{w.type, w.data, w.rows, w.cols}, panels, x, rows, y, ldy);
  } else {
    detail::with_type<Types...>(w.type, [&]<DType Type>(std::integral_constant<DType, Type>) {
      if constexpr (!is_block(Type)) {
        using T = detail::ElementOf<Type>;
        compiled::matmul<L>(PanelMatrix<T>{static_cast<const T*>(w.data), w.rows, w.cols}, panels,
                            x.x, x.ldx, rows, y, ldy);
      } else {
        const QuantisedMatrix m{layout_of(Type), static_cast<const std::byte*>(w.data), w.rows,
                                w.cols};
        constexpr bool plain = compiled::detail::plain<typename L::Bytes>;
        constexpr QuantisedLayout layout = layout_of(Type);
        static_assert(!only_quads(Type) || has_quads(Type),
                      "RWKV_ONLY_QUADS is for programs whose blocks are q8_0");
        if constexpr (only_quads(Type))
          return;  // above
        else if constexpr (plain && vectors_are_faster && has_quads(Type))
          detail::codes_in_panels(m, panels, x.quantised, rows, y, ldy);
        else if constexpr (plain && words_are_faster && layout.form == ScaleForm::halves &&
                           (layout.bits == 8 || layout.bits == 4))
          detail::quantised_words<layout.bits>(m, panels, x.quantised, rows, y, ldy);
        else if constexpr (plain)
          compiled::detail::quantised_plain<L>(m, panels, x.quantised, rows, y, ldy);
        else
          compiled::quantised_matmul<L>(m, Inputs::rounded, panels, x, rows, y, ldy);
      }
    });
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// An embedding table whose type is one of a few: [V][C] in C order.
template <DType... Types>
struct OneOfTable {
  DType type = DType::f32;
  const void* data = nullptr;

  /// Where row `token` of `n` numbers lies.
  [[nodiscard]] std::span<const std::byte> bytes_of_row(std::size_t token,
                                                        std::size_t n) const noexcept {
    std::size_t before = 0, size = 0;
    kernels::detail::with_type<Types...>(type,
                                         [&]<DType Type>(std::integral_constant<DType, Type>) {
                                           before = bytes_of(Type, token * n);
                                           size = bytes_of(Type, n);
                                         });
    return {static_cast<const std::byte*>(data) + before, size};
  }
  /// Row `token` of `n` numbers, as floats.
  void row(std::size_t token, std::size_t n, float* out) const noexcept {
    kernels::detail::with_type<Types...>(
        type, [&]<DType Type>(std::integral_constant<DType, Type>) {
          if constexpr (!is_block(Type)) {
            using T = kernels::detail::ElementOf<Type>;
            Table<T>{static_cast<const T*>(data)}.row(token, n, out);
          } else {
            const std::byte* block =
                static_cast<const std::byte*>(data) + bytes_of(Type, token * n);
            quant::visit_format(Type, [&]<class Format>(Format) {
              for (std::size_t i = 0; i < n; i += Format::elements, block += Format::bytes)
                Format::decode(block, out + i);
            });
          }
        });
  }
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

template <DType... Types>
[[nodiscard]] constexpr OneOfTable<Types...> table_of(const OneOfMatrix<Types...>& m) noexcept {
  return {m.type, m.data};
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
