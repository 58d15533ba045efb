// SPDX-License-Identifier: Apache-2.0
// AdamW over flat buffers that are divided into segments with their own learning rate and weight
// decay.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/elementwise.hpp>
#include <rwkv/simd/native.hpp>

#include <cmath>
#include <span>
#include <vector>

namespace rwkv::inline RWKV_ABI::train {

/// A stretch of the buffer that is treated alike.
struct Segment {
  std::size_t begin = 0;
  std::size_t size = 0;
  float rate = 1.0f;   ///< factor of the learning rate
  bool decay = false;  ///< subject to weight decay
};

/// The optimizer and its moments. Deterministic: independent of the number of threads.
class AdamW {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.99;
    double epsilon = 1e-18;
    double weight_decay = 0.001;
    double clip = 1.0;  ///< largest norm of the whole gradient; 0: no limit
  };

  AdamW(std::size_t size, std::vector<Segment> segments, const Options& options)
      : options_(options), segments_(std::move(segments)), m_(size), v_(size) {}

  /// First and second moments, for checkpoints.
  [[nodiscard]] std::span<float> first_moment() noexcept { return {m_.data(), m_.size()}; }
  [[nodiscard]] std::span<float> second_moment() noexcept { return {v_.data(), v_.size()}; }
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }
  void set_steps(std::uint64_t steps) noexcept { steps_ = steps; }

  /// Euclidean norm of a gradient.
  [[nodiscard]] double norm(std::span<const float> gradient) const noexcept {
    double sum = 0.0;
    for (const Segment& s : segments_) {
      // Short pieces in float, their sums in double: as exact as needed at the speed of float.
      constexpr std::size_t piece = 1024;
      for (std::size_t i = s.begin; i < s.begin + s.size; i += piece) {
        const float* g = gradient.data() + i;
        sum += static_cast<double>(kernels::reduce<simd::Native>(
            (std::min)(piece, s.begin + s.size - i), [g]<class V>(std::size_t j, V t) {
              const V x = V::load(g + j);
              return fma(x, x, t);
            }));
      }
    }
    return std::sqrt(sum);
  }

  /// One update. `gradient_norm` is that of `gradient`, needed for clipping.
  template <Executor E>
  void step(std::span<float> parameters, std::span<const float> gradient, double gradient_norm,
            double learning_rate, E& executor) {
    ++steps_;
    const auto n = static_cast<double>(steps_);
    const double clip =
        options_.clip > 0.0 && gradient_norm > options_.clip ? options_.clip / gradient_norm : 1.0;
    const double correction1 = 1.0 - std::pow(options_.beta1, n);
    const double correction2 = 1.0 - std::pow(options_.beta2, n);
    const std::size_t workers = executor.concurrency();
    executor.parallel(workers, [&](std::size_t worker) {
      for (const Segment& s : segments_) {
        const Range range = share(s.size, workers, worker, alignment / sizeof(float));
        const double rate = learning_rate * static_cast<double>(s.rate);
        update(parameters.data() + s.begin, gradient.data() + s.begin, s.begin, range,
               {.scale = static_cast<float>(clip),
                .keep = static_cast<float>(1.0 - (s.decay ? rate * options_.weight_decay : 0.0)),
                .rate = static_cast<float>(rate / correction1),
                .root = static_cast<float>(1.0 / std::sqrt(correction2))});
      }
    });
  }

 private:
  struct Factors {
    float scale, keep, rate, root;
  };

  void update(float* x, const float* gradient, std::size_t begin, Range range,
              const Factors& f) noexcept {
    float *m = m_.data() + begin, *v = v_.data() + begin;
    const auto b1 = static_cast<float>(options_.beta1), b2 = static_cast<float>(options_.beta2);
    const auto c1 = static_cast<float>(1.0 - options_.beta1),
               c2 = static_cast<float>(1.0 - options_.beta2);
    const auto epsilon = static_cast<float>(options_.epsilon);
    kernels::map<simd::Native>(range, [=]<class V>(std::size_t i) {
      const V g = V::load(gradient + i) * V::broadcast(f.scale);
      const V mi = fma(V::load(m + i), V::broadcast(b1), g * V::broadcast(c1));
      const V vi = fma(V::load(v + i), V::broadcast(b2), g * g * V::broadcast(c2));
      mi.store(m + i);
      vi.store(v + i);
      const V denominator = fma(sqrt(vi), V::broadcast(f.root), V::broadcast(epsilon));
      const V kept = V::load(x + i) * V::broadcast(f.keep);
      fma(mi / denominator, V::broadcast(-f.rate), kept).store(x + i);
    });
  }

  Options options_;
  std::vector<Segment> segments_;
  Buffer<float, dynamic> m_, v_;
  std::uint64_t steps_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI::train
