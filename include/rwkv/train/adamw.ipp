// SPDX-License-Identifier: Apache-2.0
// The definitions of train/adamw.hpp.
#pragma once

#include <rwkv/kernels/elementwise.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/train/adamw.hpp>

#include <algorithm>
#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

RWKV_FUNCTION double AdamW::norm(std::span<const float> gradient) const {
  require_size(gradient.size(), "the gradient");
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

RWKV_FUNCTION void AdamW::step(std::span<float> parameters, std::span<const float> gradient,
                               double gradient_norm, double learning_rate, ExecutorRef executor) {
  require_size(parameters.size(), "the parameters");
  require_size(gradient.size(), "the gradient");
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

RWKV_FUNCTION void AdamW::update(float* x, const float* gradient, std::size_t begin, Range range,
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

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
