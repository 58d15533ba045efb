// SPDX-License-Identifier: Apache-2.0
// Sparse attention with its backward pass, in the paper's semantics and without a cap: a token
// reads its own chunk up to itself and, per head, the top_k - 1 complete chunks before it that suit
// its query best.
//
//   u = LN(x)   q = Wr u   k = Wk u   v = Wv u   p = softmax(q k / 8)   x += Wo (p v)
//
// The choice of chunks is taken as given by the backward pass, which recomputes it.
#pragma once

#include <rwkv/sparse_attention.hpp>
#include <rwkv/train/head.hpp>
#include <rwkv/train/matrix_view.hpp>
#include <rwkv/train/parameters.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What the backward pass needs to know.
struct SparseAttentionTape {
  float *x_hat = nullptr, *scale = nullptr;                      // [R, C], [R]
  float *q = nullptr, *k = nullptr, *v = nullptr, *y = nullptr;  // [R, C]

  SparseAttentionTape() = default;
  SparseAttentionTape(Arena& arena, std::size_t rows, std::size_t c) {
    scale = arena.take(rows);
    for (float** p : {&x_hat, &q, &k, &v, &y}) *p = arena.take(rows * c);
  }
};

/// Scratch shared by all sparse blocks.
struct SparseAttentionScratch {
  float *u = nullptr, *du = nullptr, *dy = nullptr;   // [R, C]
  float *dq = nullptr, *dk = nullptr, *dv = nullptr;  // [R, C]
  float *p = nullptr, *dp = nullptr;                  // [row_block, R]
  float* sums = nullptr;                              // [R / chunk, 64]

  SparseAttentionScratch() = default;
  SparseAttentionScratch(Arena& arena, std::size_t rows, std::size_t c, std::size_t chunk) {
    for (float** part : {&u, &du, &dy, &dq, &dk, &dv}) *part = arena.take(rows * c);
    for (float** part : {&p, &dp}) *part = arena.take(row_block * rows);
    sums = arena.take(rows / chunk * kernels::attention_width);
  }
};

/// One sparse block's attention, forward and backward.
class SparseAttention {
 public:
  SparseAttention(const HybridConfig& config, const SparseTensors<const float*>& p,
                  const Rows& rows, std::size_t channels, const SparseAttentionTape& t,
                  const SparseAttentionScratch& s)
      : config_(config), p_(p), rows_(rows), c_(channels), t_(t), s_(s) {}

  /// x [R, C] is updated in place.
  void forward(float* x) const {
    for (std::size_t row = 0; row < rows_.count; ++row)
      t_.scale[row] =
          standardise(x + row * c_, t_.x_hat + row * c_, c_, kernels::layer_norm_epsilon);
    restore_input();
    for (const auto& [w, to] :
         {std::pair{p_.att.receptance, t_.q}, {p_.att.key, t_.k}, {p_.att.value, t_.v}})
      multiply_transposed(s_.u, w, to, rows_.count, c_, c_);
    for_heads([&](const SequenceRows& sequence, std::size_t channel) {
      for_row_blocks(sequence.count, [&](std::size_t begin, std::size_t count) {
        softmax(sequence, channel, begin, count);
        const std::size_t seen = begin + count;
        head(t_.y, sequence.begin + begin, channel, count).noalias() =
            detail::matrix(s_.p, count, seen) * head(t_.v, sequence.begin, channel, seen);
      });
    });
    multiply_transposed(t_.y, p_.att.output, x, rows_.count, c_, c_, Store::add);
  }

  /// dx [R, C]: gradient after the mixer -> before it. Parameter gradients are added to g (null
  /// members: not wanted).
  void backward(float* dx, const SparseTensors<float*>& g) const {
    restore_input();
    multiply(dx, p_.att.output, s_.dy, rows_.count, c_, c_);
    if (g.att.output != nullptr) add_outer(dx, t_.y, g.att.output, rows_.count, c_, c_);
    std::fill_n(s_.dk, rows_.count * c_, 0.0f);
    std::fill_n(s_.dv, rows_.count * c_, 0.0f);
    for_heads([&](const SequenceRows& sequence, std::size_t channel) {
      for_row_blocks(sequence.count, [&](std::size_t begin, std::size_t count) {
        softmax(sequence, channel, begin, count);
        const std::size_t seen = begin + count;
        const std::size_t first = sequence.begin;
        const auto p = detail::matrix(s_.p, count, seen);
        auto dp = detail::matrix(s_.dp, count, seen);
        const auto dy = head(s_.dy, first + begin, channel, count);
        dp.noalias() = dy * head(t_.v, first, channel, seen).transpose();
        for (std::size_t row = 0; row < count; ++row)
          softmax_backward(s_.p + row * seen, s_.dp + row * seen, seen);
        head(s_.dq, first + begin, channel, count).noalias() =
            dp * head(t_.k, first, channel, seen);
        head(s_.dk, first, channel, seen).noalias() +=
            dp.transpose() * head(t_.q, first + begin, channel, count);
        head(s_.dv, first, channel, seen).noalias() += p.transpose() * dy;
      });
    });
    Store store = Store::replace;
    for (const auto& [w, d, dw] : {std::tuple{p_.att.receptance, s_.dq, g.att.receptance},
                                   {p_.att.key, s_.dk, g.att.key},
                                   {p_.att.value, s_.dv, g.att.value}}) {
      multiply(d, w, s_.du, rows_.count, c_, c_, store);
      store = Store::add;
      if (dw != nullptr) add_outer(d, s_.u, dw, rows_.count, c_, c_);
    }
    for (std::size_t row = 0; row < rows_.count; ++row) {
      const float* x_hat = t_.x_hat + row * c_;
      float* d = s_.du + row * c_;
      affine_backward(p_.ln1.weight, x_hat, d, g.ln1.weight, g.ln1.bias, c_);
      standardise_backward(d, x_hat, t_.scale[row], dx + row * c_, c_, Store::add);
    }
  }

 private:
  static constexpr std::size_t width = kernels::attention_width;
  static constexpr float scale = 0.125f;  // 1 / sqrt(64)
  template <class T>
  using Head = Eigen::Map<T, 0, Eigen::OuterStride<>>;

  /// One head's [count, 64] from row `row` on.
  [[nodiscard]] Head<const detail::RowMajor> head(const float* of, std::size_t row,
                                                  std::size_t channel, std::size_t count) const {
    return Head<const detail::RowMajor>(of + row * c_ + channel, static_cast<Eigen::Index>(count),
                                        width, Eigen::OuterStride<>(static_cast<Eigen::Index>(c_)));
  }
  [[nodiscard]] Head<detail::RowMajor> head(float* of, std::size_t row, std::size_t channel,
                                            std::size_t count) const {
    return Head<detail::RowMajor>(of + row * c_ + channel, static_cast<Eigen::Index>(count), width,
                                  Eigen::OuterStride<>(static_cast<Eigen::Index>(c_)));
  }

  template <class F>
  void for_heads(F f) const {
    for (const SequenceRows& sequence : rows_.sequences)
      for (std::size_t channel = 0; channel < c_; channel += width) {
        sum_chunks(sequence, channel);
        f(sequence, channel);
      }
  }

  void restore_input() const {
    for (std::size_t row = 0; row < rows_.count; ++row) {
      const float* x_hat = t_.x_hat + row * c_;
      float* u = s_.u + row * c_;
      kernels::map<Lanes>({0, c_}, [&]<class V>(std::size_t j) {
        fma(V::load(x_hat + j), V::load(p_.ln1.weight + j), V::load(p_.ln1.bias + j)).store(u + j);
      });
    }
  }

  void sum_chunks(const SequenceRows& sequence, std::size_t channel) const {
    for (std::size_t m = 0; m < sequence.count / config_.chunk; ++m) {
      float* sum = s_.sums + m * width;
      std::fill_n(sum, width, 0.0f);
      for (std::size_t e = m * config_.chunk; e < (m + 1) * config_.chunk; ++e)
        kernels::add<Lanes>(t_.k + (sequence.begin + e) * c_ + channel, sum, width);
    }
  }

  /// p [count, begin + count]: the weights with which tokens [begin, begin + count) of a sequence
  /// read its tokens; 0 where they do not.
  void softmax(const SequenceRows& sequence, std::size_t channel, std::size_t begin,
               std::size_t count) const {
    const std::size_t seen = begin + count;
    detail::matrix(s_.p, count, seen).noalias() =
        head(t_.q, sequence.begin + begin, channel, count) *
        head(t_.k, sequence.begin, channel, seen).transpose();
    for (std::size_t row = 0; row < count; ++row) {
      const std::size_t now = begin + row;
      float* p = s_.p + row * seen;
      const float* q = t_.q + (sequence.begin + now) * c_ + channel;
      // The parts that are read move no number: what lies between them becomes -infinity.
      constexpr float never = -std::numeric_limits<float>::infinity();
      std::fill(p + now + 1, p + seen, never);
      const std::size_t own = now / config_.chunk;
      if (config_.mode == AttentionMode::sparse && own >= config_.top_k) {
        rwkv::detail::BestChunks best(config_.top_k - 1);
        if (config_.top_k > 1)
          for (std::size_t m = 0; m < own; ++m)
            best.offer(m, kernels::reduce<Lanes>(
                              width, [q, k = s_.sums + m * width]<class V>(std::size_t i, V sum) {
                                return fma(V::load(q + i), V::load(k + i), sum);
                              }));
        std::size_t next = 0;
        for (const std::size_t m : best.sorted()) {
          std::fill(p + next, p + m * config_.chunk, never);
          next = (m + 1) * config_.chunk;
        }
        std::fill(p + next, p + own * config_.chunk, never);
      }
      kernels::map<Lanes>({0, seen}, [p]<class V>(std::size_t i) {
        (V::load(p + i) * V::broadcast(scale)).store(p + i);
      });
      const float most = kernels::largest<Lanes>(p, {0, seen}, never);
      const float total = 1.0f / kernels::exp_sum<Lanes>(p, {0, seen}, most);
      kernels::map<Lanes>({0, seen}, [=]<class V>(std::size_t i) {
        (V::load(p + i) * V::broadcast(total)).store(p + i);
      });
    }
  }

  /// dp -> gradient of q k, in place: p (dp - sum(p dp)) / 8
  static void softmax_backward(const float* p, float* dp, std::size_t n) {
    const float along = kernels::reduce<Lanes>(n, [=]<class V>(std::size_t i, V sum) {
      return fma(V::load(p + i), V::load(dp + i), sum);
    });
    kernels::map<Lanes>({0, n}, [=]<class V>(std::size_t i) {
      (V::load(p + i) * (V::load(dp + i) - V::broadcast(along)) * V::broadcast(scale))
          .store(dp + i);
    });
  }

  const HybridConfig& config_;
  SparseTensors<const float*> p_;
  const Rows& rows_;
  std::size_t c_;
  const SparseAttentionTape& t_;
  const SparseAttentionScratch& s_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
