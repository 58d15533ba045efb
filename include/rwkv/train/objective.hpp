// SPDX-License-Identifier: Apache-2.0
// What training minimises: the mean cross-entropy of the next token over a batch, and its exact
// gradient.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/state.hpp>
#include <rwkv/train/parameters.hpp>

#include <memory>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// One sequence of a batch: T predictions, T >= 1, of token t + 1 after token t.
struct Sample {
  std::span<const Token> tokens;        ///< [T + 1]; with `targets` [T]
  std::span<const float> weights;       ///< [T] weight of a prediction, >= 0; empty: all 1
  const State<>* initial = nullptr;     ///< what came before; null: the beginning of a text
  State<>* initial_gradient = nullptr;  ///< if not null: overwritten; one per sample
  /// [T] what should be predicted after token t, when that is not the next token; else empty.
  std::span<const Token> targets = {};

  [[nodiscard]] std::size_t predictions() const noexcept {
    return targets.empty() ? tokens.size() - 1 : targets.size();
  }
};

/// Where gradients go. Null: not wanted (and not computed).
struct GradientTargets {
  Parameters* parameters = nullptr;  ///< overwritten
  State<>* initial = nullptr;        ///< overwritten with the sum over all samples' initial states
};

/// Computes losses and gradients, on any number of threads. Samples are dealt to the threads in a
/// fixed way and sums are taken in a fixed order, so that the same batch on the same number of
/// threads gives the same bits. Memory depends on the longest sample and on `rows_per_pass`, not on
/// the size of the batch; gradients of any number of samples accumulate. Running out of memory
/// throws on the calling thread and leaves the targets undefined. Use one object from one thread at
/// a time.
class Objective {
 public:
  struct Options {
    /// The official trainer's guard against drifting logits: adds the gradient of 0.5e-4 *
    /// max(logits)^2 per token; the loss value is without it.
    bool l2wrap = false;
    /// Short samples are processed together up to this many tokens.
    std::size_t rows_per_pass = 256;
    /// Int8: the loss is that of the model converted to q8_0 and run with rounded inputs, and its
    /// gradient passes through the rounding (train/rounding.hpp). RWKV-7 only.
    Precision precision = Precision::exact;
  };

  explicit Objective(std::shared_ptr<const Layout> layout);
  Objective(std::shared_ptr<const Layout> layout, const Options& options);
  Objective(Objective&&) noexcept;
  Objective& operator=(Objective&&) noexcept;
  ~Objective();

  /// Throws `Error` (argument), as everything below, if this objective was moved away.
  [[nodiscard]] const Layout& layout() const {
    if (layout_ == nullptr) fail(ErrorCategory::argument, "this objective was moved away");
    return *layout_;
  }

  /// The mean loss in nats per unit of weight. Throws `Error` (argument) naming the sample for an
  /// empty batch, a sample without a prediction, ids past the vocabulary, weights that do not fit,
  /// or no weight at all, and (shape, argument) for parameters or states of another model or moved
  /// away.
  double loss(const Parameters& parameters, std::span<const Sample> batch, ExecutorRef executor);

  /// The same, and its gradient. Throws `Error` (argument) also if two samples share an
  /// `initial_gradient`, or the gradient would overwrite the parameters.
  double gradient(const Parameters& parameters, std::span<const Sample> batch,
                  const GradientTargets& targets, ExecutorRef executor);

  /// Logits [T, V] after each of the tokens, of which there is at least one. Throws as `loss`.
  [[nodiscard]] std::vector<float> logits(const Parameters& parameters,
                                          std::span<const Token> tokens,
                                          const State<>* initial = nullptr);

 private:
  struct Worker;  // train/objective.ipp

  [[nodiscard]] const Parameters& as_multiplied(const Parameters& parameters);

  void check_token(Token token, std::size_t sample) const;

  /// Checks everything and returns the sum of all weights.
  [[nodiscard]] double total_weight(std::span<const Sample> batch) const;

  /// Deals contiguous samples to the workers, as equal in tokens as possible, and groups short
  /// ones.
  void deal(std::span<const Sample> batch, std::size_t workers);

  void work(Worker& w, const Parameters& parameters, std::span<const Sample> batch, float scale,
            bool backward, Parameters* gradient, State<>* initial) const;

  double run(const Parameters& parameters, std::span<const Sample> batch,
             const GradientTargets& targets, bool backward, ExecutorRef executor);

  std::shared_ptr<const Layout> layout_;
  Options options_;
  std::unique_ptr<Parameters> rounded_;  // the weights of the batch at hand, if they are rounded
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/objective.ipp>
#endif
