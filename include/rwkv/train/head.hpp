// SPDX-License-Identifier: Apache-2.0
// The two ends of the network with their backward passes: token -> embedding -> ln0 -> x, and
// x -> ln_out -> head -> logits -> cross-entropy.
#pragma once

#include <rwkv/train/parameters.hpp>
#include <rwkv/train/shifted_norm.hpp>

#include <cmath>
#include <limits>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What a LayerNorm does after standardising: out = weight * x_hat + bias.
inline void affine(const float* weight, const float* bias, const float* x_hat, float* out,
                   std::size_t c) {
  kernels::map<Lanes>({0, c}, [=]<class V>(std::size_t j) {
    fma(V::load(x_hat + j), V::load(weight + j), V::load(bias + j)).store(out + j);
  });
}

/// x [R, C] = LN(emb[token])
inline void embed_forward(const GlobalTensors<const float*>& p, std::span<const Token> tokens,
                          const ShiftedNormTape& t, float* x, std::size_t c) {
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    float* const x_hat = t.x_hat + row * c;
    t.scale[row] = standardise(p.emb + tokens[row] * c, x_hat, c, kernels::layer_norm_epsilon);
    affine(p.ln0.weight, p.ln0.bias, x_hat, x + row * c, c);
  }
}

/// Gradient of a LayerNorm's output -> of its weight and bias (null: not wanted) and of the
/// standardised input, in place.
inline void affine_backward(const float* weight, const float* x_hat, float* d, float* dweight,
                            float* dbias, std::size_t c) {
  kernels::map<Lanes>({0, c}, [=]<class V>(std::size_t j) {
    const V x = V::load(d + j);
    if (dweight != nullptr) {
      fma(x, V::load(x_hat + j), V::load(dweight + j)).store(dweight + j);
      (V::load(dbias + j) + x).store(dbias + j);
    }
    (x * V::load(weight + j)).store(d + j);
  });
}

/// Adds the gradients of emb and ln0; dx [R, C] is used up.
inline void embed_backward(const GlobalTensors<const float*>& p, std::span<const Token> tokens,
                           const ShiftedNormTape& t, float* dx, std::size_t c,
                           const GlobalTensors<float*>& g) {
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    const float* x_hat = t.x_hat + row * c;
    float* d = dx + row * c;
    affine_backward(p.ln0.weight, x_hat, d, g.ln0.weight, g.ln0.bias, c);
    standardise_backward(d, x_hat, t.scale[row], g.emb + tokens[row] * c, c, Store::add);
  }
}

/// What the loss of a row is.
struct Target {
  Token token = 0;      ///< the token that should come next
  float weight = 0.0f;  ///< of this row in the sum; 0: the row is only context
};

/// Scratch of the head: a block of rows.
struct HeadScratch {
  std::size_t block = 0;
  float *u = nullptr, *du = nullptr;  // [block, C]
  float* logits = nullptr;            // [block, V]

  HeadScratch() = default;
  HeadScratch(Arena& arena, const DynamicShape& s)
      : block(block_rows(s.vocab())),
        u(arena.take(block * s.embed())),
        du(arena.take(block * s.embed())),
        logits(arena.take(block * s.vocab())) {}

 private:
  // Large vocabularies get fewer rows at a time: a block of logits should stay in cache.
  static constexpr std::size_t block_rows(std::size_t vocab) noexcept {
    constexpr std::size_t floats = std::size_t{1} << 18;
    return std::clamp<std::size_t>(floats / vocab, 32, row_block);
  }
};

namespace detail {

/// Cross-entropy of one row; logits become the gradient of weight * loss (with L2Wrap if wanted).
inline double cross_entropy(float* logits, std::size_t vocab, Token target, float weight,
                            float l2wrap) {
  std::size_t best = 0;
  for (std::size_t v = 1; v < vocab; ++v)
    if (logits[v] > logits[best]) best = v;
  const float largest = logits[best];
  const float at_target = logits[target];
  kernels::map<Lanes>({0, vocab}, [=]<class V>(std::size_t v) {
    kernels::exp(V::load(logits + v) - V::broadcast(largest)).store(logits + v);
  });
  const float sum = kernels::reduce<Lanes>(
      vocab, [=]<class V>(std::size_t v, V s) { return s + V::load(logits + v); });
  const float scale = weight / sum;
  kernels::map<Lanes>({0, vocab}, [=]<class V>(std::size_t v) {
    (V::load(logits + v) * V::broadcast(scale)).store(logits + v);
  });
  logits[target] -= weight;
  logits[best] += l2wrap * weight * largest;
  return std::log(static_cast<double>(sum)) + static_cast<double>(largest) -
         static_cast<double>(at_target);
}

}  // namespace detail

/// What `head_rows` is asked to do besides computing the loss.
struct HeadTask {
  std::span<const Target> targets;  ///< one per row; empty: no loss, logits only
  bool gradient = false;            ///< turn x into its gradient
  float l2wrap = 0.0f;      ///< factor of the largest logit in its own gradient, per unit of weight
  float* logits = nullptr;  ///< [R, V], or null
  Precision precision = Precision::exact;
};

/// x [R, C] -> the sum of weight * cross-entropy. x is overwritten (with its gradient if asked
/// for); the gradients of ln_out and head are added to g (null members: not wanted).
inline double head_rows(const DynamicShape& shape, const GlobalTensors<const float*>& p, float* x,
                        std::size_t rows, const HeadTask& task, const HeadScratch& s,
                        const GlobalTensors<float*>& g) {
  const std::size_t c = shape.embed(), vocab = shape.vocab();
  double loss = 0.0;
  for (std::size_t begin = 0; begin < rows; begin += s.block) {
    const std::size_t count = (std::min)(s.block, rows - begin);
    float scales[row_block];
    for (std::size_t row = 0; row < count; ++row) {
      float *const x_hat = x + (begin + row) * c, *const u = s.u + row * c;
      scales[row] = standardise(x_hat, x_hat, c, kernels::layer_norm_epsilon);
      affine(p.ln_out.weight, p.ln_out.bias, x_hat, u, c);
    }
    round_inputs(task.precision, s.u, count, c);
    multiply_transposed(s.u, p.head, s.logits, count, c, vocab);
    if (task.logits != nullptr) std::copy_n(s.logits, count * vocab, task.logits + begin * vocab);
    if (task.targets.empty()) continue;
    for (std::size_t row = 0; row < count; ++row) {
      const Target& t = task.targets[begin + row];
      float* logits = s.logits + row * vocab;
      if (t.weight == 0.0f)
        std::fill_n(logits, vocab, 0.0f);
      else
        loss += static_cast<double>(t.weight) *
                detail::cross_entropy(logits, vocab, t.token, t.weight, task.l2wrap);
    }
    if (!task.gradient) continue;
    multiply(s.logits, p.head, s.du, count, vocab, c);
    if (task.precision != Precision::exact) {
      for (std::size_t row = 0; row < count; ++row)
        affine(p.ln_out.weight, p.ln_out.bias, x + (begin + row) * c, s.u + row * c, c);
      round_inputs_backward(task.precision, s.u, s.du, count, c);
    }
    if (g.head != nullptr) add_outer(s.logits, s.u, g.head, count, vocab, c);
    for (std::size_t row = 0; row < count; ++row) {
      float *x_hat = x + (begin + row) * c, *d = s.du + row * c;
      affine_backward(p.ln_out.weight, x_hat, d, g.ln_out.weight, g.ln_out.bias, c);
      standardise_backward(d, x_hat, scales[row], x_hat, c);
    }
  }
  return loss;
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
