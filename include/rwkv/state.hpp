// SPDX-License-Identifier: Apache-2.0
// All that one sequence remembers. Its size depends on the shape alone: a thousand tokens or a
// million.
//
//   rwkv::State state(model.shape());      // the beginning of a text
//   rwkv::State fork = state;              // a copy is a fork; assigning it back is a rewind
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/shape.hpp>

#include <cstring>
#include <span>

namespace rwkv::inline RWKV_ABI {

namespace internal {
constexpr std::size_t layer_state_floats(const Dimensions& d) noexcept {
  return 2 * d.embed + d.embed * d.head_size;
}
/// All layers; the largest number if that overflows.
constexpr std::size_t state_floats(const Dimensions& d) noexcept {
  return product_or_most(d.layers, product_or_most(d.embed, d.head_size + 2));
}
template <class Shape>
inline constexpr std::size_t static_state_floats = [] {
  if constexpr (Shape::is_static)
    return state_floats(Shape{}.dimensions());
  else
    return dynamic;
}();
}  // namespace internal

class RowLog;

namespace internal {
struct NoLog {};
}  // namespace internal

/// T for the states that a pass can log (row_log.hpp), those of shapes that are known at run time;
/// nothing for others.
template <class Shape, class T>
using IfLogs = std::conditional_t<std::is_same_v<Shape, DynamicShape>, T, internal::NoLog>;

/// The recurrent state of one sequence: a regular value type. Per layer: the two token-shift rows
/// and one N x N matrix per head. With a static shape it is a plain object without pointers.
/// Assignment does what it says or, if memory is missing for another shape, nothing. A state that
/// was moved away may be assigned to and destroyed; models refuse it.
template <class Shape = DynamicShape>
class State {
 public:
  /// The state before the first token (all zeros) of a fully static shape.
  constexpr State() requires Shape::is_static = default;
  /// The state before the first token.
  constexpr explicit State(const Shape& shape)
      : data_(internal::state_floats(shape.dimensions())), shape_(shape) {}

  [[nodiscard]] constexpr const Shape& shape() const noexcept { return shape_; }
  /// False for a state that was moved away.
  [[nodiscard]] constexpr bool intact() const noexcept {
    return data_.size() == internal::state_floats(shape_.dimensions());
  }

  /// [C] the previous token's input of the time mix (the output of ln1).
  [[nodiscard]] std::span<float> att_x_prev(std::size_t layer) noexcept {
    return {at(layer), shape_.embed()};
  }
  [[nodiscard]] std::span<const float> att_x_prev(std::size_t layer) const noexcept {
    return {at(layer), shape_.embed()};
  }
  /// [C] the previous token's input of the channel mix (the output of ln2).
  [[nodiscard]] std::span<float> ffn_x_prev(std::size_t layer) noexcept {
    return {at(layer) + shape_.embed(), shape_.embed()};
  }
  [[nodiscard]] std::span<const float> ffn_x_prev(std::size_t layer) const noexcept {
    return {at(layer) + shape_.embed(), shape_.embed()};
  }
  /// [H][N key][N value]: the matrices S, transposed with respect to the paper and to state files,
  /// because the kernels put values into vector lanes.
  [[nodiscard]] std::span<float> wkv(std::size_t layer) noexcept {
    return {at(layer) + 2 * shape_.embed(), shape_.embed() * shape_.head_size()};
  }
  [[nodiscard]] std::span<const float> wkv(std::size_t layer) const noexcept {
    return {at(layer) + 2 * shape_.embed(), shape_.embed() * shape_.head_size()};
  }

  /// Back to the beginning of a text.
  void reset() noexcept { std::fill_n(data_.data(), data_.size(), 0.0f); }

  /// Every number of the state, layer after layer.
  [[nodiscard]] std::span<float> values() noexcept { return {data_.data(), data_.size()}; }
  [[nodiscard]] std::span<const float> values() const noexcept {
    return {data_.data(), data_.size()};
  }

  /// Bytes of the numbers of any state of this shape.
  [[nodiscard]] static constexpr std::size_t bytes_for(const Shape& shape) noexcept {
    return product_or_most(internal::state_floats(shape.dimensions()), sizeof(float));
  }

  /// Bytes of the numbers; constant over the life of the state.
  [[nodiscard]] constexpr std::size_t bytes() const noexcept {
    return data_.size() * sizeof(float);
  }

  /// Same shape and the same bits. A state that was moved away has no bits.
  friend bool operator==(const State& a, const State& b) noexcept {
    if (!(a.shape_ == b.shape_) || a.bytes() != b.bytes()) return false;
    return a.bytes() == 0 || std::memcmp(a.data_.data(), b.data_.data(), a.bytes()) == 0;
  }

 private:
  [[nodiscard]] float* at(std::size_t layer) noexcept {
    RWKV_ASSERT(layer < shape_.layers());
    return data_.data() + layer * internal::layer_state_floats(shape_.dimensions());
  }
  [[nodiscard]] const float* at(std::size_t layer) const noexcept {
    RWKV_ASSERT(layer < shape_.layers());
    return data_.data() + layer * internal::layer_state_floats(shape_.dimensions());
  }

  Buffer<float, internal::static_state_floats<Shape>> data_;  // before the shape: copying it throws
  [[no_unique_address]] Shape shape_;
};

template <class Shape>
State(const Shape&) -> State<Shape>;

}  // namespace rwkv::inline RWKV_ABI
