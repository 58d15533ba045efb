// SPDX-License-Identifier: Apache-2.0
// The definitions of train/objective.hpp.
#pragma once

#include <rwkv/train/objective.hpp>
#include <rwkv/train/pass.hpp>

#include <algorithm>
#include <exception>
#include <functional>
#include <limits>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

namespace detail {

/// Samples [begin, end), processed as one matrix.
struct SampleGroup {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// What f throws: products allocate their packed operands, and an executor's threads must not be
/// left by an exception.
template <class F>
std::exception_ptr caught(F f) noexcept {
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

/// total += what workers 1, 2, ... have, in that order.
template <class Workers, class Part>
void reduce(const Workers& all, std::span<float> total, ExecutorRef executor, Part part) {
  const std::size_t workers = all.size();
  if (workers == 1) return;
  executor.parallel(workers, [&](std::size_t i) {
    const Range range = share(total.size(), workers, i, alignment / sizeof(float));
    for (std::size_t w = 1; w < workers; ++w)
      kernels::add<Lanes>(part(*all[w]).data() + range.begin, total.data() + range.begin,
                          range.end - range.begin);
  });
}

}  // namespace detail

struct Objective::Worker {
  Pass pass;
  std::vector<detail::SampleGroup> groups;
  Rows rows;
  std::vector<Token> tokens;
  std::vector<Target> targets;
  std::unique_ptr<Parameters> gradient;  // worker 0 writes to the caller's
  std::unique_ptr<State<>> initial;
  double loss = 0.0;
  std::exception_ptr failure;
};

RWKV_FUNCTION Objective::Objective(std::shared_ptr<const Layout> layout, const Options& options)
    : layout_(std::move(layout)), options_(options) {
  (void)detail::existing(layout_);
  if (options_.precision == Precision::exact) return;
  if (layout_->sparse().blocks > 0)
    fail(ErrorCategory::unsupported, "hybrid models cannot be trained for int8");
  rounded_ = std::make_unique<Parameters>(layout_);
}

RWKV_FUNCTION Objective::Objective(Objective&&) noexcept = default;
RWKV_FUNCTION Objective& Objective::operator=(Objective&&) noexcept = default;
RWKV_FUNCTION Objective::~Objective() = default;

RWKV_FUNCTION Objective::Objective(std::shared_ptr<const Layout> layout)
    : Objective(std::move(layout), Options{}) {}

RWKV_FUNCTION double Objective::loss(const Parameters& parameters, std::span<const Sample> batch,
                                     ExecutorRef executor) {
  return run(parameters, batch, {}, false, executor);
}

RWKV_FUNCTION double Objective::gradient(const Parameters& parameters,
                                         std::span<const Sample> batch,
                                         const GradientTargets& targets, ExecutorRef executor) {
  return run(parameters, batch, targets, true, executor);
}

RWKV_FUNCTION std::vector<float> Objective::logits(const Parameters& parameters,
                                                   std::span<const Token> tokens,
                                                   const State<>* initial) {
  detail::require_layout(parameters, layout(), "the parameters");
  if (tokens.empty()) fail(ErrorCategory::argument, "there are no tokens to compute logits of");
  if (initial != nullptr) internal::check_state(layout_->shape(), *initial, "the initial state");
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

RWKV_FUNCTION const Parameters& Objective::as_multiplied(const Parameters& parameters) {
  if (options_.precision == Precision::exact) return parameters;
  round_weights(parameters, *rounded_);
  return *rounded_;
}

RWKV_FUNCTION void Objective::check_token(Token token, std::size_t sample) const {
  if (token >= layout_->shape().vocab())
    fail_with(ErrorCategory::argument, "sample ", sample, " contains token ", token,
              ", but the vocabulary has ", layout_->shape().vocab(), " entries");
}

RWKV_FUNCTION double Objective::total_weight(std::span<const Sample> batch) const {
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
      if (state != nullptr)
        internal::check_state(layout_->shape(), *state, "the state of sample ", i);
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
  std::vector<const State<>*> gradients;
  for (const Sample& s : batch)
    if (s.initial_gradient != nullptr) gradients.push_back(s.initial_gradient);
  std::sort(gradients.begin(), gradients.end(), std::less<>());
  if (std::adjacent_find(gradients.begin(), gradients.end()) != gradients.end())
    fail(ErrorCategory::argument, "two samples have the same state for their initial gradients");
  return total;
}

RWKV_FUNCTION void Objective::deal(std::span<const Sample> batch, std::size_t workers) {
  std::size_t tokens = 0;
  for (const Sample& s : batch) tokens += s.predictions();
  workers_.resize(workers);
  for (auto& w : workers_) {
    if (w == nullptr) w = std::make_unique<Worker>();
    w->groups.clear();
  }
  std::size_t dealt = 0, group_rows = 0, previous = workers;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const std::size_t count = batch[i].predictions();
    const std::size_t worker = (2 * dealt + count) * workers / (2 * tokens);
    std::vector<detail::SampleGroup>& groups = workers_[worker]->groups;
    if (worker != previous || group_rows + count > options_.rows_per_pass) {
      groups.push_back({i, i});
      group_rows = 0;
    }
    groups.back().end = i + 1;
    group_rows += count;
    dealt += count;
    previous = worker;
  }
  for (const auto& worker : workers_) {
    Worker& w = *worker;
    std::size_t sequences = 0, rows = 0, stored = 0;
    for (const detail::SampleGroup& g : w.groups) {
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

RWKV_FUNCTION void Objective::work(Worker& w, const Parameters& parameters,
                                   std::span<const Sample> batch, float scale, bool backward,
                                   Parameters* gradient, State<>* initial) const {
  w.loss = 0.0;
  if (gradient != nullptr) gradient->set_zero();
  if (initial != nullptr) initial->reset();
  for (const detail::SampleGroup& group : w.groups) {
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

RWKV_FUNCTION double Objective::run(const Parameters& parameters, std::span<const Sample> batch,
                                    const GradientTargets& targets, bool backward,
                                    ExecutorRef executor) {
  detail::require_layout(parameters, layout(), "the parameters");
  const double weight = total_weight(batch);
  if (targets.parameters != nullptr) {
    detail::require_layout(*targets.parameters, *layout_, "the gradients of the parameters");
    if (targets.parameters == &parameters)
      fail(ErrorCategory::argument, "the gradient would overwrite the parameters");
  }
  if (targets.initial != nullptr)
    internal::check_state(layout_->shape(), *targets.initial, "the gradient of the initial state");
  const Parameters& multiplied = as_multiplied(parameters);
  const std::size_t workers =
      (std::max<std::size_t>)(1, (std::min<std::size_t>)(executor.concurrency(), batch.size()));
  deal(batch, workers);
  for (std::size_t i = 1; i < workers; ++i) {
    if (targets.parameters != nullptr && workers_[i]->gradient == nullptr)
      workers_[i]->gradient = std::make_unique<Parameters>(layout_);
    if (targets.initial != nullptr && workers_[i]->initial == nullptr)
      workers_[i]->initial = std::make_unique<State<>>(layout_->shape());
  }
  executor.parallel(workers, [&](std::size_t i) {
    workers_[i]->failure = detail::caught([&] {
      work(*workers_[i], multiplied, batch, static_cast<float>(1.0 / weight), backward,
           targets.parameters == nullptr ? nullptr
           : i == 0                      ? targets.parameters
                                         : workers_[i]->gradient.get(),
           targets.initial == nullptr ? nullptr
           : i == 0                   ? targets.initial
                                      : workers_[i]->initial.get());
    });
  });
  double loss = 0.0;
  for (const auto& w : workers_) {
    if (w->failure) std::rethrow_exception(w->failure);
    loss += w->loss;
  }
  if (targets.parameters != nullptr)
    detail::reduce(workers_, targets.parameters->values(), executor,
                   [](const Worker& w) { return w.gradient->values(); });
  if (targets.initial != nullptr)
    detail::reduce(workers_, targets.initial->values(), executor,
                   [](const Worker& w) { return w.initial->values(); });
  return loss;
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
