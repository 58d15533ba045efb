// SPDX-License-Identifier: Apache-2.0
// The same model with constant dimensions. Its weights are a constant object (flash, on a
// microcontroller). It needs no heap, no exceptions, no RTTI, no threads and no file system: sizeof
// tells all the memory there is.
//
//   // "tiny_weights.hpp", written by `rwkv export MODEL`, defines tiny::Shape and tiny::weights
//   constexpr rwkv::StaticModel model(tiny::weights);
//   rwkv::State<tiny::Shape> state;
//   rwkv::Workspace<tiny::Shape, 1> work;    // 1 row: one token at a time
//   const rwkv::Token next = rwkv::argmax(model.forward(state, tokens, work));
#pragma once

#include <rwkv/core/argmax.hpp>
#include <rwkv/exec/serial.hpp>
#include <rwkv/forward.hpp>
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/table.hpp>
#include <rwkv/simd/scalar.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// All parameters of a model as one constant object: vectors as float, matrices packed
/// (kernels/panels.hpp) in elements of T (float, half or bfloat16). An aggregate, so that it can be
/// a constant expression.
template <class ShapeT, class T = float>
struct StaticWeights {
  using Shape = ShapeT;
  using Element = T;
  static_assert(Shape::is_static, "every dimension must be a constant");
  static constexpr std::size_t
      C = Shape{}.embed(),
      F = Shape{}.ffn(), V = Shape{}.vocab(), L = Shape{}.layers(), Dw = Shape{}.decay_rank(),
      Da = Shape{}.icl_rank(), Dg = Shape{}.gate_rank(), R = Shape{}.deep_rank(),
      // A model of one block has no value residual; arrays need an element.
      Dv = Shape{}.value_rank() > 0 ? Shape{}.value_rank() : 1, Residuals = L > 1 ? L - 1 : 1;

  template <std::size_t Rows, std::size_t Cols>
  using Packed = T[kernels::panel_elements(Rows, Cols)];

  // In the order of tensors.hpp, in which `rwkv export` writes them.
  struct Norm {
    float weight[C];
    float bias[C];
  };
  struct TimeMix {
    float x_r[C], x_w[C], x_k[C], x_v[C], x_a[C], x_g[C];
    float w0[C];
    Packed<Dw, C> w1;
    Packed<C, Dw> w2;
    float a0[C];
    Packed<Da, C> a1;
    Packed<C, Da> a2;
    Packed<Dg, C> g1;
    Packed<C, Dg> g2;
    float k_k[C], k_a[C], r_k[C];
    Packed<C, C> receptance, key, value;
    Norm ln_x;
    Packed<C, C> output;
  };
  struct PlainChannelMix {
    float x_k[C];
    Packed<F, C> key;
    Packed<C, F> value;
  };
  struct DeepChannelMix {
    float x_k[C];
    Packed<F, C> key;
    Packed<C, F> value;
    T s_emb[R == 0 ? 1 : V * R * R];
    Packed<R == 0 ? 1 : R, C> s1;
    Packed<F, R == 0 ? 1 : R> s2;
    float s0[F];
  };
  using ChannelMix = std::conditional_t<R == 0, PlainChannelMix, DeepChannelMix>;
  struct Block {
    Norm ln1;
    TimeMix att;
    Norm ln2;
    ChannelMix ffn;
  };
  struct ValueResidual {  // of block 1 and later
    struct {
      float v0[C];
      Packed<Dv, C> v1;
      Packed<C, Dv> v2;
    } att;
  };

  T emb[V * C];
  Norm ln0;
  Block blocks[L];
  ValueResidual residuals[Residuals];
  Norm ln_out;
  Packed<V, C> head;
  Eigenvalues eigenvalues;
  float layer_norm_epsilon = kernels::layer_norm_epsilon;
  float group_norm_epsilon = kernels::group_norm_epsilon;
  bool normalised_table = false;  // ln0 is not used
};

namespace detail {

/// Weights as the stages want to see them: of a constant object here, of a blob in
/// static_blob.hpp.
template <class Weights>
struct StaticView {
  using Shape = typename Weights::Shape;
  using Matrix = kernels::PanelMatrix<typename Weights::Element>;

  const Weights* w;

  constexpr explicit StaticView(const Weights& weights) noexcept : w(&weights) {}

  constexpr NormWeights norm(const typename Weights::Norm& n) const noexcept {
    return {n.weight, n.bias, w->layer_norm_epsilon};
  }
  Table<typename Weights::Element> emb() const noexcept { return {w->emb}; }
  NormWeights ln0() const noexcept { return w->normalised_table ? NormWeights{} : norm(w->ln0); }
  NormWeights ln_out() const noexcept { return norm(w->ln_out); }
  Matrix head() const noexcept { return {w->head, Weights::V, Weights::C}; }
  Eigenvalues eigenvalues() const noexcept { return w->eigenvalues; }

  BlockWeights<Matrix> block(std::size_t i) const noexcept {
    const auto view = [](const TensorSpec& spec, const auto& from, auto& to) {
      if constexpr (std::is_same_v<decltype(to), Matrix&>)
        to = {from, spec.outputs(Shape{}.dimensions()), spec.inputs(Shape{}.dimensions())};
      else
        to = from;
    };
    BlockWeights<Matrix> out{};
    for_each_block_tensor<false>(view, w->blocks[i], out);
    if constexpr (Weights::R > 0) for_each_deep_embed_tensor(view, w->blocks[i], out);
    if (i > 0) for_each_value_residual_tensor(view, w->residuals[i - 1], out);
    set_epsilons(out, w->layer_norm_epsilon, w->group_norm_epsilon);
    return out;
  }
};

}  // namespace detail

/// A model over constant weights (StaticWeights, or StaticBlob of static_blob.hpp), which must
/// outlive it. Immutable and freely shared. `Lanes` is the vector type of the kernels:
/// simd::Scalar, or simd::Native on a processor with vectors (include simd/native.hpp).
template <class Weights, class Lanes = simd::Scalar>
class StaticModel {
 public:
  using Shape = typename Weights::Shape;

  constexpr explicit StaticModel(const Weights& weights) noexcept : view_(weights) {}

  [[nodiscard]] static constexpr Shape shape() noexcept { return {}; }

  /// Appends `tokens` (at least one, each below V: asserted) to the sequence and returns the logits
  /// [V] after the last one, which live in the workspace. Never allocates, never throws. `exec` is
  /// any executor (exec/serial.hpp) that does not throw, one with `proceed` to yield between
  /// layers.
  template <std::size_t Rows, class Exec = Serial>
  std::span<const float> forward(State<Shape>& state, std::span<const Token> tokens,
                                 Workspace<Shape, Rows>& work,
                                 Exec&& exec = Exec{}) const noexcept {
    RWKV_ASSERT(!tokens.empty());
    for ([[maybe_unused]] const Token t : tokens) RWKV_ASSERT(t < Shape{}.vocab());
    const Slot<Shape> slot{&state, tokens};
    detail::forward<Lanes>(view_, std::span(&slot, 1), Logits::last, Outputs(work.logits()), work,
                           exec);
    return work.logits();
  }

  /// The same with a state that runs the pass in its way (static_compact_state.hpp).
  template <class AnyState, class Exec = Serial>
  std::span<const float> forward(AnyState& state, std::span<const Token> tokens,
                                 typename AnyState::Workspace& work,
                                 Exec&& exec = Exec{}) const noexcept {
    RWKV_ASSERT(!tokens.empty());
    for ([[maybe_unused]] const Token t : tokens) RWKV_ASSERT(t < Shape{}.vocab());
    return AnyState::template run<Lanes>(view_, state, tokens, work, exec);
  }

 private:
  detail::StaticView<Weights> view_;
};

template <class Weights>
StaticModel(const Weights&) -> StaticModel<Weights>;

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
