// SPDX-License-Identifier: Apache-2.0
// The state of a static model in 16 bits per number: half the RAM, but for one layer that is being
// worked on. Numbers are rounded after every token, so that it is not the same function any more;
// what that costs is in bench/README.md.
//
//   constexpr rwkv::StaticModel model(tiny::weights);
//   static rwkv::CompactState<tiny::Shape> state;       // instead of State
//   static rwkv::CompactWorkspace<tiny::Shape> work;    // instead of Workspace
//   const rwkv::Token next = rwkv::argmax(model.forward(state, tokens, work));
//
// Freestanding: no heap, no exceptions.
#pragma once

#include <rwkv/static_model.hpp>

namespace rwkv::inline RWKV_ABI {

/// How a float becomes a number of 16 bits.
enum class Rounding : std::uint8_t {
  nearest,     ///< to the nearest, ties to even
  stochastic,  ///< up or down by chance, so that it is right on average
};

namespace internal {

/// One layer of a state in floats, with the names that the stages of the pass use.
template <class Shape>
class LayerState {
 public:
  [[nodiscard]] std::span<float> att_x_prev(std::size_t) noexcept { return {values_, C}; }
  [[nodiscard]] std::span<float> ffn_x_prev(std::size_t) noexcept { return {values_ + C, C}; }
  [[nodiscard]] std::span<float> wkv(std::size_t) noexcept {
    return {values_ + 2 * C, C * Shape{}.head_size()};
  }
  [[nodiscard]] std::span<float> values() noexcept { return values_; }

 private:
  static constexpr std::size_t C = Shape{}.embed();
  alignas(alignment) float values_[layer_state_floats(Shape{}.dimensions())]{};
};

}  // namespace internal

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// A Workspace of one row that also holds the layer of a CompactState which is being worked on.
template <class Shape>
class CompactWorkspace : public Workspace<Shape, 1> {
 public:
  using Layer = internal::LayerState<Shape>;
  /// detail::Segment for such a layer.
  struct Segment {
    Layer* state;
    const Token* tokens;
    std::size_t first_row, rows;
  };

  constexpr CompactWorkspace() = default;
  [[nodiscard]] Layer& layer() noexcept { return layer_; }
  [[nodiscard]] Segment* segments() noexcept { return &segment_; }

 private:
  Layer layer_;
  Segment segment_{};
};

/// The recurrent state of one sequence, held in elements of T: half, or bfloat16 for states beyond
/// 65504 (half stops there). A value type without pointers.
template <class Shape, class T = half, Rounding rounding = Rounding::nearest>
class CompactState {
  static_assert(Shape::is_static, "every dimension must be a constant");

 public:
  using Workspace = CompactWorkspace<Shape>;

  /// The state before the first token (all zeros).
  constexpr CompactState() = default;

  /// Back to the beginning of a text.
  void reset() noexcept {
    for (T& x : values_) x = T{};
  }

  /// Every number of the state, in the order of State::values.
  [[nodiscard]] std::span<T> values() noexcept { return values_; }
  [[nodiscard]] std::span<const T> values() const noexcept { return values_; }
  /// What stochastic rounding goes on with.
  [[nodiscard]] std::uint32_t& seed() noexcept { return seed_; }

  /// For StaticModel::forward. Token by token: the bits do not depend on how a text is cut.
  template <class Lanes, class View, class Exec>
  static std::span<const float> run(const View& weights, CompactState& state,
                                    std::span<const Token> tokens, Workspace& work,
                                    Exec& exec) noexcept {
    struct Slot {
      typename Workspace::Layer* state;
      std::span<const Token> tokens;
      std::span<const std::size_t> positions;
    };
    bool going_on = true;
    for (std::size_t t = 0; t < tokens.size() && going_on; ++t) {
      const Slot slot{&work.layer(), tokens.subspan(t, 1), {}};
      detail::forward<Lanes>(
          weights, std::span(&slot, 1), t + 1 < tokens.size() ? Logits::none : Logits::last,
          Outputs(work.logits()), work, exec, [&](const detail::Pass& pass) {
            for (std::size_t i = 0; i < Shape{}.layers() && going_on; ++i) {
              going_on = proceed(exec);
              if (!going_on) break;
              state.widen(i, work.layer().values());
              block<Lanes>(weights.block(i), weights.eigenvalues(), i, pass, work, exec);
              state.round(i, work.layer().values());
            }
            return going_on;
          });
    }
    return work.logits();
  }

  /// Sets all layers from a state in floats, and the other way round.
  void round(const State<Shape>& from) noexcept {
    for (std::size_t i = 0; i < Shape{}.layers(); ++i)
      round(i, from.values().subspan(i * layer_size, layer_size));
  }
  void widen(State<Shape>& to) const noexcept {
    for (std::size_t i = 0; i < Shape{}.layers(); ++i)
      widen(i, to.values().subspan(i * layer_size, layer_size));
  }

 private:
  static constexpr std::size_t layer_size = internal::layer_state_floats(Shape{}.dimensions());

  void widen(std::size_t layer, std::span<float> to) const noexcept {
    const T* const from = values_ + layer * layer_size;
    for (std::size_t i = 0; i < layer_size; ++i) to[i] = to_float(from[i]);
  }
  void round(std::size_t layer, std::span<const float> from) noexcept {
    T* const to = values_ + layer * layer_size;
    for (std::size_t i = 0; i < layer_size; ++i) to[i] = rounded(from[i]);
  }

  [[nodiscard]] T rounded(float x) noexcept {
    constexpr bool is_half = std::is_same_v<T, half>;
    if constexpr (rounding == Rounding::stochastic) {
      seed_ = seed_ * 1664525u + 1013904223u;
      const auto bits = std::bit_cast<std::uint32_t>(x);
      const std::uint32_t magnitude = bits & 0x7fffffffu;
      const std::uint32_t sign = (bits & 0x80000000u) >> 16;
      if constexpr (is_half) {
        if (magnitude >= 0x38800000u && magnitude < 0x477fe000u)  // normal, and not the largest
          return {
              static_cast<std::uint16_t>(sign | (magnitude - 0x38000000u + (seed_ >> 19)) >> 13)};
      } else if (magnitude < 0x7f7f0000u) {
        return {static_cast<std::uint16_t>(sign | (magnitude + (seed_ >> 16)) >> 16)};
      }
    }
    if constexpr (is_half) {
      half h = to_half(x);
      h.bits = static_cast<std::uint16_t>(h.bits - ((h.bits & 0x7fffu) == 0x7c00u));  // 65504
      return h;
    } else {
      return to_bfloat16(x);
    }
  }

  T values_[Shape{}.layers() * layer_size]{};
  std::uint32_t seed_ = 0;  // all zeros: no constructor has to run
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
