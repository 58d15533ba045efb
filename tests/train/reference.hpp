// SPDX-License-Identifier: Apache-2.0
// RWKV-7 token by token in double, in the order of its equations and with no thought for speed:
// the second witness for losses and, through finite differences, for gradients.
#pragma once

#include <rwkv/train/objective.hpp>
#include <rwkv/train/parameters.hpp>

#include <cmath>
#include <span>
#include <vector>

namespace test {

using Vector = std::vector<double>;

/// Numbers of a `Parameters` or `State` buffer in double, in the same order.
inline Vector widen(std::span<const float> values) { return {values.begin(), values.end()}; }

class Reference {
 public:
  explicit Reference(const rwkv::train::Layout& layout)
      : layout_(layout),
        layers_(layout.shape().layers()),
        c_(layout.shape().embed()),
        n_(layout.shape().head_size()),
        extended_(layout.eigenvalues() == rwkv::Eigenvalues::extended) {}

  /// Logits [V] after every token. `state` (the order of State::values, that is S as [key][value])
  /// is advanced.
  [[nodiscard]] std::vector<Vector> logits(const Vector& parameters,
                                           std::span<const rwkv::Token> tokens,
                                           Vector& state) const {
    const auto p = layout_.globals(parameters.data());
    std::vector<Vector> out;
    std::vector<Cached> cached(layout_.sparse().blocks);  // empty: a text begins
    for (Cached& c : cached) c.ffn_x_prev.resize(c_);
    for (const rwkv::Token token : tokens) {
      Vector x =
          layer_norm({p.emb + token * c_, p.emb + (token + 1) * c_}, p.ln0.weight, p.ln0.bias);
      Vector v_first;
      const auto rwkv_block = [&](std::size_t i) {
        const auto block = layout_.block(i, parameters.data());
        double* att_x_prev = state.data() + i * (2 * c_ + c_ * n_);
        double* ffn_x_prev = att_x_prev + c_;
        add(x, time_mix(block, layer_norm(x, block.ln1.weight, block.ln1.bias), v_first, att_x_prev,
                        ffn_x_prev + c_));
        add(x, channel_mix(block, layer_norm(x, block.ln2.weight, block.ln2.bias), ffn_x_prev,
                           layout_.shape().ffn(), token));
      };
      const auto sparse_block = [&](std::size_t j) {
        const auto block = layout_.sparse_block(j, parameters.data());
        add(x, attention(block, layer_norm(x, block.ln1.weight, block.ln1.bias), cached[j]));
        add(x, channel_mix(block, layer_norm(x, block.ln2.weight, block.ln2.bias),
                           cached[j].ffn_x_prev.data(), layout_.sparse().ffn, token));
      };
      layout_.for_blocks(rwkv_block, sparse_block);
      out.push_back(
          matrix(p.head, layer_norm(x, p.ln_out.weight, p.ln_out.bias), layout_.shape().vocab()));
    }
    return out;
  }

  /// Sum over the sample of weight * cross-entropy, plus, if wanted, the term whose gradient L2Wrap
  /// adds.
  [[nodiscard]] double loss(const Vector& parameters, const rwkv::train::Sample& sample,
                            Vector state, bool l2wrap) const {
    const std::size_t count = sample.predictions();
    const auto rows = logits(parameters, sample.tokens.first(count), state);
    double sum = 0.0;
    for (std::size_t t = 0; t < count; ++t) {
      const rwkv::Token target = sample.targets.empty() ? sample.tokens[t + 1] : sample.targets[t];
      const double weight = sample.weights.empty() ? 1.0 : double{sample.weights[t]};
      const double largest = *std::max_element(rows[t].begin(), rows[t].end());
      double partition = 0.0;
      for (const double logit : rows[t]) partition += std::exp(logit - largest);
      sum += weight * (std::log(partition) + largest - rows[t][target]);
      if (l2wrap) sum += weight * 0.5e-4 * largest * largest;
    }
    return sum;
  }

 private:
  using Block = rwkv::train::BlockTensors<const double*>;

  /// What a sparse block remembers.
  struct Cached {
    std::vector<Vector> k, v;
    Vector ffn_x_prev;
  };

  /// The paper's sparse attention: per head, the own chunk and the best of the complete ones.
  Vector attention(const rwkv::train::SparseTensors<const double*>& p, const Vector& u,
                   Cached& cached) const {
    const auto& config = layout_.sparse().config;
    const Vector q = matrix(p.att.receptance, u, c_);
    cached.k.push_back(matrix(p.att.key, u, c_));
    cached.v.push_back(matrix(p.att.value, u, c_));
    const std::size_t own = (cached.k.size() - 1) / config.chunk;
    Vector y(c_);
    for (std::size_t head = 0; head < c_; head += 64) {
      const auto score = [&](std::size_t e) {
        double sum = 0.0;
        for (std::size_t j = head; j < head + 64; ++j) sum += q[j] * cached.k[e][j];
        return sum / 8.0;
      };
      std::vector<std::pair<double, std::size_t>> chunks;
      for (std::size_t m = 0; m < own; ++m) {
        double sum = 0.0;
        for (std::size_t e = m * config.chunk; e < (m + 1) * config.chunk; ++e) sum -= score(e);
        chunks.push_back({sum, m});
      }
      std::sort(chunks.begin(), chunks.end());
      if (config.mode == rwkv::AttentionMode::sparse && chunks.size() > config.top_k - 1)
        chunks.resize(config.top_k - 1);
      chunks.push_back({0.0, own});
      double total = 0.0;
      Vector sum(64);
      for (const auto& [unused, m] : chunks)
        for (std::size_t e = m * config.chunk;
             e < std::min((m + 1) * config.chunk, cached.k.size()); ++e) {
          const double weight = std::exp(score(e));
          total += weight;
          for (std::size_t j = 0; j < 64; ++j) sum[j] += weight * cached.v[e][head + j];
        }
      for (std::size_t j = 0; j < 64; ++j) y[head + j] = sum[j] / total;
    }
    return matrix(p.att.output, y, c_);
  }

  static double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
  static void add(Vector& x, const Vector& y) {
    for (std::size_t j = 0; j < x.size(); ++j) x[j] += y[j];
  }

  /// Zero mean and unit variance over x[begin, begin + n).
  static void standardise(Vector& x, std::size_t begin, std::size_t n, double epsilon) {
    double mean = 0.0, variance = 0.0;
    for (std::size_t j = begin; j < begin + n; ++j) mean += x[j] / static_cast<double>(n);
    for (std::size_t j = begin; j < begin + n; ++j)
      variance += (x[j] - mean) * (x[j] - mean) / static_cast<double>(n);
    for (std::size_t j = begin; j < begin + n; ++j)
      x[j] = (x[j] - mean) / std::sqrt(variance + epsilon);
  }

  static Vector layer_norm(Vector x, const double* weight, const double* bias) {
    standardise(x, 0, x.size(), 1e-5);
    for (std::size_t j = 0; j < x.size(); ++j) x[j] = x[j] * weight[j] + bias[j];
    return x;
  }

  /// m x for m [out, in]
  static Vector matrix(const double* m, const Vector& x, std::size_t out) {
    Vector y(out);
    const std::size_t n = x.size();
    for (std::size_t o = 0; o < out; ++o, m += n) {
      double sum[4] = {};  // a chain each: tests wait for these products
      std::size_t i = 0;
      for (; i + 4 <= n; i += 4) {
        sum[0] += m[i] * x[i];
        sum[1] += m[i + 1] * x[i + 1];
        sum[2] += m[i + 2] * x[i + 2];
        sum[3] += m[i + 3] * x[i + 3];
      }
      for (; i < n; ++i) sum[0] += m[i] * x[i];
      y[o] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
    return y;
  }

  /// f(x m1) m2 for m1 [in, rank], m2 [rank, in]
  template <class F>
  static Vector low_rank(const Vector& x, const double* m1, const double* m2, std::size_t rank,
                         F f) {
    const std::size_t n = x.size();
    Vector low(rank), y(n);
    for (std::size_t d = 0; d < rank; ++d) {
      for (std::size_t i = 0; i < n; ++i) low[d] += x[i] * m1[i * rank + d];
      low[d] = f(low[d]);
    }
    for (std::size_t d = 0; d < rank; ++d)
      for (std::size_t o = 0; o < n; ++o) y[o] += low[d] * m2[d * n + o];
    return y;
  }

  /// The token-shifted input of one projection.
  Vector shifted(const Vector& x, const double* previous, const double* mu) const {
    Vector mixed(c_);
    for (std::size_t j = 0; j < c_; ++j) mixed[j] = x[j] + (previous[j] - x[j]) * mu[j];
    return mixed;
  }

  Vector time_mix(const Block& p, const Vector& x, Vector& v_first, double* x_prev,
                  double* state) const {
    const auto& shape = layout_.shape();
    const auto tanh = [](double u) { return std::tanh(u); };
    const auto same = [](double u) { return u; };
    const auto mix = [&](const double* mu) { return shifted(x, x_prev, mu); };

    const Vector r = matrix(p.att.receptance, mix(p.att.x_r), c_);
    Vector k = matrix(p.att.key, mix(p.att.x_k), c_);
    const Vector xv = mix(p.att.x_v);
    Vector v = matrix(p.att.value, xv, c_);
    Vector w = low_rank(mix(p.att.x_w), p.att.w1, p.att.w2, shape.decay_rank(), tanh);
    Vector a = low_rank(mix(p.att.x_a), p.att.a1, p.att.a2, shape.icl_rank(), same);
    const Vector g = low_rank(mix(p.att.x_g), p.att.g1, p.att.g2, shape.gate_rank(), sigmoid);
    for (std::size_t j = 0; j < c_; ++j) {
      w[j] = std::exp(-std::exp(-0.5) * sigmoid(p.att.w0[j] + w[j]));
      a[j] = (extended_ ? 2.0 : 1.0) * sigmoid(p.att.a0[j] + a[j]);
    }
    if (v_first.empty()) {
      v_first = v;
    } else {
      const Vector gate = low_rank(xv, p.att.v1, p.att.v2, shape.value_rank(), same);
      for (std::size_t j = 0; j < c_; ++j)
        v[j] += (v_first[j] - v[j]) * sigmoid(p.att.v0[j] + gate[j]);
    }
    Vector kk(c_);
    for (std::size_t j = 0; j < c_; ++j) {
      kk[j] = k[j] * p.att.k_k[j];
      k[j] *= 1.0 + (a[j] - 1.0) * p.att.k_a[j];
    }

    Vector y(c_), out(c_);
    for (std::size_t head = 0; head < c_; head += n_) {
      double length = 0.0, bonus = 0.0;
      for (std::size_t j = head; j < head + n_; ++j) {
        length += kk[j] * kk[j];
        bonus += r[j] * k[j] * p.att.r_k[j];
      }
      length = std::max(std::sqrt(length), 1e-12);
      for (std::size_t i = 0; i < n_; ++i) {  // one value channel after the other
        const auto s = [&](std::size_t j) -> double& { return state[(head + j) * n_ + i]; };
        double sa = 0.0;
        for (std::size_t j = 0; j < n_; ++j) sa -= s(j) * kk[head + j] / length;
        for (std::size_t j = 0; j < n_; ++j) {
          const std::size_t at = head + j;
          const double b = kk[at] / length * a[at] * (extended_ ? w[at] : 1.0);
          s(j) = s(j) * w[at] + sa * b + v[head + i] * k[at];
          y[head + i] += s(j) * r[at];
        }
      }
      standardise(y, head, n_, 64e-5);
      for (std::size_t j = head; j < head + n_; ++j)
        out[j] = (y[j] * p.att.ln_x.weight[j] + p.att.ln_x.bias[j] + bonus * v[j]) * g[j];
    }
    std::copy(x.begin(), x.end(), x_prev);
    return matrix(p.att.output, out, c_);
  }

  template <class AnyBlock>
  Vector channel_mix(const AnyBlock& p, const Vector& x, double* x_prev, std::size_t ffn,
                     rwkv::Token token) const {
    Vector h = matrix(p.ffn.key, shifted(x, x_prev, p.ffn.x_k), ffn);
    for (double& u : h) u = std::max(0.0, u) * std::max(0.0, u);
    if (p.ffn.s0 != nullptr) {
      const std::size_t rank = layout_.shape().deep_rank();
      const double* const table = p.ffn.s_emb + token * rank * rank;
      Vector low(rank), mixed(rank);
      for (std::size_t i = 0; i < rank; ++i)
        for (std::size_t c = 0; c < c_; ++c) low[i] += x[c] * p.ffn.s1[c * rank + i];
      for (std::size_t j = 0; j < rank; ++j)
        for (std::size_t i = 0; i < rank; ++i) mixed[j] += low[i] * table[i * rank + j];
      for (std::size_t f = 0; f < ffn; ++f) {
        double gate = p.ffn.s0[f];
        for (std::size_t j = 0; j < rank; ++j) gate += mixed[j] * p.ffn.s2[j * ffn + f];
        h[f] *= gate;
      }
    }
    std::copy(x.begin(), x.end(), x_prev);
    return matrix(p.ffn.value, h, c_);
  }

  const rwkv::train::Layout& layout_;
  std::size_t layers_, c_, n_;
  bool extended_;
};

}  // namespace test
