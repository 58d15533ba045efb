// SPDX-License-Identifier: Apache-2.0
// The training loop's body: draw a batch, differentiate, update. Trains all parameters, only the
// initial state, or low-rank adapters, and saves and resumes without leaving a trace in the
// numbers.
#pragma once

#include <rwkv/state.hpp>
#include <rwkv/train/adamw.hpp>
#include <rwkv/train/data.hpp>
#include <rwkv/train/lora.hpp>
#include <rwkv/train/schedule.hpp>

#include <filesystem>
#include <functional>
#include <optional>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

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

/// What a Trainer is, whatever its data.
class TrainerBase {
 public:
  /// Mean loss over samples in nats, e.g. of `cut(validation_text, length)`; their initial states
  /// are set to the trained one in Mode::state.
  double evaluate(std::vector<Sample> samples, ExecutorRef executor);

  /// Steps done.
  [[nodiscard]] std::uint64_t steps() const noexcept { return optimizer_->steps(); }
  [[nodiscard]] const TrainerOptions& options() const noexcept { return options_; }
  /// Numbers that are being trained.
  [[nodiscard]] std::size_t trained_parameters() const noexcept {
    std::size_t n = 0;
    for (const Trained& t : trained_) n += t.segment.size;
    return n;
  }

  /// The model as trained so far; in Mode::lora with the adapters merged in, in Mode::state the
  /// frozen base.
  [[nodiscard]] const Parameters& model() const noexcept { return merged_ ? *merged_ : base_; }
  /// The adapters. Throws `Error` (argument) unless Mode::lora.
  [[nodiscard]] const Lora& lora() const {
    if (!lora_) fail(ErrorCategory::argument, "this trainer trains no adapters (Mode::lora)");
    return *lora_;
  }
  /// The initial state. Throws `Error` (argument) unless Mode::state.
  [[nodiscard]] const State<>& state() const {
    if (!state_)
      fail(ErrorCategory::argument, "this trainer trains no initial state (Mode::state)");
    return *state_;
  }

  /// Writes the initial state as `blocks.0.att.time_state` ... [H, N value, N key], which inference
  /// imports. Atomic. Throws `Error` (io), and (argument) unless Mode::state.
  void write_state(const std::filesystem::path& path) const;

 protected:
  TrainerBase(Parameters model, Token largest_token, const TrainerOptions& options);

  /// On the samples that the source has filled.
  StepReport step(ExecutorRef executor);
  [[nodiscard]] std::span<Sample> samples() noexcept { return samples_; }
  /// `position` and `data` (its fingerprint) are those of the source.
  void save(const std::filesystem::path& path, const io::Metadata& notes,
            const DataPosition& position, std::uint64_t data);
  io::Metadata resume(const std::filesystem::path& path, bool other_options, std::uint64_t data,
                      const std::function<void(const DataPosition&)>& restore);

 private:
  /// A tensor that is being trained.
  struct Trained {
    std::string name;
    std::vector<std::size_t> shape;
    Segment segment;
  };

  // Throws `Error` (argument) for options that make no sense.
  static Parameters checked(Parameters&& model, const TrainerOptions& options);

  [[nodiscard]] std::span<float> values() noexcept;
  [[nodiscard]] std::span<const float> gradient() const noexcept;

  /// What a checkpoint stores of every trained tensor.
  [[nodiscard]] std::array<std::pair<std::string, std::span<float>>, 3> buffers() noexcept;

  /// All that must be equal for a resumed run to be the same run.
  [[nodiscard]] io::Metadata identity(std::uint64_t data) const;

  TrainerOptions options_;
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

/// Trains one model on one source of data. Given the same model, data, options and number of
/// threads, every run gives the same bits, however often it was saved and resumed. Use from one
/// thread at a time.
template <DataSource Source>
class Trainer : public TrainerBase {
 public:
  /// Takes the model (a fresh one from `initialise`, or one from a file) and the data. Throws
  /// `Error` (argument) for data with ids past the vocabulary or options that make no sense.
  Trainer(Parameters model, Source source, const TrainerOptions& options)
      : TrainerBase(std::move(model), source.largest_token(), options),
        source_(std::move(source)) {}

  /// One update. Throws `Error` (numeric) if the loss or its gradient is not finite; the model is
  /// then as it was before the step.
  StepReport step(ExecutorRef executor) {
    source_.next(samples());
    return TrainerBase::step(executor);
  }

  [[nodiscard]] const Source& source() const noexcept { return source_; }

  /// Writes everything needed to continue, atomically: a crash or a full disk leaves an earlier
  /// checkpoint as it was. `notes` are the caller's own and come back from `resume`. Throws `Error`
  /// (io).
  void save(const std::filesystem::path& path, const io::Metadata& notes = {}) {
    TrainerBase::save(path, notes, source_.position(), source_.fingerprint());
  }

  /// Continues from a checkpoint of the same model shape, data and options; nothing changes if it
  /// throws: `Error` (format) for a damaged file, (shape) for another shape, (argument) for other
  /// data or options, naming the difference. `other_options`: continue although data, schedule or
  /// optimizer options differ. Returns the file's metadata.
  io::Metadata resume(const std::filesystem::path& path, bool other_options = false) {
    return TrainerBase::resume(path, other_options, source_.fingerprint(),
                               [this](const DataPosition& position) { source_.restore(position); });
  }

 private:
  Source source_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/trainer.ipp>
#endif
