// SPDX-License-Identifier: Apache-2.0
// The training loop's body: draw a batch, differentiate, update. Trains all parameters, only the
// initial state, or low-rank adapters, and saves and resumes without leaving a trace in the
// numbers.
#pragma once

#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/state_file.hpp>
#include <rwkv/train/adamw.hpp>
#include <rwkv/train/data.hpp>
#include <rwkv/train/lora.hpp>
#include <rwkv/train/schedule.hpp>

#include <charconv>

namespace rwkv::inline RWKV_ABI::train {

/// What is trained.
enum class Mode : std::uint8_t {
  full,   ///< every parameter
  state,  ///< only the initial recurrent state (`time_state`), shared by all samples
  lora,   ///< low-rank adapters on the big matrices
};

struct TrainerOptions {
  Mode mode = Mode::full;
  std::size_t batch = 16;  ///< samples per step; memory does not depend on it
  Schedule schedule{};
  AdamW::Options optimizer{};
  Objective::Options objective{};
  Lora::Options lora{};    ///< Mode::lora only
  std::uint64_t seed = 0;  ///< of the adapters' initial values
};

/// What one step did.
struct StepReport {
  std::uint64_t step = 0;      ///< counted from 1
  double loss = 0.0;           ///< mean over the batch, before the update, in nats
  double gradient_norm = 0.0;  ///< before clipping
  double learning_rate = 0.0;
  std::size_t tokens = 0;  ///< predictions in the batch
};

/// Trains one model on one source of data. Given the same model, data, options and number of
/// threads, every run gives the same bits, however often it was saved and resumed. Use from one
/// thread at a time.
template <DataSource Source>
class Trainer {
 public:
  /// Takes the model (a fresh one from `initialise`, or one from a file) and the data. Throws
  /// `Error` (argument) for data with ids past the vocabulary or options that make no sense.
  Trainer(Parameters model, Source source, const TrainerOptions& options)
      : options_(options),
        source_(std::move(source)),
        base_(std::move(model)),
        objective_(base_.shared_layout(), options.objective),
        samples_(options.batch) {
    if (options.batch == 0) fail(ErrorCategory::argument, "a batch needs at least one sample");
    if (source_.largest_token() >= base_.shape().vocab())
      fail_with(ErrorCategory::argument, "the data contains token ", source_.largest_token(),
                ", but the vocabulary has ", base_.shape().vocab(), " entries");
    switch (options.mode) {
      case Mode::full:
        gradient_.emplace(base_.shared_layout());
        for (const TensorInfo& t : base_.layout().tensors())
          trained_.push_back({t.name,
                              t.shape,
                              {t.offset, t.size, t.group == Group::decay ? 2.0f : 1.0f,
                               t.group == Group::matrix}});
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

  /// One update. Throws `Error` (numeric) if the loss or its gradient is not finite; the model is
  /// then as it was before the step.
  template <Executor E>
  StepReport step(E& executor) {
    source_.next(samples_);
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

  /// Mean loss over samples in nats, e.g. of `cut(validation_text, length)`; their initial states
  /// are set to the trained one in Mode::state.
  template <Executor E>
  double evaluate(std::vector<Sample> samples, E& executor) {
    if (state_)
      for (Sample& s : samples) s.initial = &*state_;
    return objective_.loss(model(), samples, executor);
  }

  /// Steps done.
  [[nodiscard]] std::uint64_t steps() const noexcept { return optimizer_->steps(); }
  [[nodiscard]] const TrainerOptions& options() const noexcept { return options_; }
  [[nodiscard]] const Source& source() const noexcept { return source_; }
  /// Numbers that are being trained.
  [[nodiscard]] std::size_t trained_parameters() const noexcept {
    std::size_t n = 0;
    for (const Trained& t : trained_) n += t.segment.size;
    return n;
  }

  /// The model as trained so far; in Mode::lora with the adapters merged in, in Mode::state the
  /// frozen base.
  [[nodiscard]] const Parameters& model() const noexcept { return merged_ ? *merged_ : base_; }
  /// The adapters; Mode::lora only.
  [[nodiscard]] const Lora& lora() const noexcept { return *lora_; }
  /// The initial state; Mode::state only.
  [[nodiscard]] const State<>& state() const noexcept { return *state_; }

  /// Writes the initial state as `blocks.<i>.att.time_state` [H, N value, N key], which inference
  /// imports; Mode::state only. Atomic. Throws `Error` (io).
  void write_state(const std::filesystem::path& path) const {
    const std::size_t heads = base_.shape().heads(), n = base_.shape().head_size();
    std::vector<std::vector<float>> matrices;
    std::vector<io::NamedTensor> tensors;
    for (std::size_t i = 0; i < base_.shape().layers(); ++i) {
      matrices.emplace_back(state_->wkv(i).size());
      io::detail::transpose_heads(state_->wkv(i), matrices.back(), heads, n);
      tensors.push_back(io::named_tensor<float>("blocks." + std::to_string(i) + ".att.time_state",
                                                {heads, n, n}, matrices.back()));
    }
    io::write_safetensors(path, tensors);
  }

  /// Writes everything needed to continue, atomically: a crash or a full disk leaves an earlier
  /// checkpoint as it was. `notes` are the caller's own and come back from `resume`. Throws `Error`
  /// (io).
  void save(const std::filesystem::path& path, const io::Metadata& notes = {}) {
    std::vector<io::NamedTensor> tensors;
    for (const Trained& t : trained_)
      for (const auto& [prefix, buffer] : buffers())
        tensors.push_back(io::named_tensor<float>(prefix + t.name, t.shape,
                                                  buffer.subspan(t.segment.begin, t.segment.size)));
    const DataPosition position = source_.position();
    io::Metadata metadata = identity();
    metadata.insert(notes.begin(), notes.end());
    metadata["train.step"] = std::to_string(steps());
    metadata["train.epoch"] = std::to_string(position.epoch);
    metadata["train.next"] = std::to_string(position.next);
    for (std::size_t i = 0; i < position.random.size(); ++i)
      metadata["train.random." + std::to_string(i)] = std::to_string(position.random[i]);
    io::write_safetensors(path, tensors, metadata);
  }

  /// Continues from a checkpoint of the same model shape, data and options; nothing changes if it
  /// throws: `Error` (format) for a damaged file, (shape) for another shape, (argument) for other
  /// data or options, naming the difference. `other_options`: continue although data, schedule or
  /// optimizer options differ. Returns the file's metadata.
  io::Metadata resume(const std::filesystem::path& path, bool other_options = false) {
    const io::MappedFile file(path);
    const io::Checkpoint c = io::read_safetensors(file.bytes(), path.string());
    const auto stored = [&c](const std::string& key) {
      const auto it = c.metadata.find(key);
      if (it != c.metadata.end()) return it->second;
      return std::string(key == "train.precision" ? "exact" : "nothing");  // an addition
    };
    if (stored("rwkv.kind") != "training")
      fail_with(ErrorCategory::format, c.source, ": not a training checkpoint");
    for (const auto& [key, expected] : identity()) {
      const bool essential = !other_options || key == "rwkv.eigenvalues" ||
                             key == "train.version" || key == "train.mode" || key == "train.base";
      if (essential && stored(key) != expected)
        fail_with(ErrorCategory::argument, c.source, ": this run has ", key, " = ", stored(key),
                  " where ", expected, " was asked for");
    }
    DataPosition position;
    position.epoch = number(c, "train.epoch");
    position.next = number(c, "train.next");
    for (std::size_t i = 0; i < position.random.size(); ++i)
      position.random[i] = number(c, "train.random." + std::to_string(i));
    const std::uint64_t steps = number(c, "train.step");

    // Everything is read and checked before anything changes.
    std::vector<std::vector<float>> read;
    for (const auto& [prefix, buffer] : buffers()) {
      read.emplace_back(buffer.begin(), buffer.end());
      for (const Trained& t : trained_)
        detail::read_tensor(c, prefix + t.name, t.shape,
                            std::span(read.back()).subspan(t.segment.begin, t.segment.size));
    }
    source_.restore(position);
    std::size_t i = 0;
    for (const auto& [prefix, buffer] : buffers())
      std::copy(read[i].begin(), read[i].end(), buffer.begin()), ++i;
    optimizer_->set_steps(steps);
    if (lora_) lora_->merge(base_, *merged_);
    return c.metadata;
  }

 private:
  /// A tensor that is being trained.
  struct Trained {
    std::string name;
    std::vector<std::size_t> shape;
    Segment segment;
  };

  [[nodiscard]] std::span<float> values() noexcept {
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
  [[nodiscard]] std::span<const float> gradient() const noexcept {
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

  /// What a checkpoint stores of every trained tensor.
  [[nodiscard]] std::array<std::pair<std::string, std::span<float>>, 3> buffers() noexcept {
    return {{{"", values()},
             {"first_moment.", optimizer_->first_moment()},
             {"second_moment.", optimizer_->second_moment()}}};
  }

  /// All that must be equal for a resumed run to be the same run.
  [[nodiscard]] io::Metadata identity() const {
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
        {"train.data", std::to_string(source_.fingerprint())},
        {"train.batch", std::to_string(options_.batch)},
        {"train.l2wrap", options_.objective.l2wrap ? "true" : "false"},
        {"train.precision", options_.objective.precision == Precision::int8 ? "int8" : "exact"},
        {"train.schedule", text(options_.schedule.initial) + " to " +
                               text(options_.schedule.final) + " over " +
                               std::to_string(options_.schedule.steps) + ", warm-up " +
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

  static std::uint64_t number(const io::Checkpoint& c, const std::string& key) {
    const auto it = c.metadata.find(key);
    std::uint64_t value = 0;
    if (it != c.metadata.end()) {
      const char* end = it->second.data() + it->second.size();
      if (const auto r = std::from_chars(it->second.data(), end, value);
          r.ec == std::errc{} && r.ptr == end)
        return value;
    }
    fail_with(ErrorCategory::format, c.source, ": the metadata ", key,
              " is missing or not a number");
  }

  TrainerOptions options_;
  Source source_;
  Parameters base_;
  std::optional<Parameters> merged_, gradient_;
  std::optional<Lora> lora_;
  std::optional<State<>> state_, state_gradient_;
  Buffer<float, dynamic> lora_gradient_;
  std::vector<Trained> trained_;
  Objective objective_;
  std::optional<AdamW> optimizer_;
  std::vector<Sample> samples_;
};

}  // namespace rwkv::inline RWKV_ABI::train
