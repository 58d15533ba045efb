// SPDX-License-Identifier: Apache-2.0
// The definitions of train/trainer.hpp.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/io/state_tensors.hpp>
#include <rwkv/train/read_tensor.hpp>
#include <rwkv/train/trainer.hpp>

#include <charconv>
#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

namespace detail {

inline std::uint64_t stored_number(const io::Checkpoint& c, const std::string& key) {
  if (const auto it = c.metadata.find(key); it != c.metadata.end())
    if (const auto value = internal::parse<std::uint64_t>(it->second)) return *value;
  fail_with(ErrorCategory::format, c.source, ": the metadata ", key, " is missing or not a number");
}

}  // namespace detail

RWKV_FUNCTION Parameters TrainerBase::checked(Parameters&& model, const TrainerOptions& options) {
  detail::require_intact(model, "the parameters");
  if (options.batch == 0) fail(ErrorCategory::argument, "a batch needs at least one sample");
  if (options.batch > PTRDIFF_MAX / sizeof(Sample))
    fail_with(ErrorCategory::memory, "no memory for a batch of ", options.batch, " samples");
  const auto check = [](bool fine, const char* name, double value, const char* range) {
    if (!fine) fail_with(ErrorCategory::argument, name, " is ", value, ", not ", range);
  };
  const auto natural = [&](double value, const char* name) {
    check(std::isfinite(value) && value >= 0.0, name, value, "a number from 0 up");
  };
  natural(options.schedule.initial, "the initial learning rate");
  natural(options.schedule.final, "the final learning rate");
  const AdamW::Options& adam = options.optimizer;
  check(adam.beta1 >= 0.0 && adam.beta1 < 1.0, "beta1", adam.beta1, "from 0 to below 1");
  check(adam.beta2 >= 0.0 && adam.beta2 < 1.0, "beta2", adam.beta2, "from 0 to below 1");
  // In float, as it is added: 0 / 0 where there is no gradient otherwise.
  check(static_cast<float>(adam.epsilon) > 0.0f && std::isfinite(static_cast<float>(adam.epsilon)),
        "epsilon", adam.epsilon, "a float above 0");
  natural(adam.weight_decay, "weight_decay");
  check(adam.clip >= 0.0, "clip", adam.clip, "a number from 0 up");
  return std::move(model);
}

RWKV_FUNCTION TrainerBase::TrainerBase(Parameters model, Token largest_token,
                                       const TrainerOptions& options)
    : options_(options),
      base_(checked(std::move(model), options)),
      objective_(base_.shared_layout(), options.objective),
      samples_(options.batch) {
  if (largest_token >= base_.shape().vocab())
    fail_with(ErrorCategory::argument, "the data contains token ", largest_token,
              ", but the vocabulary has ", base_.shape().vocab(), " entries");
  switch (options.mode) {
    case Mode::full:
      gradient_.emplace(base_.shared_layout());
      for (const TensorInfo& t : base_.layout().tensors())
        trained_.push_back(
            {t.name,
             t.shape,
             {t.offset, t.size, t.group == Group::decay ? 2.0f : 1.0f, t.group == Group::matrix}});
      break;
    case Mode::state: {
      state_.emplace(base_.shape());
      state_gradient_.emplace(base_.shape());
      const std::size_t n = base_.shape().head_size();
      for (std::size_t i = 0; i < base_.shape().layers(); ++i) {
        const auto offset =
            static_cast<std::size_t>(state_->wkv(i).data() - state_->values().data());
        // In memory order, [key][value]; `write_state` writes what other programs expect.
        trained_.push_back({"blocks." + std::to_string(i) + ".att.state",
                            {base_.shape().heads(), n, n},
                            {offset, state_->wkv(i).size(), 1.0f, false}});
      }
      break;
    }
    case Mode::lora:
      lora_.emplace(base_.layout(), options.lora, options.seed);
      merged_.emplace(base_);
      gradient_.emplace(base_.shared_layout());
      lora_gradient_ = Buffer<float, dynamic>(lora_->values().size());
      for (const Lora::Adapter& x : lora_->adapters()) {
        const std::size_t rank = options.lora.rank;
        trained_.push_back(
            {x.name() + ".lora_A", {rank, x.in()}, {x.a, rank * x.in(), 1.0f, false}});
        trained_.push_back(
            {x.name() + ".lora_B", {x.out(), rank}, {x.b, rank * x.out(), 1.0f, false}});
      }
  }
  std::vector<Segment> segments;
  for (const Trained& t : trained_) segments.push_back(t.segment);
  optimizer_.emplace(values().size(), std::move(segments), options.optimizer);
}

RWKV_FUNCTION StepReport TrainerBase::step(ExecutorRef executor) {
  StepReport report;
  report.step = steps() + 1;
  report.learning_rate = options_.schedule.at(steps());
  for (Sample& s : samples_) {
    s.initial = state_ ? &*state_ : nullptr;
    report.tokens += s.predictions();
  }
  report.loss = objective_.gradient(model(), samples_,
                                    {.parameters = gradient_ ? &*gradient_ : nullptr,
                                     .initial = state_gradient_ ? &*state_gradient_ : nullptr},
                                    executor);
  if (lora_) lora_->gradient(*gradient_, {lora_gradient_.data(), lora_gradient_.size()});
  report.gradient_norm = optimizer_->norm(gradient());
  if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm))
    fail_with(ErrorCategory::numeric, "step ", report.step, ": the loss is ", report.loss,
              " and the norm of its gradient ", report.gradient_norm,
              "; the model was not changed (a smaller learning rate may help)");
  optimizer_->step(values(), gradient(), report.gradient_norm, report.learning_rate, executor);
  if (lora_) lora_->merge(base_, *merged_);
  return report;
}

RWKV_FUNCTION double TrainerBase::evaluate(std::vector<Sample> samples, ExecutorRef executor) {
  if (state_)
    for (Sample& s : samples) s.initial = &*state_;
  return objective_.loss(model(), samples, executor);
}

RWKV_FUNCTION void TrainerBase::write_state(const std::filesystem::path& path) const {
  const State<>& trained = state();
  const std::size_t heads = base_.shape().heads(), n = base_.shape().head_size();
  std::vector<std::vector<float>> matrices;
  std::vector<io::NamedTensor> tensors;
  for (std::size_t i = 0; i < base_.shape().layers(); ++i) {
    matrices.emplace_back(trained.wkv(i).size());
    io::detail::transpose_heads(trained.wkv(i), matrices.back(), heads, n);
    tensors.push_back(io::named_tensor<float>("blocks." + std::to_string(i) + ".att.time_state",
                                              {heads, n, n}, matrices.back()));
  }
  io::detail::require_finite(tensors);
  io::write_safetensors(path, tensors, {{"rwkv.kind", "tuned state"}});
}

RWKV_FUNCTION void TrainerBase::save(const std::filesystem::path& path, const io::Metadata& notes,
                                     const DataPosition& position, std::uint64_t data) {
  std::vector<io::NamedTensor> tensors;
  for (const Trained& t : trained_)
    for (const auto& [prefix, buffer] : buffers())
      tensors.push_back(io::named_tensor<float>(prefix + t.name, t.shape,
                                                buffer.subspan(t.segment.begin, t.segment.size)));
  io::Metadata metadata = identity(data);
  metadata.insert(notes.begin(), notes.end());
  metadata["train.step"] = std::to_string(steps());
  metadata["train.epoch"] = std::to_string(position.epoch);
  metadata["train.next"] = std::to_string(position.next);
  for (std::size_t i = 0; i < position.random.size(); ++i)
    metadata["train.random." + std::to_string(i)] = std::to_string(position.random[i]);
  io::write_safetensors(path, tensors, metadata);
}

RWKV_FUNCTION io::Metadata TrainerBase::resume(
    const std::filesystem::path& path, bool other_options, std::uint64_t data,
    const std::function<void(const DataPosition&)>& restore) {
  const io::MappedFile file(path);
  const io::Checkpoint c = io::read_safetensors(file.bytes(), path.string());
  const auto stored = [&c](const std::string& key) {
    const auto it = c.metadata.find(key);
    if (it != c.metadata.end()) return it->second;
    return std::string(key == "train.precision" ? "exact" : "nothing");  // an addition
  };
  if (stored("rwkv.kind") != "training")
    fail_with(ErrorCategory::format, c.source, ": not a training checkpoint");
  for (const auto& [key, expected] : identity(data)) {
    const bool essential = !other_options || key == "rwkv.eigenvalues" || key == "train.version" ||
                           key == "train.mode" || key == "train.base";
    if (essential && stored(key) != expected)
      fail_with(ErrorCategory::argument, c.source, ": this run has ", key, " = ", stored(key),
                " where ", expected, " was asked for");
  }
  DataPosition position;
  position.epoch = detail::stored_number(c, "train.epoch");
  position.next = detail::stored_number(c, "train.next");
  for (std::size_t i = 0; i < position.random.size(); ++i)
    position.random[i] = detail::stored_number(c, "train.random." + std::to_string(i));
  if (position.random == Random::State{})  // would never leave it
    fail_with(ErrorCategory::format, c.source, ": the state of the random numbers is 0");
  const std::uint64_t steps = detail::stored_number(c, "train.step");

  // Everything is read and checked before anything changes.
  std::vector<std::vector<float>> read;
  for (const auto& [prefix, buffer] : buffers()) {
    read.emplace_back(buffer.begin(), buffer.end());
    for (const Trained& t : trained_)
      detail::read_tensor(c, prefix + t.name, t.shape,
                          std::span(read.back()).subspan(t.segment.begin, t.segment.size));
  }
  if (c.tensors.size() != read.size() * trained_.size())  // to go on without it would lose it
    for (const auto& [name, tensor] : c.tensors) {
      const auto mine = [&, &key = name](const auto& prefix) {
        return key.starts_with(prefix) &&
               std::any_of(trained_.begin(), trained_.end(), [&](const Trained& t) {
                 return std::string_view(key).substr(prefix.size()) == t.name;
               });
      };
      const auto all = buffers();
      if (std::none_of(all.begin(), all.end(),
                       [&](const auto& x) { return mine(std::string_view(x.first)); }))
        fail_with(ErrorCategory::shape, c.source, ": this run has a tensor ",
                  io::detail::printable(name), ' ', io::to_string(tensor.shape),
                  ", and what was asked for has none of this name");
    }
  io::Metadata metadata = c.metadata;
  std::optional<Parameters> merged;  // products ask for memory
  if (lora_) {
    Lora next = *lora_;
    std::copy(read[0].begin(), read[0].end(), next.values().begin());
    merged.emplace(*merged_);
    next.merge(base_, *merged);
  }
  restore(position);
  std::size_t i = 0;
  for (const auto& [prefix, buffer] : buffers())
    std::copy(read[i].begin(), read[i].end(), buffer.begin()), ++i;
  optimizer_->set_steps(steps);
  if (merged) *merged_ = std::move(*merged);
  return metadata;
}

RWKV_FUNCTION std::span<float> TrainerBase::values() noexcept {
  switch (options_.mode) {
    case Mode::state:
      return state_->values();
    case Mode::lora:
      return lora_->values();
    case Mode::full:
      break;
  }
  return base_.values();
}

RWKV_FUNCTION std::span<const float> TrainerBase::gradient() const noexcept {
  switch (options_.mode) {
    case Mode::state:
      return state_gradient_->values();
    case Mode::lora:
      return {lora_gradient_.data(), lora_gradient_.size()};
    case Mode::full:
      break;
  }
  return gradient_->values();
}

RWKV_FUNCTION std::array<std::pair<std::string, std::span<float>>, 3>
TrainerBase::buffers() noexcept {
  return {{{"", values()},
           {"first_moment.", optimizer_->first_moment()},
           {"second_moment.", optimizer_->second_moment()}}};
}

RWKV_FUNCTION io::Metadata TrainerBase::identity(std::uint64_t data) const {
  const auto text = [](double x) {
    char buffer[32];
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, x).ptr);
  };
  const AdamW::Options& adam = options_.optimizer;
  io::Metadata m{
      {"rwkv.kind", "training"},
      {"rwkv.eigenvalues", detail::name_of(base_.layout().eigenvalues())},
      {"train.version", "1"},
      {"train.mode", options_.mode == Mode::full    ? "full"
                     : options_.mode == Mode::state ? "state"
                                                    : "lora"},
      {"train.data", std::to_string(data)},
      {"train.batch", std::to_string(options_.batch)},
      {"train.l2wrap", options_.objective.l2wrap ? "true" : "false"},
      {"train.precision", options_.objective.precision == Precision::int8 ? "int8" : "exact"},
      {"train.schedule", text(options_.schedule.initial) + " to " + text(options_.schedule.final) +
                             " over " + std::to_string(options_.schedule.steps) + ", warm-up " +
                             std::to_string(options_.schedule.warm_up)},
      {"train.optimizer", "beta " + text(adam.beta1) + " " + text(adam.beta2) + ", epsilon " +
                              text(adam.epsilon) + ", decay " + text(adam.weight_decay) +
                              ", clip " + text(adam.clip)},
  };
  if (lora_)
    m["train.lora"] = "rank " + std::to_string(options_.lora.rank) + ", alpha " +
                      text(static_cast<double>(options_.lora.alpha));
  if (options_.mode != Mode::full) {  // the frozen base is not stored
    detail::Fingerprint f;
    for (const float x : base_.values()) f.add(std::bit_cast<std::uint32_t>(x));
    m["train.base"] = std::to_string(f.value());
  }
  return m;
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
