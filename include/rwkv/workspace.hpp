// SPDX-License-Identifier: Apache-2.0
// All activations of one forward pass of up to R rows, allocated once and reused. It carries
// nothing from one call to the next; one workspace per thread that runs the model.
#pragma once

#include <rwkv/kernels/quantised_activations.hpp>
#include <rwkv/state.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Where the rows of a segment are logged, if they are.
struct LoggedRows {
  RowLog* log = nullptr;
  std::size_t first = 0;
};

/// Some consecutive rows of a pass: tokens of one sequence and the state they extend.
template <class Shape>
struct Segment {
  State<Shape>* state;
  const Token* tokens;
  std::size_t first_row;
  std::size_t rows;
  [[no_unique_address]] IfLogs<Shape, LoggedRows> logged{};
};

/// Floats from one row of a [rows][n] activation to the next. Rows start on cache lines; the extra
/// line keeps rows of 2^k floats from falling into the same cache sets.
constexpr std::size_t row_stride(std::size_t n, std::size_t rows) noexcept {
  const std::size_t line = alignment / sizeof(float);
  return (n + line - 1) / line * line + (rows > 1 ? line : 0);
}

constexpr std::size_t hidden_width(const Dimensions& d) noexcept {
  // The low-rank activations and those of the channel mix never live at the same time.
  const std::size_t low = d.decay_rank + d.icl_rank + d.value_rank + d.gate_rank;
  const std::size_t most = low > d.ffn ? low : d.ffn;
  return most > d.deep_rank ? most : d.deep_rank;
}

inline constexpr std::size_t embed_buffers = 12;

struct Nothing {};

/// What a row of DeepEmbed needs: the token's matrix and then the gate, and two low-rank vectors.
constexpr std::size_t gate_width(const Dimensions& d) noexcept {
  const std::size_t matrix = d.deep_rank * d.deep_rank;
  return d.deep_rank == 0 ? 0 : (matrix > d.ffn ? matrix : d.ffn) + 2 * d.deep_rank;
}
constexpr std::size_t gate_stride(const Dimensions& d, std::size_t rows) noexcept {
  return d.deep_rank == 0 ? 0 : row_stride(gate_width(d), rows);
}

constexpr std::size_t workspace_floats(const Dimensions& d, std::size_t rows) noexcept {
  return product_or_most(rows, embed_buffers * row_stride(d.embed, rows) +
                                   row_stride(hidden_width(d), rows) + gate_stride(d, rows));
}

/// Bytes for the quantised inputs (kernels/product.hpp) of one row: those of receptance, key and
/// value live at the same time, those of the channel mix alone.
constexpr std::size_t quantised_activation_bytes(const Dimensions& d) noexcept {
  const std::size_t three = 3 * kernels::QuantisedActivations::bytes_for(d.embed);
  const std::size_t hidden = kernels::QuantisedActivations::bytes_for(hidden_width(d));
  return three > hidden ? three : hidden;
}

template <class Shape, std::size_t Rows>
inline constexpr std::size_t static_quantised_activation_bytes = [] {
  if constexpr (Shape::is_static && Rows != dynamic)
    return Rows * quantised_activation_bytes(Shape{}.dimensions());
  else
    return dynamic;
}();

template <class Shape, std::size_t Rows>
inline constexpr std::size_t static_workspace_floats = [] {
  if constexpr (Shape::is_static && Rows != dynamic)
    return workspace_floats(Shape{}.dimensions(), Rows);
  else
    return dynamic;
}();

template <class Shape, std::size_t Rows>
inline constexpr std::size_t static_rows = Shape::is_static ? Rows : dynamic;
template <class Shape, std::size_t Rows>
inline constexpr std::size_t static_stride = [] {
  if constexpr (Shape::is_static && Rows != dynamic)
    return row_stride(Shape{}.embed(), Rows);
  else
    return dynamic;
}();
template <class Shape, std::size_t Rows>
inline constexpr std::size_t static_hidden_stride = [] {
  if constexpr (Shape::is_static && Rows != dynamic)
    return row_stride(hidden_width(Shape{}.dimensions()), Rows);
  else
    return dynamic;
}();

template <class Shape, std::size_t Rows>
inline constexpr std::size_t static_vocab = [] {
  if constexpr (Shape::is_static && Rows != dynamic)
    return Shape{}.vocab();
  else
    return dynamic;
}();

}  // namespace detail

/// How many hidden units of channel mixes were computed, and how many of them were zero.
struct HiddenUnits {
  bool counted = false;  ///< whether passes count
  std::uint64_t all = 0;
  std::uint64_t zero = 0;
};

/// Scratch for passes of up to `rows()` rows (a row is one token of one sequence). Longer inputs
/// are run in several passes; more rows make long prompts faster. With a static shape and constant
/// Rows it is a plain object without pointers.
template <class Shape = DynamicShape, std::size_t Rows = dynamic>
class Workspace {
 public:
  /// Rows as a constant; `dynamic` if they are none.
  static constexpr std::size_t row_count = Rows;

  /// All zeros, so that a workspace at namespace scope needs no code that runs before main.
  constexpr Workspace() requires(Shape::is_static&& Rows != dynamic) = default;

  /// `rows` must be Rows when that is a constant (asserted); 0 counts as 1. Throws std::bad_alloc.
  /// Memory: about rows * (13 C + 1.3 max(F, ranks)) + V floats; with DeepEmbed of rank R another
  /// rows * (max(F, R * R) + 2 R).
  explicit Workspace(const Shape& shape, std::size_t rows = Rows == dynamic ? 128 : Rows)
      : shape_(shape),
        rows_(Rows == dynamic ? (std::max<std::size_t>)(rows, 1) : Rows),
        stride_(detail::row_stride(shape.embed(), rows_)),
        hidden_stride_(detail::row_stride(detail::hidden_width(shape.dimensions()), rows_)),
        floats_(detail::workspace_floats(shape.dimensions(), rows_)),
        quantised_(product_or_most(rows_, detail::quantised_activation_bytes(shape.dimensions()))),
        logits_(shape.vocab()),
        segments_(rows_),
        previous_(rows_) {
    RWKV_ASSERT(rows_ == rows || rows == 0);
  }

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  /// False for a workspace that was moved away, or to which an assignment failed.
  [[nodiscard]] bool intact() const noexcept {
    const Dimensions d = shape_.dimensions();
    return floats_.size() == detail::workspace_floats(d, rows_) &&
           quantised_.size() == rows_ * detail::quantised_activation_bytes(d) &&
           logits_.size() == d.vocab && segments_.size() == rows_ && previous_.size() == rows_;
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return (floats_.size() + logits_.size()) * sizeof(float) + quantised_.size() +
           segments_.size() * sizeof(detail::Segment<Shape>) + previous_.size() * sizeof(float*);
  }

  /// What `bytes` says of a workspace for this shape and so many rows; SIZE_MAX for more than that.
  [[nodiscard]] static std::size_t bytes_for(const Shape& shape, std::size_t rows) noexcept {
    rows = (std::max<std::size_t>)(rows, 1);
    const Dimensions d = shape.dimensions();
    return sum_or_most(
        product_or_most(sum_or_most(detail::workspace_floats(d, rows), d.vocab), sizeof(float)),
        product_or_most(rows, detail::quantised_activation_bytes(d) +
                                  sizeof(detail::Segment<Shape>) + sizeof(float*)));
  }

  /// For measurements: what passes that use this workspace count if `counted` is set.
  [[nodiscard]] HiddenUnits& hidden_units() noexcept requires(Rows == dynamic) {
    return hidden_units_;
  }

  // -- for the stages of the forward pass

  /// The [rows][C] activations. Each is named after its first user; later stages reuse it (see
  /// time_mix.hpp).
  enum Name : std::size_t { x, normed, xr, xw, xk, xv, xa, xg, r, k, v, v_first };
  static_assert(v_first + 1 == detail::embed_buffers);

  [[nodiscard]] float* operator[](Name name) noexcept {
    return floats_.data() + static_cast<std::size_t>(name) * rows_ * stride_;
  }
  [[nodiscard]] float* row(Name name, std::size_t m) noexcept {
    return (*this)[name] + m * stride_;
  }
  /// Floats between rows of the [rows][C] activations.
  [[nodiscard]] std::size_t stride() const noexcept { return stride_; }
  /// [rows][max(F, ranks)]
  [[nodiscard]] float* hidden() noexcept {
    return floats_.data() + detail::embed_buffers * rows_ * stride_;
  }
  [[nodiscard]] std::size_t hidden_stride() const noexcept { return hidden_stride_; }
  /// [rows][detail::gate_width] With DeepEmbed.
  [[nodiscard]] float* gate() noexcept { return hidden() + rows_ * hidden_stride_; }
  [[nodiscard]] std::size_t gate_stride() const noexcept {
    return detail::gate_stride(shape_.dimensions(), rows_);
  }
  /// Room for the quantised inputs of the products of one stage.
  [[nodiscard]] std::byte* quantised_activations() noexcept { return quantised_.data(); }
  /// One row of logits [V].
  [[nodiscard]] std::span<float> logits() noexcept { return {logits_.data(), logits_.size()}; }
  [[nodiscard]] detail::Segment<Shape>* segments() noexcept { return segments_.data(); }
  /// For each row, the row before it in its sequence.
  [[nodiscard]] const float** previous() noexcept { return previous_.data(); }

 private:
  [[no_unique_address]] Shape shape_;
  [[no_unique_address]] internal::Extent<detail::static_rows<Shape, Rows>, 16> rows_;
  [[no_unique_address]] internal::Extent<detail::static_stride<Shape, Rows>, 17> stride_;
  [[no_unique_address]] internal::Extent<detail::static_hidden_stride<Shape, Rows>, 18>
      hidden_stride_;
  Buffer<float, detail::static_workspace_floats<Shape, Rows>> floats_;
  Buffer<std::byte, detail::static_quantised_activation_bytes<Shape, Rows>> quantised_;
  Buffer<float, detail::static_vocab<Shape, Rows>> logits_;
  Buffer<detail::Segment<Shape>, Rows> segments_;
  Buffer<const float*, Rows> previous_;
  [[no_unique_address]] std::conditional_t<Rows == dynamic, HiddenUnits, detail::Nothing>
      hidden_units_{};
};

template <class Shape>
Workspace(const Shape&, std::size_t) -> Workspace<Shape, dynamic>;
template <class Shape>
Workspace(const Shape&) -> Workspace<Shape, dynamic>;

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
