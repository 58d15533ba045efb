// SPDX-License-Identifier: Apache-2.0
// What training minimises: the mean cross-entropy of the next token over a batch, and its exact
// gradient.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/train/pass.hpp>

#include <exception>

namespace rwkv::inline RWKV_ABI::train {

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

  explicit Objective(std::shared_ptr<const Layout> layout)
      : Objective(std::move(layout), Options{}) {}
  Objective(std::shared_ptr<const Layout> layout, const Options& options)
      : layout_(std::move(layout)), options_(options) {
    if (options_.precision == Precision::exact) return;
    if (layout_->sparse().blocks > 0)
      fail(ErrorCategory::unsupported, "hybrid models cannot be trained for int8");
    rounded_ = std::make_unique<Parameters>(layout_);
  }

  [[nodiscard]] const Layout& layout() const noexcept { return *layout_; }

  /// The mean loss in nats per unit of weight. Throws `Error` (argument) naming the sample for an
  /// empty batch, a sample without a prediction, ids past the vocabulary, weights that do not fit,
  /// or no weight at all.
  template <Executor E>
  double loss(const Parameters& parameters, std::span<const Sample> batch, E& executor) {
    return run(parameters, batch, {}, false, executor);
  }

  /// The same, and its gradient.
  template <Executor E>
  double gradient(const Parameters& parameters, std::span<const Sample> batch,
                  const GradientTargets& targets, E& executor) {
    return run(parameters, batch, targets, true, executor);
  }

  /// Logits [T, V] after each of the tokens.
  [[nodiscard]] std::vector<float> logits(const Parameters& parameters,
                                          std::span<const Token> tokens,
                                          const State<>* initial = nullptr) {
    for (const Token t : tokens) check_token(t, 0);
    std::vector<float> out(tokens.size() * layout_->shape().vocab());
    Rows rows;
    rows.precision = options_.precision;
    rows.append(tokens.size(), initial, nullptr, nullptr);
    Pass pass;
    pass.reserve(*layout_, rows.count, rows.checkpoints);
    pass.run(as_multiplied(parameters), rows, tokens,
             {.targets = {},
              .gradient = false,
              .l2wrap = 0.0f,
              .logits = out.data(),
              .precision = options_.precision},
             nullptr);
    return out;
  }

 private:
  /// Samples [begin, end), processed as one matrix.
  struct Group {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  struct Worker {
    Pass pass;
    std::vector<Group> groups;
    Rows rows;
    std::vector<Token> tokens;
    std::vector<Target> targets;
    std::unique_ptr<Parameters> gradient;  // worker 0 writes to the caller's
    std::unique_ptr<State<>> initial;
    double loss = 0.0;
    std::exception_ptr failure;
  };

  [[nodiscard]] const Parameters& as_multiplied(const Parameters& parameters) {
    if (options_.precision == Precision::exact) return parameters;
    round_weights(parameters, *rounded_);
    return *rounded_;
  }

  void check_token(Token token, std::size_t sample) const {
    if (token >= layout_->shape().vocab())
      fail_with(ErrorCategory::argument, "sample ", sample, " contains token ", token,
                ", but the vocabulary has ", layout_->shape().vocab(), " entries");
  }

  /// Checks everything and returns the sum of all weights.
  [[nodiscard]] double total_weight(std::span<const Sample> batch) const {
    if (batch.empty()) fail(ErrorCategory::argument, "a batch needs at least one sample");
    double total = 0.0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const Sample& s = batch[i];
      if (s.targets.empty() && s.tokens.size() < 2)
        fail_with(ErrorCategory::argument, "sample ", i, " has ", s.tokens.size(),
                  " tokens; a prediction needs two");
      if (!s.targets.empty() && s.targets.size() != s.tokens.size())
        fail_with(ErrorCategory::argument, "sample ", i, " has ", s.targets.size(), " targets for ",
                  s.tokens.size(), " tokens");
      const std::size_t predictions = s.predictions();
      if (!s.weights.empty() && s.weights.size() != predictions)
        fail_with(ErrorCategory::argument, "sample ", i, " has ", s.weights.size(), " weights for ",
                  predictions, " predictions");
      for (const State<>* state : {s.initial, static_cast<const State<>*>(s.initial_gradient)})
        if (state != nullptr && state->shape() != layout_->shape())
          fail_with(ErrorCategory::shape, "sample ", i, " has a state of another shape");
      for (const Token t : s.tokens) check_token(t, i);
      for (const Token t : s.targets) check_token(t, i);
      if (s.weights.empty()) {
        total += static_cast<double>(predictions);
      } else {
        for (const float w : s.weights) {
          if (!(w >= 0.0f && w <= (std::numeric_limits<float>::max)()))
            fail_with(ErrorCategory::argument, "sample ", i, " has the weight ", w);
          total += static_cast<double>(w);
        }
      }
    }
    if (!(total > 0.0)) fail(ErrorCategory::argument, "every weight in the batch is zero");
    return total;
  }

  /// Deals contiguous samples to the workers, as equal in tokens as possible, and groups short
  /// ones.
  void deal(std::span<const Sample> batch, std::size_t workers) {
    std::size_t tokens = 0;
    for (const Sample& s : batch) tokens += s.predictions();
    workers_.resize(workers);
    for (Worker& w : workers_) w.groups.clear();
    std::size_t dealt = 0, group_rows = 0, previous = workers;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const std::size_t count = batch[i].predictions();
      const std::size_t worker = (2 * dealt + count) * workers / (2 * tokens);
      std::vector<Group>& groups = workers_[worker].groups;
      if (worker != previous || group_rows + count > options_.rows_per_pass) {
        groups.push_back({i, i});
        group_rows = 0;
      }
      groups.back().end = i + 1;
      group_rows += count;
      dealt += count;
      previous = worker;
    }
    for (Worker& w : workers_) {
      std::size_t sequences = 0, rows = 0, stored = 0;
      for (const Group& g : w.groups) {
        std::size_t r = 0, c = 0;
        for (std::size_t i = g.begin; i < g.end; ++i) {
          r += batch[i].predictions();
          c += checkpoints(batch[i].predictions());
        }
        sequences = (std::max)(sequences, g.end - g.begin);
        rows = (std::max)(rows, r);
        stored = (std::max)(stored, c);
      }
      w.pass.reserve(*layout_, rows, stored);
      w.rows.sequences.reserve(sequences);
      w.tokens.reserve(rows);
      w.targets.reserve(rows);
    }
  }

  void work(Worker& w, const Parameters& parameters, std::span<const Sample> batch, float scale,
            bool backward, Parameters* gradient, State<>* initial) const {
    w.loss = 0.0;
    if (gradient != nullptr) gradient->set_zero();
    if (initial != nullptr) initial->reset();
    for (const Group& group : w.groups) {
      w.rows.clear();
      w.rows.precision = options_.precision;
      w.tokens.clear();
      w.targets.clear();
      for (const Sample& s : batch.subspan(group.begin, group.end - group.begin)) {
        if (s.initial_gradient != nullptr) s.initial_gradient->reset();
        const std::size_t count = s.predictions();
        w.rows.append(count, s.initial, s.initial_gradient, initial);
        for (std::size_t t = 0; t < count; ++t) {
          w.tokens.push_back(s.tokens[t]);
          w.targets.push_back({s.targets.empty() ? s.tokens[t + 1] : s.targets[t],
                               (s.weights.empty() ? 1.0f : s.weights[t]) * scale});
        }
      }
      w.loss += w.pass.run(parameters, w.rows, w.tokens,
                           {.targets = w.targets,
                            .gradient = backward,
                            .l2wrap = options_.l2wrap ? 1e-4f : 0.0f,
                            .logits = nullptr,
                            .precision = options_.precision},
                           gradient);
    }
  }

  /// What f throws: Eigen allocates the packed operands of large products, and an executor's
  /// threads must not be left by an exception.
  template <class F>
  static std::exception_ptr caught(F f) noexcept {
#if RWKV_HAS_EXCEPTIONS
    try {
      f();
    } catch (...) {
      return std::current_exception();
    }
#else
    f();
#endif
    return nullptr;
  }

  template <Executor E>
  double run(const Parameters& parameters, std::span<const Sample> batch,
             const GradientTargets& targets, bool backward, E& executor) {
    if (parameters.layout() != *layout_)
      fail(ErrorCategory::shape, "the parameters have another shape than the objective");
    const double weight = total_weight(batch);
    const Parameters& multiplied = as_multiplied(parameters);
    const std::size_t workers =
        std::max<std::size_t>(1, std::min<std::size_t>(executor.concurrency(), batch.size()));
    deal(batch, workers);
    for (std::size_t i = 1; i < workers; ++i) {
      if (targets.parameters != nullptr && workers_[i].gradient == nullptr)
        workers_[i].gradient = std::make_unique<Parameters>(layout_);
      if (targets.initial != nullptr && workers_[i].initial == nullptr)
        workers_[i].initial = std::make_unique<State<>>(layout_->shape());
    }
    executor.parallel(workers, [&](std::size_t i) {
      workers_[i].failure = caught([&] {
        work(workers_[i], multiplied, batch, static_cast<float>(1.0 / weight), backward,
             targets.parameters == nullptr ? nullptr
             : i == 0                      ? targets.parameters
                                           : workers_[i].gradient.get(),
             targets.initial == nullptr ? nullptr
             : i == 0                   ? targets.initial
                                        : workers_[i].initial.get());
      });
    });
    double loss = 0.0;
    for (const Worker& w : workers_) {
      if (w.failure) std::rethrow_exception(w.failure);
      loss += w.loss;
    }
    if (targets.parameters != nullptr)
      reduce(targets.parameters->values(), executor,
             [](Worker& w) { return w.gradient->values(); });
    if (targets.initial != nullptr)
      reduce(targets.initial->values(), executor, [](Worker& w) { return w.initial->values(); });
    return loss;
  }

  /// total += what workers 1, 2, ... have, in that order.
  template <Executor E, class Part>
  void reduce(std::span<float> total, E& executor, Part part) {
    const std::size_t workers = workers_.size();
    if (workers == 1) return;
    executor.parallel(workers, [&](std::size_t i) {
      const Range range = share(total.size(), workers, i, alignment / sizeof(float));
      for (std::size_t w = 1; w < workers; ++w)
        kernels::add<Lanes>(part(workers_[w]).data() + range.begin, total.data() + range.begin,
                            range.end - range.begin);
    });
  }

  std::shared_ptr<const Layout> layout_;
  Options options_;
  std::unique_ptr<Parameters> rounded_;  // the weights of the batch at hand, if they are rounded
  std::vector<Worker> workers_;
};

}  // namespace rwkv::inline RWKV_ABI::train
