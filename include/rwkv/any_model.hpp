// SPDX-License-Identifier: Apache-2.0
// Whatever a file or a folder is: RWKV-7 or RWKV-X, with its vocabulary and its chat template.
//
//     const rwkv::Opened tales = rwkv::open("examples/models/tales");
//     rwkv::AnyState state = tales.model.initial_state();
//     rwkv::AnyWorkspace work = tales.model.workspace();
//     rwkv::generate(tales.model, state, work, tales.tokenizer(), "Once upon a time", {}, show);
//
// AnyModel is a model whose architecture is known at run time. It does what Model and HybridModel
// do, through one branch per call, and goes into generate, GenerateBatch and Conversation. What wants
// a typed model (verify, say) gets `*model.rwkv7()` or `*model.hybrid()`.
#pragma once

#include <rwkv/core/result.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/model.hpp>
#include <rwkv/text/chat_template.hpp>
#include <rwkv/tokenizer.hpp>

#include <variant>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The state of a sequence of either architecture. A regular value type.
class AnyState {
 public:
  AnyState(State<> state) : state_(std::move(state)) {}
  AnyState(HybridState state) : state_(std::move(state)) {}

  [[nodiscard]] const DynamicShape& shape() const noexcept { return rwkv().shape(); }
  /// False for a state that was moved away.
  [[nodiscard]] bool intact() const noexcept {
    return hybrid() != nullptr ? hybrid()->intact() : rwkv().intact();
  }
  /// Null if it is of the other architecture.
  [[nodiscard]] HybridState* hybrid() noexcept { return std::get_if<HybridState>(&state_); }
  [[nodiscard]] const HybridState* hybrid() const noexcept {
    return std::get_if<HybridState>(&state_);
  }
  /// The part of the RWKV-7 blocks, which is all of it without sparse attention.
  [[nodiscard]] State<>& rwkv() noexcept {
    HybridState* const both = hybrid();
    return both != nullptr ? both->rwkv() : *std::get_if<State<>>(&state_);
  }
  [[nodiscard]] const State<>& rwkv() const noexcept {
    const HybridState* const both = hybrid();
    return both != nullptr ? both->rwkv() : *std::get_if<State<>>(&state_);
  }

  /// Back to the beginning of a text.
  void reset() noexcept { hybrid() != nullptr ? hybrid()->reset() : rwkv().reset(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return hybrid() != nullptr ? hybrid()->bytes() : rwkv().bytes();
  }

  friend bool operator==(const AnyState& a, const AnyState& b) noexcept {
    if (a.state_.index() != b.state_.index()) return false;
    return a.hybrid() != nullptr ? *a.hybrid() == *b.hybrid() : a.rwkv() == b.rwkv();
  }

 private:
  std::variant<State<>, HybridState> state_;
};

/// A workspace for a model of either architecture: `AnyModel::workspace`.
class AnyWorkspace {
 public:
  AnyWorkspace(Workspace<> work) : work_(std::move(work)) {}
  AnyWorkspace(HybridWorkspace work) : work_(std::move(work)) {}

  [[nodiscard]] std::size_t rows() const noexcept {
    return std::visit([](const auto& work) { return work.rows(); }, work_);
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return std::visit([](const auto& work) { return work.bytes(); }, work_);
  }
  /// One row of logits [V].
  [[nodiscard]] std::span<float> logits() noexcept {
    return std::visit([](auto& work) { return work.logits(); }, work_);
  }

  /// For measurements: see Workspace.
  [[nodiscard]] HiddenUnits& hidden_units() noexcept {
    return std::visit([](auto& work) -> HiddenUnits& { return work.hidden_units(); }, work_);
  }

  /// Null if it is for the other architecture.
  [[nodiscard]] Workspace<>* rwkv() noexcept { return std::get_if<Workspace<>>(&work_); }
  [[nodiscard]] HybridWorkspace* hybrid() noexcept { return std::get_if<HybridWorkspace>(&work_); }

 private:
  std::variant<Workspace<>, HybridWorkspace> work_;
};

/// Tokens to append to a sequence, its state, and positions: see Slot.
struct AnySlot {
  AnyState* state = nullptr;
  std::span<const Token> tokens;
  std::span<const std::size_t> positions = {};
};

/// A model of either architecture. Immutable; copies share the weights.
class AnyModel {
 public:
  AnyModel(Model<> model) : model_(std::move(model)) {}
  AnyModel(HybridModel model) : model_(std::move(model)) {}

  /// RWKV-X if the checkpoint has sparse-attention blocks, else RWKV-7. `config` is for RWKV-X:
  /// without it the hyper-parameters are those that the file carries, else the defaults. Throws
  /// Error as Model and HybridModel, and (argument) for a `config` that goes with no RWKV-X.
  explicit AnyModel(const io::Checkpoint& checkpoint, const LoadOptions& options = {},
                    ExecutorRef exec = {}, const std::optional<HybridConfig>& config = {});

  /// Null if it is of the other architecture.
  [[nodiscard]] const Model<>* rwkv7() const noexcept { return std::get_if<Model<>>(&model_); }
  [[nodiscard]] const HybridModel* hybrid() const noexcept {
    return std::get_if<HybridModel>(&model_);
  }

  [[nodiscard]] const DynamicShape& shape() const noexcept;
  [[nodiscard]] const io::StoredWeights& weights() const;

  /// The state before the first token; see Model.
  [[nodiscard]] AnyState initial_state() const;

  /// A workspace of `rows` rows. More where calls must not be cut, which only the semantics of the
  /// published RWKV-X package want: it then has room for `longest_call` tokens.
  [[nodiscard]] AnyWorkspace workspace(std::size_t rows = 128, std::size_t longest_call = 0) const;

  /// See Model. Throws Error (argument) also for a state or workspace of the other architecture.
  std::span<const float> forward(AnyState& state, std::span<const Token> tokens, AnyWorkspace& work,
                                 ExecutorRef exec = {}) const;
  void forward(std::span<const AnySlot> slots, Logits which, const Outputs& out, AnyWorkspace& work,
               ExecutorRef exec = {}) const;

#if !defined(RWKV_NO_IO)
  /// See Model.
  [[nodiscard]] std::vector<std::byte> state_to_bytes(const AnyState& state,
                                                      const io::Metadata& notes = {}) const;
  [[nodiscard]] AnyState state_from_bytes(std::span<const std::byte> bytes,
                                          const io::StateOptions& options = {},
                                          const std::string& source = "the state in memory") const;
#if !defined(RWKV_NO_FILES)
  void save_state(const std::filesystem::path& path, const AnyState& state,
                  const io::Metadata& notes = {}) const;
  [[nodiscard]] AnyState load_state(const std::filesystem::path& path,
                                    const io::StateOptions& options = {}) const;
#endif
#endif

 private:
  std::variant<Model<>, HybridModel> model_;
};

/// A batch of one (for code that works with every kind of model).
[[nodiscard]] inline AnySlot slot_of(AnyState& state, std::span<const Token> tokens,
                                     std::span<const std::size_t> positions = {}) {
  return {&state, tokens, positions};
}

/// How a file or folder is opened.
struct OpenOptions {
  /// Of the weights; a block type as matrix_type quantises.
  LoadOptions load{};
  /// Hyper-parameters of an RWKV-X model instead of the file's.
  std::optional<HybridConfig> hybrid{};
  /// A vocabulary (see Tokenizer::from_vocab) instead of the model's own, as the content of a file;
  /// it is not checked whether it fits.
  std::string vocabulary{};
};

#if !defined(RWKV_NO_IO)
/// A model, and what goes with it.
struct Opened {
  AnyModel model;
  /// The file, and its format: "pth", "safetensors", "gguf", "ggmf".
  std::string source;
  std::string format;
  std::optional<Tokenizer> vocabulary{};
#if !defined(RWKV_NO_FILES)
  /// How turns of a conversation are written, and what says so (see chat::chat_template_of).
  chat::Choice chat_template{};
#endif

  /// Throws Error (argument) if there is no vocabulary.
  [[nodiscard]] const Tokenizer& tokenizer() const {
    if (!vocabulary)
      fail_with(ErrorCategory::argument, source,
                ": neither this model nor its folder has a vocabulary");
    return *vocabulary;
  }
};

/// The model whose file, of any supported format, is in memory; copies what it keeps: see Model.
[[nodiscard]] RWKV_FUNCTION Opened open(std::span<const std::byte> bytes,
                                        const OpenOptions& options = {}, ExecutorRef exec = {},
                                        const std::string& source = "the model in memory");

/// The same for bytes that are given up: they are freed when the model is loaded.
[[nodiscard]] RWKV_FUNCTION Opened open(std::vector<std::byte>&& bytes,
                                        const OpenOptions& options = {}, ExecutorRef exec = {},
                                        const std::string& source = "the model in memory");

#if !defined(RWKV_NO_FILES)
/// The model in a file or folder of any kind that io::read_checkpoint reads, with the vocabulary and
/// the chat template that it carries or that lie beside it. Throws Error, also for a vocabulary that
/// belongs to another model; a model without one is opened all the same.
[[nodiscard]] RWKV_FUNCTION Opened open(const std::filesystem::path& path,
                                        const OpenOptions& options = {}, ExecutorRef exec = {});
#endif

#if RWKV_HAS_EXCEPTIONS || !RWKV_HEADER_ONLY
[[nodiscard]] RWKV_FUNCTION Result<Opened> try_open(
    std::span<const std::byte> bytes, const OpenOptions& options = {}, ExecutorRef exec = {},
    const std::string& source = "the model in memory");

#if !defined(RWKV_NO_FILES)
/// The same without exceptions (see core/result.hpp).
[[nodiscard]] RWKV_FUNCTION Result<Opened> try_open(const std::filesystem::path& path,
                                                    const OpenOptions& options = {},
                                                    ExecutorRef exec = {});

/// `Model<>::load` without exceptions.
[[nodiscard]] RWKV_FUNCTION Result<Model<>> try_load(const std::filesystem::path& path,
                                                     const LoadOptions& options = {},
                                                     ExecutorRef exec = {});
#endif
#endif
#endif

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/any_model.ipp>
#endif
