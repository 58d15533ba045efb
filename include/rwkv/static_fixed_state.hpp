// SPDX-License-Identifier: Apache-2.0
// A static model in integers alone, for processors without a floating-point unit (Cortex-M0+, M3,
// RV32IMC): a sixth of the instructions that floats take there, and half the RAM of a state. It is
// another function than the model in floats, off by what rounding does (bench/README.md says how much
// that is), and it has the same bits on every processor, computers among them.
//
//   constexpr rwkv::StaticModel model(tiny::weights);
//   static rwkv::FixedState<tiny::Shape> state;       // instead of State
//   static rwkv::FixedWorkspace<tiny::Shape> work;    // instead of Workspace
//   const rwkv::Token next = rwkv::argmax(model.forward(state, tokens, work));
//
// What is computed is in time_mix.hpp and channel_mix.hpp. Numbers, Qf being integers that count
// units of 2^-f (kernels/fixed_point.hpp):
//
//   activations      Q16 of 31 bits: to +-16384, where they stop
//   products         inputs of 15 bits, of the largest of them; codes of 8 bits (q8_0) or floats of
//                    11 (f16), 8 (bf16) or 14 (f32); sums of 128 terms to 2^-20 of the
//                    largest, a bit fewer for every doubling, rounded down
//   0 ... 1          sigmoids, decays, the removal key: Q30
//   state            16 bits, of the largest in a row of a head's matrix or of a shifted input
//   logits           floats, as everywhere: Q16 without rounding up to 256
//   vectors          weights of norms, mu, k_k, k_a, r_k: Q16
//
// Matrices and the table are of f32, f16, bf16 or q8_0, in either order; without DeepEmbed.
// Infinities and NaNs among the weights count as large numbers. Freestanding: no heap, no exceptions,
// no floating-point operation.
#pragma once

#include <rwkv/kernels/fixed_products.hpp>
#include <rwkv/kernels/fixed_vectors.hpp>
#include <rwkv/static_model.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// All activations of one token, and its logits.
template <class Shape>
class FixedWorkspace {
  static_assert(Shape::is_static, "every dimension must be a constant");
  static_assert(Shape{}.deep_rank() == 0, "there is no DeepEmbed in integers");
  static constexpr std::size_t C = Shape{}.embed(), N = Shape{}.head_size(), F = Shape{}.ffn(),
                               V = Shape{}.vocab(),
                               low = detail::hidden_width(Shape{}.dimensions());

 public:
  static constexpr std::size_t row_count = 1;
  using Int = kernels::fixed::Int;

  /// All zeros: no constructor has to run.
  constexpr FixedWorkspace() = default;

  [[nodiscard]] std::span<float> logits() noexcept { return logits_; }
  [[nodiscard]] std::span<const float> logits() const noexcept { return logits_; }

  // -- for the stages of the pass

  Int x[C]{}, u[C]{}, previous[C]{}, shifted[C]{}, r[C]{}, w[C]{}, k[C]{}, v[C]{}, a[C]{}, g[C]{},
      kk[C]{}, b[C]{}, v_first[C]{};
  Int hidden[low]{};
  Int rows[N]{};
  kernels::fixed::HeadValue values[N]{};
  kernels::fixed::Inputs<(low > C ? low : C)> inputs{};

 private:
  float logits_[V]{};
};

/// The recurrent state of one sequence in integers of 16 bits. A value type without pointers.
template <class Shape>
class FixedState {
  static_assert(Shape::is_static, "every dimension must be a constant");
  static_assert(Shape{}.deep_rank() == 0, "there is no DeepEmbed in integers");

 public:
  using Workspace = FixedWorkspace<Shape>;

  /// The state before the first token (all zeros).
  constexpr FixedState() = default;

  /// Back to the beginning of a text.
  void reset() noexcept {
    for (std::int16_t& x : values_) x = 0;
  }

  /// Every number of the state, layer after layer.
  [[nodiscard]] std::span<std::int16_t> values() noexcept { return values_; }
  [[nodiscard]] std::span<const std::int16_t> values() const noexcept { return values_; }

  /// For StaticModel::forward. Token by token: the bits do not depend on how a text is cut.
  template <class Lanes, class View, class Exec>
  static std::span<const float> run(const View& weights, FixedState& state,
                                    std::span<const Token> tokens, Workspace& work,
                                    Exec& exec) noexcept {
    static_assert(!Fetching<Exec>, "weights are read where they lie");
    for (std::size_t t = 0; t < tokens.size(); ++t)
      if (!state.read(weights, tokens[t], t + 1 == tokens.size(), work, exec)) break;
    return work.logits();
  }

 private:
  using Int = kernels::fixed::Int;
  static constexpr std::size_t C = Shape{}.embed(), N = Shape{}.head_size(), H = Shape{}.heads(),
                               L = Shape{}.layers();
  static constexpr kernels::fixed::Word root = kernels::fixed::root_of(C),
                                        head_root = kernels::fixed::root_of(N);
  static_assert(C < 65536 && Shape{}.ffn() < 65536);

  // Of a layer: two shifted inputs, their exponents, matrices, and for each of their rows the
  // exponent and the bits of the magnitudes.
  static constexpr std::size_t exponents = 2 * C, matrices = exponents + 2,
                               row_exponents = matrices + C * N, magnitudes = row_exponents + C,
                               layer_size = magnitudes + C;

  /// The input before this one, which takes its place.
  void exchange(std::size_t layer, std::size_t which, Workspace& work) noexcept {
    using namespace kernels::fixed;
    std::int16_t* const of_layer = values_ + layer * layer_size;
    std::int16_t* const row = of_layer + which * C;
    std::int16_t& exponent = of_layer[exponents + which];
    const int by = 15 - bits_of(work.u, C);
    for (std::size_t i = 0; i < C; ++i) {
      work.previous[i] = saturated(scaled(row[i], fraction - exponent));
      const Int now = scaled(work.u[i], by);
      row[i] = static_cast<std::int16_t>(now > INT16_MAX ? INT16_MAX : now);
    }
    exponent = static_cast<std::int16_t>(fraction + by);
  }

  /// work.inputs = u + (previous - u) mu
  static void shift(const float* mu, Workspace& work) noexcept {
    using namespace kernels::fixed;
    for (std::size_t i = 0; i < C; ++i)
      work.shifted[i] =
          product<fraction>(work.previous[i] - work.u[i], from_float(mu[i]), work.u[i]);
    work.inputs.take(work.shifted, C);
  }

  static void norm(const NormWeights& n, Workspace& work) noexcept {
    kernels::fixed::normalise(work.x, kernels::fixed::fraction, C, root, n.weight, n.bias,
                              n.epsilon, work.u);
  }

  template <class Matrix>
  static void add_product(const Matrix& m, Workspace& work) noexcept {
    multiply(m, work.inputs, work.shifted);
    for (std::size_t i = 0; i < C; ++i) work.x[i] = kernels::fixed::sum(work.x[i], work.shifted[i]);
  }

  /// to = second between(first x), x being the inputs
  template <class Matrix, class Between>
  static void low_rank(const Matrix& first, const Matrix& second, Between&& between, Int* to,
                       Workspace& work) noexcept {
    multiply(first, work.inputs, work.hidden);
    for (std::size_t i = 0; i < first.rows; ++i) work.hidden[i] = between(work.hidden[i]);
    work.inputs.take(work.hidden, first.rows);
    multiply(second, work.inputs, to);
  }

  template <class Matrix>
  void time_mix(const TimeMixWeights<Matrix>& p, Eigenvalues eigenvalues, std::size_t layer,
                Workspace& work) noexcept {
    namespace fx = kernels::fixed;
    using fx::from_float, fx::sigmoid, fx::product, fx::sum;
    const auto same = [](Int x) { return x; };
    exchange(layer, 0, work);
    shift(p.x_r, work);
    multiply(p.receptance, work.inputs, work.r);
    shift(p.x_k, work);
    multiply(p.key, work.inputs, work.k);
    shift(p.x_w, work);
    low_rank(
        p.w1, p.w2, [](Int x) { return fx::tanh(x); }, work.w, work);
    shift(p.x_a, work);
    low_rank(p.a1, p.a2, same, work.a, work);
    shift(p.x_g, work);
    low_rank(
        p.g1, p.g2, [](Int x) { return (sigmoid(x) + (1 << 13)) >> 14; }, work.g, work);
    shift(p.x_v, work);
    multiply(p.value, work.inputs, work.v);
    if (p.v0 == nullptr) {
      for (std::size_t i = 0; i < C; ++i) work.v_first[i] = work.v[i];
    } else {
      low_rank(p.v1, p.v2, same, work.b, work);
      for (std::size_t i = 0; i < C; ++i) {
        const Int mix = sigmoid(sum(from_float(p.v0[i]), work.b[i]));
        work.v[i] = product<fx::unit_fraction>(work.v_first[i] - work.v[i], mix, work.v[i]);
      }
    }
    const bool extended = eigenvalues == Eigenvalues::extended;
    for (std::size_t i = 0; i < C; ++i) {
      work.kk[i] = product<fx::fraction>(work.k[i], from_float(p.k_k[i]));
      work.w[i] = fx::decay(sigmoid(sum(from_float(p.w0[i]), work.w[i])));
      work.a[i] = sigmoid(sum(from_float(p.a0[i]), work.a[i]));
      const Int rate = fx::scaled(work.a[i], extended ? -13 : -14);
      constexpr Int one = 1 << fx::fraction;
      const Int factor = product<fx::fraction>(rate - one, from_float(p.k_a[i]), one);
      work.k[i] = product<fx::fraction>(work.k[i], factor);
    }
    for (std::size_t h = 0; h < H; ++h) head(p, extended, layer, h, work);
    work.inputs.take(work.shifted, C);
    add_product(p.output, work);
  }

  /// shifted = (GN(y) + (r . k r_k) v) g for the channels of a head
  template <class Matrix>
  void head(const TimeMixWeights<Matrix>& p, bool extended, std::size_t layer, std::size_t h,
            Workspace& work) noexcept {
    namespace fx = kernels::fixed;
    using fx::product;
    const std::size_t first = h * N;
    std::int16_t* const of_layer = values_ + layer * layer_size;
    Int* const kk = work.kk + first;
    Int* const b = work.b + first;
    fx::unit_length(kk, kk, N);
    for (std::size_t j = 0; j < N; ++j) {
      b[j] = product<fx::unit_fraction>(kk[j], work.a[first + j]);
      if (extended) b[j] = product<fx::unit_fraction>(b[j], work.w[first + j]);
    }
    const int exponent =
        fx::advance_head({work.r + first, work.w + first, work.k + first, work.v + first, kk, b,
                          extended ? fx::unit_fraction - 1 : fx::unit_fraction},
                         N,
                         {of_layer + matrices + first * N, of_layer + row_exponents + first,
                          of_layer + magnitudes + first},
                         work.values, work.rows);
    Int* const y = work.shifted + first;
    for (std::size_t i = 0; i < N; ++i) y[i] = work.values[i].sum;
    fx::normalise(y, exponent, N, head_root, p.ln_x.weight + first, p.ln_x.bias + first,
                  p.ln_x.epsilon, y);
    std::int64_t bonus = 0;
    for (std::size_t j = 0; j < N; ++j)
      bonus += product<fx::fraction>(product<fx::fraction>(work.r[first + j], work.k[first + j]),
                                     fx::from_float(p.r_k[first + j]));
    const Int times = fx::saturated(bonus);
    for (std::size_t i = 0; i < N; ++i)
      y[i] = product<fx::fraction>(product<fx::fraction>(times, work.v[first + i], y[i]),
                                   work.g[first + i]);
  }

  template <class Matrix>
  void channel_mix(const ChannelMixWeights<Matrix>& p, std::size_t layer,
                   Workspace& work) noexcept {
    exchange(layer, 1, work);
    shift(p.x_k, work);
    multiply(p.key, work.inputs, work.hidden);
    work.inputs.take_relu_squared(work.hidden, p.value.cols);
    add_product(p.value, work);
  }

  /// False: the executor has given up.
  template <class View, class Exec>
  bool read(const View& weights, Token token, bool wanted, Workspace& work, Exec& exec) noexcept {
    namespace fx = kernels::fixed;
    fx::row_of(weights.emb(), token, C, work.x);
    if (const NormWeights ln0 = weights.ln0(); ln0.weight != nullptr) {
      norm(ln0, work);
      for (std::size_t i = 0; i < C; ++i) work.x[i] = work.u[i];
    }
    for (std::size_t i = 0; i < L; ++i) {
      if (!proceed(exec)) return false;
      const auto block = weights.block(i);
      norm(block.ln1, work);
      time_mix(block.att, weights.eigenvalues(), i, work);
      norm(block.ln2, work);
      channel_mix(block.ffn, i, work);
    }
    if (!wanted) return true;
    norm(weights.ln_out(), work);
    work.inputs.take(work.u, C);
    multiply_to_floats(weights.head(), work.inputs, work.logits().data());
    return true;
  }

  std::int16_t values_[L * layer_size]{};
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
