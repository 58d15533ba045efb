// SPDX-License-Identifier: Apache-2.0
// What the tokens of a pass did to a state, so that it can be had as it was after any of them, bit
// for bit and without the weights (rewind.hpp). Per token that is the input of the recurrence and
// the two token-shift rows, 7 C floats of a layer where its part of a state has (N + 2) C.
//
//     rwkv::RowLog log(model.shape(), 8);
//     const rwkv::Slot<> slot{.state = &state, .tokens = guesses, .log = &log};
//     model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
//     rwkv::rewind(state, log, 3);                   // as if only the first three had been fed
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/shape.hpp>

#include <cstring>
#include <span>

namespace rwkv::inline RWKV_ABI {

/// The state of one sequence before some consecutive tokens, and what each of them did to it. A
/// value type; one that was moved away has neither tokens nor room. A pass whose slot names a log
/// appends to it; passes after the first go on where it ends, or are refused.
class RowLog {
 public:
  /// Room for so many tokens. Throws std::bad_alloc.
  RowLog(const DynamicShape& shape, std::size_t capacity)
      : data_(floats(shape, capacity)), shape_(shape), capacity_(capacity) {}

  [[nodiscard]] const DynamicShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return data_.size() == 0 ? 0 : capacity_; }
  /// Tokens logged.
  [[nodiscard]] std::size_t size() const noexcept { return data_.size() == 0 ? 0 : size_; }
  [[nodiscard]] std::size_t room() const noexcept { return capacity() - size(); }
  /// The next pass begins anew, with its state as it is then.
  void clear() noexcept {
    size_ = 0;
    begun_ = false;
  }
  /// False for a log that has no state to go back to: nothing was logged.
  [[nodiscard]] bool begun() const noexcept { return data_.size() != 0 && begun_; }
  /// Forgets all but the first `tokens`. Precondition: there are as many.
  void truncate(std::size_t tokens) noexcept {
    RWKV_ASSERT(tokens <= size_);
    size_ = tokens;
  }

  /// Appends the first `tokens` of another log of this shape, which begins where this one ends (an
  /// empty one begins anew). Preconditions: it has them, and there is room.
  void append(const RowLog& other, std::size_t tokens) noexcept {
    RWKV_ASSERT(tokens <= other.size_ && tokens <= room() && shape_ == other.shape_);
    for (std::size_t i = 0; i < shape_.layers(); ++i) {
      if (size_ == 0) {
        copy(other.wkv(i).data(), wkv(i).data(), wkv(i).size());
        copy(other.att_x_prev(i).data(), att_x_prev(i).data(), stride());
        copy(other.ffn_x_prev(i).data(), ffn_x_prev(i).data(), stride());
      }
      const std::size_t count = tokens * stride();
      copy(other.att_x_prev(i).data() + stride(), att_x_prev(i).data() + (size_ + 1) * stride(),
           count);
      copy(other.ffn_x_prev(i).data() + stride(), ffn_x_prev(i).data() + (size_ + 1) * stride(),
           count);
      for (std::size_t name = 0; name < names; ++name)
        copy(other.row(i, static_cast<Name>(name), 0), row(i, static_cast<Name>(name), size_),
             count);
    }
    size_ += tokens;
    begun_ = true;
  }

  /// Bytes of the numbers.
  [[nodiscard]] std::size_t bytes() const noexcept { return data_.size() * sizeof(float); }
  /// What `bytes` says of a log for so many tokens.
  [[nodiscard]] static std::size_t bytes_for(const DynamicShape& shape,
                                             std::size_t capacity) noexcept {
    return product_or_most(floats(shape, capacity), sizeof(float));
  }

  // -- for the stages of the forward pass; layer by layer

  /// What the recurrence works on (kernels/wkv.hpp).
  enum Name : std::size_t { w, k, v, a, b };

  /// [H][N][N] before the first token.
  [[nodiscard]] std::span<float> wkv(std::size_t layer) noexcept {
    return {at(layer), shape_.embed() * shape_.head_size()};
  }
  [[nodiscard]] std::span<const float> wkv(std::size_t layer) const noexcept {
    return const_cast<RowLog*>(this)->wkv(layer);
  }
  /// The first of the rows [capacity + 1][C], `stride()` apart: the state's before the first token,
  /// then after each.
  [[nodiscard]] std::span<float> att_x_prev(std::size_t layer) noexcept {
    return {at(layer) + shape_.embed() * shape_.head_size(), shape_.embed()};
  }
  [[nodiscard]] std::span<const float> att_x_prev(std::size_t layer) const noexcept {
    return const_cast<RowLog*>(this)->att_x_prev(layer);
  }
  [[nodiscard]] std::span<float> ffn_x_prev(std::size_t layer) noexcept {
    return {att_x_prev(layer).data() + (capacity_ + 1) * stride(), shape_.embed()};
  }
  [[nodiscard]] std::span<const float> ffn_x_prev(std::size_t layer) const noexcept {
    return const_cast<RowLog*>(this)->ffn_x_prev(layer);
  }
  /// [C] of token `m`.
  [[nodiscard]] float* row(std::size_t layer, Name name, std::size_t m) noexcept {
    return att_x_prev(layer).data() +
           (2 * (capacity_ + 1) + static_cast<std::size_t>(name) * capacity_ + m) * stride();
  }
  [[nodiscard]] const float* row(std::size_t layer, Name name, std::size_t m) const noexcept {
    return const_cast<RowLog*>(this)->row(layer, name, m);
  }
  /// Floats between the rows of consecutive tokens.
  [[nodiscard]] std::size_t stride() const noexcept { return stride_of(shape_); }
  /// More tokens; the pass is about to write what they do.
  void extend(std::size_t tokens) noexcept {
    RWKV_ASSERT(tokens <= room());
    size_ += tokens;
    begun_ = true;
  }

 private:
  static constexpr std::size_t names = b + 1;

  static std::size_t stride_of(const DynamicShape& shape) noexcept {
    const std::size_t line = alignment / sizeof(float);
    return (shape.embed() + line - 1) / line * line;
  }
  static std::size_t layer_floats(const DynamicShape& shape, std::size_t capacity) noexcept {
    const std::size_t rows = product_or_most(capacity, names + 2);
    const std::size_t of_rows = product_or_most(rows, stride_of(shape));
    const std::size_t rest = shape.embed() * shape.head_size() + 2 * stride_of(shape);
    return of_rows > SIZE_MAX - rest ? SIZE_MAX : of_rows + rest;
  }
  static std::size_t floats(const DynamicShape& shape, std::size_t capacity) noexcept {
    return product_or_most(shape.layers(), layer_floats(shape, capacity));
  }
  static void copy(const float* from, float* to, std::size_t n) noexcept {
    std::memcpy(to, from, n * sizeof(float));
  }
  [[nodiscard]] float* at(std::size_t layer) noexcept {
    RWKV_ASSERT(layer < shape_.layers());
    return data_.data() + layer * layer_floats(shape_, capacity_);
  }

  Buffer<float, dynamic> data_;  // before the others: copying it throws
  DynamicShape shape_;
  std::size_t capacity_;
  std::size_t size_ = 0;
  bool begun_ = false;
};

}  // namespace rwkv::inline RWKV_ABI
