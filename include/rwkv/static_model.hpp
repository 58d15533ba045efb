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
      Da = Shape{}.icl_rank(), Dg = Shape{}.gate_rank(),
      // A model of one block has no value residual; arrays need an element.
      Dv = Shape{}.value_rank() > 0 ? Shape{}.value_rank() : 1, Residuals = L > 1 ? L - 1 : 1;

  template <std::size_t Rows, std::size_t Cols>
  using Packed = T[kernels::panel_elements(Rows, Cols)];

  struct Norm {
    float weight[C];
    float bias[C];
  };
  struct Block {
    Norm ln1;
    float x_r[C], x_w[C], x_k[C], x_v[C], x_a[C], x_g[C], w0[C], a0[C], k_k[C], k_a[C], r_k[C];
    Packed<Dw, C> w1;
    Packed<C, Dw> w2;
    Packed<Da, C> a1;
    Packed<C, Da> a2;
    Packed<Dg, C> g1;
    Packed<C, Dg> g2;
    Packed<C, C> receptance, key, value, output;
    Norm ln_x;
    Norm ln2;
    float ffn_x_k[C];
    Packed<F, C> ffn_key;
    Packed<C, F> ffn_value;
  };
  struct ValueResidual {  // of block 1 and later
    float v0[C];
    Packed<Dv, C> v1;
    Packed<C, Dv> v2;
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

/// A model over constant weights, which must outlive it. Immutable and freely shared. `Lanes` is
/// the vector type of the kernels: simd::Scalar, or simd::Native on a processor with vectors
/// (include simd/native.hpp).
template <class Weights, class Lanes = simd::Scalar>
class StaticModel {
 public:
  using Shape = typename Weights::Shape;
  using Matrix = kernels::PanelMatrix<typename Weights::Element>;

  constexpr explicit StaticModel(const Weights& weights) noexcept : view_{&weights} {}

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
    for ([[maybe_unused]] const Token t : tokens) RWKV_ASSERT(t < Weights::V);
    const Slot<Shape> slot{&state, tokens};
    detail::forward<Lanes>(view_, std::span(&slot, 1), Logits::last, Outputs(work.logits()), work,
                           exec);
    return work.logits();
  }

 private:
  // The constant object as the stages want to see it.
  struct View {
    const Weights* w;

    constexpr NormWeights norm(const typename Weights::Norm& n) const noexcept {
      return {n.weight, n.bias, w->layer_norm_epsilon};
    }
    Table<typename Weights::Element> emb() const noexcept { return {w->emb}; }
    NormWeights ln0() const noexcept { return w->normalised_table ? NormWeights{} : norm(w->ln0); }
    NormWeights ln_out() const noexcept { return norm(w->ln_out); }
    Matrix head() const noexcept { return {w->head, Weights::V, Weights::C}; }
    Eigenvalues eigenvalues() const noexcept { return w->eigenvalues; }

    BlockWeights<Matrix> block(std::size_t i) const noexcept {
      constexpr std::size_t C = Weights::C;
      constexpr std::size_t F = Weights::F;
      const auto& b = w->blocks[i];
      BlockWeights<Matrix> out{};
      out.ln1 = norm(b.ln1);
      auto& a = out.att;
      a.x_r = b.x_r, a.x_w = b.x_w, a.x_k = b.x_k, a.x_v = b.x_v, a.x_a = b.x_a, a.x_g = b.x_g;
      a.w0 = b.w0, a.w1 = {b.w1, Weights::Dw, C}, a.w2 = {b.w2, C, Weights::Dw};
      a.a0 = b.a0, a.a1 = {b.a1, Weights::Da, C}, a.a2 = {b.a2, C, Weights::Da};
      a.v0 = nullptr;
      if (i > 0) {
        const auto& v = w->residuals[i - 1];
        a.v0 = v.v0, a.v1 = {v.v1, Weights::Dv, C}, a.v2 = {v.v2, C, Weights::Dv};
      }
      a.g1 = {b.g1, Weights::Dg, C}, a.g2 = {b.g2, C, Weights::Dg};
      a.k_k = b.k_k, a.k_a = b.k_a, a.r_k = b.r_k;
      a.receptance = {b.receptance, C, C}, a.key = {b.key, C, C};
      a.value = {b.value, C, C}, a.output = {b.output, C, C};
      a.ln_x = norm(b.ln_x);
      a.ln_x.epsilon = w->group_norm_epsilon;
      out.ln2 = norm(b.ln2);
      out.ffn = {b.ffn_x_k, {b.ffn_key, F, C}, {b.ffn_value, C, F}};
      return out;
    }
  };

  View view_;
};

template <class Weights>
StaticModel(const Weights&) -> StaticModel<Weights>;

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
