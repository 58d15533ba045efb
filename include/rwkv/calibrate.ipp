// SPDX-License-Identifier: Apache-2.0
// The definitions of calibrate.hpp.
#pragma once

#include <rwkv/calibrate.hpp>
#include <rwkv/kernels/chosen.hpp>

#include <algorithm>
#include <cmath>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// A matrix that adds up the squares of what it is multiplied with (see kernels/product.hpp for
/// what a matrix offers).
struct ObservedMatrix {
  AnyMatrix w = {};
  std::size_t rows = 0;
  std::size_t cols = 0;
  double* squares = nullptr;  ///< [cols], or null: nobody wants to know
};

[[nodiscard]] constexpr std::size_t weight_cost(const ObservedMatrix& m) noexcept {
  return kernels::weight_cost(m.w);
}
[[nodiscard]] constexpr std::size_t panels_together(const ObservedMatrix& m) noexcept {
  return kernels::panels_together(m.w);
}
[[nodiscard]] constexpr const LowRank* low_rank(const ObservedMatrix& m) noexcept {
  return m.w.low_rank;
}
[[nodiscard]] constexpr ObservedMatrix alongside(const ObservedMatrix&,
                                                 const AnyMatrix& inner) noexcept {
  return {inner, inner.rows, inner.cols};
}
[[nodiscard]] constexpr AnyTable table_of(const ObservedMatrix& m) noexcept {
  return rwkv::table_of(m.w);
}
template <class L>
[[nodiscard]] kernels::ActivationFormat activation_format(const ObservedMatrix& m) noexcept {
  return kernels::activation_format<L>(m.w);
}
template <class L>
void multiply(const ObservedMatrix& m, Range panels, const kernels::ProductInputs& x,
              std::size_t rows, float* y, std::size_t ldy) noexcept {
  kernels::multiply<L>(m.w, panels, x, rows, y, ldy);
  // Every matrix has one worker that is given its first panel.
  if (m.squares == nullptr || panels.begin != 0) return;
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t c = 0; c < m.cols; ++c)
      m.squares[c] += double{x.x[row * x.ldx + c]} * double{x.x[row * x.ldx + c]};
}

/// The weights of a model, with the sums of all matrices that conversions round.
class ObservedWeights {
 public:
  explicit ObservedWeights(const io::StoredWeights& weights) : weights_(weights) {
    for (std::size_t i = 0; i < weights.dimensions().layers; ++i)
      blocks_.push_back(observed(weights.block(i), "blocks." + std::to_string(i) + '.'));
    head_ = observed(weights.head(), "head.weight");
    // Nobody reads the logits: one pair of panels is enough to see the head's inputs.
    head_.w.rows = head_.rows = (std::min)(head_.rows, 2 * kernels::panel_rows);
  }

  [[nodiscard]] const AnyTable& emb() const noexcept { return weights_.emb(); }
  [[nodiscard]] const NormWeights& ln0() const noexcept { return weights_.ln0(); }
  [[nodiscard]] const NormWeights& ln_out() const noexcept { return weights_.ln_out(); }
  [[nodiscard]] Eigenvalues eigenvalues() const noexcept { return weights_.eigenvalues(); }
  [[nodiscard]] const ObservedMatrix& head() const noexcept { return head_; }
  [[nodiscard]] const BlockWeights<ObservedMatrix>& block(std::size_t i) const noexcept {
    return blocks_[i];
  }

  [[nodiscard]] Importance mean_squares(std::size_t tokens) const {
    Importance result;
    for (const auto& [name, sums] : squares_) {
      auto& means = result[name];
      for (const double sum : sums)
        means.push_back(static_cast<float>(sum / static_cast<double>(tokens)));
    }
    return result;
  }

 private:
  ObservedMatrix observed(const AnyMatrix& m, const std::string& name) {
    auto& sums = squares_[name];
    sums.resize(m.cols);
    return {m, m.rows, m.cols, sums.data()};
  }
  BlockWeights<ObservedMatrix> observed(const BlockWeights<AnyMatrix>& p, const std::string& name) {
    BlockWeights<ObservedMatrix> out{};
    const auto observe = [&](const TensorSpec& spec, const auto& from, auto& to) {
      if constexpr (std::is_same_v<decltype(from), const AnyMatrix&>)
        to = spec.role == TensorRole::matrix ? observed(from, name + std::string(spec.name))
                                             : ObservedMatrix{from, from.rows, from.cols};
      else
        to = from;
    };
    for_each_block_tensor(observe, p, out);
    for_each_deep_embed_tensor(observe, p, out);
    set_epsilons(out, p.ln1.epsilon, p.att.ln_x.epsilon);
    return out;
  }

  const io::StoredWeights& weights_;
  std::map<std::string, std::vector<double>, std::less<>> squares_;
  std::vector<BlockWeights<ObservedMatrix>> blocks_;
  ObservedMatrix head_;
};

}  // namespace detail

RWKV_FUNCTION Importance calibrate(const Model<>& model, std::span<const Token> text,
                                   ExecutorRef exec, const std::function<void(double)>& progress) {
  if (text.empty()) fail(ErrorCategory::argument, "there is no text to calibrate with");
  const detail::ObservedWeights weights(model.weights());
  constexpr std::size_t rows = 128;
  Workspace<> work(model.shape(), rows);
  State<> state(model.shape());
  std::vector<float> logits(rows * model.shape().vocab());
  for (std::size_t done = 0; done < text.size(); done += rows) {
    const Slot<> slot{&state, text.subspan(done, (std::min)(rows, text.size() - done))};
    const std::span<const Slot<>> slots(&slot, 1);
    const std::span<float> out(logits.data(), slot.tokens.size() * model.shape().vocab());
    detail::check_batch(model.shape(), slots, Logits::all, out, work);
    detail::forward<simd::Chosen>(weights, slots, Logits::all, out, work, exec);
    if (progress)
      progress(static_cast<double>(done + slot.tokens.size()) / static_cast<double>(text.size()));
  }
  Importance result = weights.mean_squares(text.size());
  for (const auto& [name, means] : result)
    for (std::size_t c = 0; c < means.size(); ++c)
      if (!std::isfinite(means[c]))
        fail_with(ErrorCategory::numeric, "the model's inputs of ", name, ", column ", c,
                  ", are not finite for this text");
  return result;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
