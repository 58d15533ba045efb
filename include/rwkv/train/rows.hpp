// SPDX-License-Identifier: Apache-2.0
// How several sequences become one matrix: their tokens are rows, one sequence after the other.
// Everything but the token shift and the recurrence treats rows alike.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/state.hpp>
#include <rwkv/train/recurrence.hpp>
#include <rwkv/train/rounding.hpp>

#include <vector>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// One sequence inside a pass.
struct SequenceRows {
  std::size_t begin = 0;                    ///< first row
  std::size_t count = 0;                    ///< tokens
  std::size_t first_checkpoint = 0;         ///< index of its first stored recurrent state
  const State<>* initial = nullptr;         ///< null: all zeros
  State<>* initial_gradient = nullptr;      ///< added to, if not null
  State<>* initial_gradient_sum = nullptr;  ///< the same, for a state that several sequences share
};

/// The rows of one pass.
struct Rows {
  std::vector<SequenceRows> sequences;
  std::size_t count = 0;
  std::size_t checkpoints = 0;
  Precision precision = Precision::exact;  // of the inputs of the large matrices

  void clear() {
    sequences.clear();
    count = checkpoints = 0;
  }
  void append(std::size_t tokens, const State<>* initial, State<>* gradient,
              State<>* gradient_sum) {
    sequences.push_back({count, tokens, checkpoints, initial, gradient, gradient_sum});
    count += tokens;
    checkpoints += train::checkpoints(tokens);
  }
};

/// Calls f(begin, count) over blocks of rows that are small enough for a block of activations to
/// stay in the second-level cache from one product to the next, and large enough for products to
/// run at full speed.
inline constexpr std::size_t row_block = 128;
template <class F>
void for_row_blocks(std::size_t rows, F f) {
  for (std::size_t begin = 0; begin < rows; begin += row_block)
    f(begin, rows - begin < row_block ? rows - begin : row_block);
}

/// Hands out aligned pieces of one allocation that is kept between passes and only ever grows.
/// `lay_out` measures it first, then hands out the same pieces for real.
class Arena {
 public:
  /// A piece of `n` floats; contents are whatever was there.
  float* take(std::size_t n) {
    constexpr std::size_t grain = alignment / sizeof(float);
    float* p = storage_.size() == 0 ? nullptr : storage_.data() + used_;
    used_ += (n + grain - 1) / grain * grain;
    RWKV_ASSERT(storage_.size() == 0 || used_ <= storage_.size());
    return p;
  }

  /// Calls plan(*this), which takes pieces, once to measure and once for real.
  template <class Plan>
  void lay_out(Plan plan) {
    Arena measure;
    plan(measure);
    if (measure.used_ > storage_.size()) storage_ = Buffer<float, dynamic>(measure.used_);
    used_ = 0;
    plan(*this);
  }

 private:
  Buffer<float, dynamic> storage_;
  std::size_t used_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
