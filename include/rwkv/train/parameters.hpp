// SPDX-License-Identifier: Apache-2.0
// All parameters of a model in one flat buffer (train/layout.hpp says what is where). The same class
// holds gradients and optimizer moments: whatever has one number per parameter.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/train/layout.hpp>

#include <memory>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

namespace detail {

inline const Layout& existing(const std::shared_ptr<const Layout>& layout) {
  if (layout == nullptr) fail(ErrorCategory::argument, "there is no layout of parameters");
  return *layout;
}

}  // namespace detail

/// One float per parameter: weights, a gradient, a moment. A value type; what was moved away may be
/// assigned to and destroyed.
class Parameters {
 public:
  /// All zeros. Throws `Error` (argument) without a layout.
  explicit Parameters(std::shared_ptr<const Layout> layout)
      : data_(detail::existing(layout).buffer_size()), layout_(std::move(layout)) {}

  /// False for parameters that were moved away.
  [[nodiscard]] bool intact() const noexcept {
    return layout_ != nullptr && data_.size() == layout_->buffer_size();
  }

  [[nodiscard]] const Layout& layout() const noexcept { return *layout_; }
  [[nodiscard]] const std::shared_ptr<const Layout>& shared_layout() const noexcept {
    return layout_;
  }
  [[nodiscard]] const DynamicShape& shape() const noexcept { return layout_->shape(); }

  /// The whole buffer; the floats between tensors are zero and stay zero.
  [[nodiscard]] std::span<float> values() noexcept { return {data_.data(), data_.size()}; }
  [[nodiscard]] std::span<const float> values() const noexcept {
    return {data_.data(), data_.size()};
  }
  [[nodiscard]] std::span<float> values(const TensorInfo& t) noexcept {
    return values().subspan(t.offset, t.size);
  }
  [[nodiscard]] std::span<const float> values(const TensorInfo& t) const noexcept {
    return values().subspan(t.offset, t.size);
  }

  [[nodiscard]] BlockTensors<float*> block(std::size_t i) noexcept {
    return layout_->block(i, data_.data());
  }
  [[nodiscard]] BlockTensors<const float*> block(std::size_t i) const noexcept {
    return layout_->block(i, static_cast<const float*>(data_.data()));
  }
  [[nodiscard]] SparseTensors<float*> sparse_block(std::size_t j) noexcept {
    return layout_->sparse_block(j, data_.data());
  }
  [[nodiscard]] SparseTensors<const float*> sparse_block(std::size_t j) const noexcept {
    return layout_->sparse_block(j, static_cast<const float*>(data_.data()));
  }
  [[nodiscard]] GlobalTensors<float*> globals() noexcept { return layout_->globals(data_.data()); }
  [[nodiscard]] GlobalTensors<const float*> globals() const noexcept {
    return layout_->globals(static_cast<const float*>(data_.data()));
  }

  void set_zero() noexcept { std::fill_n(data_.data(), data_.size(), 0.0f); }

 private:
  Buffer<float, dynamic> data_;  // before the layout: copying it throws
  std::shared_ptr<const Layout> layout_;
};

namespace detail {

/// Throws `Error` (argument) if `p`, called `name`, was moved away.
inline void require_intact(const Parameters& p, const char* name) {
  if (!p.intact()) fail_with(ErrorCategory::argument, name, " were moved away");
}

/// Throws `Error` (argument, shape) unless `p` has the numbers of a model of this layout.
inline void require_layout(const Parameters& p, const Layout& layout, const char* name) {
  require_intact(p, name);
  if (p.layout() == layout) return;
  fail_with(ErrorCategory::shape, name, " are those of another model: ",
            p.shape() == layout.shape()
                ? "eigenvalues, the value residual of block 0 or sparse blocks differ"
                : shape_difference(p.shape(), layout.shape()));
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
