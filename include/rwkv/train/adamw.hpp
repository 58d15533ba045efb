// SPDX-License-Identifier: Apache-2.0
// AdamW over flat buffers that are divided into segments with their own learning rate and weight
// decay.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/core/error.hpp>
#include <rwkv/exec/serial.hpp>

#include <span>
#include <vector>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

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

  /// For `size` numbers. Throws `Error` (argument) for a segment that reaches beyond them.
  AdamW(std::size_t size, std::vector<Segment> segments, const Options& options)
      : options_(options), segments_(std::move(segments)), m_(size), v_(size) {
    for (const Segment& s : segments_)
      if (s.begin > size || s.size > size - s.begin)
        fail_with(ErrorCategory::argument, "a segment of ", s.size, " numbers from ", s.begin,
                  " on is not among ", size);
  }

  /// First and second moments, for checkpoints.
  [[nodiscard]] std::span<float> first_moment() noexcept { return {m_.data(), m_.size()}; }
  [[nodiscard]] std::span<float> second_moment() noexcept { return {v_.data(), v_.size()}; }
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }
  void set_steps(std::uint64_t steps) noexcept { steps_ = steps; }

  /// Euclidean norm of a gradient. Throws `Error` (argument) for one of another size.
  [[nodiscard]] double norm(std::span<const float> gradient) const;

  /// One update. `gradient_norm` is that of `gradient`, needed for clipping. Throws `Error`
  /// (argument) for numbers of another size, with nothing changed.
  void step(std::span<float> parameters, std::span<const float> gradient, double gradient_norm,
            double learning_rate, ExecutorRef executor);

 private:
  void require_size(std::size_t size, const char* name) const {
    if (size != m_.size())
      fail_with(ErrorCategory::argument, size, " numbers in ", name, " of an optimizer of ",
                m_.size());
  }

  struct Factors {
    float scale, keep, rate, root;
  };

  void update(float* x, const float* gradient, std::size_t begin, Range range,
              const Factors& f) noexcept;

  Options options_;
  std::vector<Segment> segments_;
  Buffer<float, dynamic> m_, v_;
  std::uint64_t steps_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/adamw.ipp>
#endif
