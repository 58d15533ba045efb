// SPDX-License-Identifier: Apache-2.0
// The definitions of any_model.hpp.
#pragma once

#include <rwkv/any_model.hpp>
#include <rwkv/io/vocabulary_file.hpp>
#include <rwkv/quantised.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// The model of a checkpoint.
[[nodiscard]] inline std::variant<Model<>, HybridModel> model_of(
    const io::Checkpoint& checkpoint, LoadOptions options, ExecutorRef exec,
    const std::optional<HybridConfig>& config) {
  if (options.narrow == nullptr) options.narrow = &io::narrow_pieces;
  if (io::sparse_blocks_of(checkpoint) > 0) return HybridModel(checkpoint, config, options, exec);
  if (config)
    fail_with(ErrorCategory::argument, checkpoint.source,
              ": hyper-parameters are for RWKV-X models; this one has no sparse-attention blocks");
  return Model<>(checkpoint, options, exec);
}

/// The part for a model's architecture of what may be for the other one.
template <class T>
[[nodiscard]] T& expect(T* part, const char* what) {
  if (part == nullptr)
    fail_with(ErrorCategory::argument, "a ", what, " of another architecture than the model's");
  return *part;
}

inline constexpr const char* a_state = "state";
inline constexpr const char* a_workspace = "workspace";

[[nodiscard]] inline const State<>& rwkv7_state(const AnyState& state) {
  return expect(state.hybrid() != nullptr ? nullptr : &state.rwkv(), a_state);
}
[[nodiscard]] inline State<>& rwkv7_state(AnyState& state) {
  return expect(state.hybrid() != nullptr ? nullptr : &state.rwkv(), a_state);
}

}  // namespace detail

RWKV_FUNCTION AnyModel::AnyModel(const io::Checkpoint& checkpoint, const LoadOptions& options,
                                 ExecutorRef exec, const std::optional<HybridConfig>& config)
    : model_(detail::model_of(checkpoint, options, exec, config)) {}

RWKV_FUNCTION const DynamicShape& AnyModel::shape() const noexcept {
  if (const Model<>* const model = rwkv7()) return model->shape();
  return hybrid()->shape();
}

RWKV_FUNCTION const io::StoredWeights& AnyModel::weights() const {
  if (const Model<>* const model = rwkv7()) return model->weights();
  return hybrid()->weights();
}

RWKV_FUNCTION AnyState AnyModel::initial_state() const {
  if (const Model<>* const model = rwkv7()) return model->initial_state();
  return hybrid()->initial_state();
}

RWKV_FUNCTION AnyWorkspace AnyModel::workspace(std::size_t rows, std::size_t longest_call) const {
  if (const Model<>* const model = rwkv7()) return Workspace<>(model->shape(), rows);
  const HybridModel& model = *hybrid();
  if (model.config().semantics == HybridSemantics::package) rows = (std::max)(rows, longest_call);
  return HybridWorkspace(model.shape(), rows);
}

RWKV_FUNCTION std::span<const float> AnyModel::forward(AnyState& state,
                                                       std::span<const Token> tokens,
                                                       AnyWorkspace& work, ExecutorRef exec) const {
  if (const Model<>* const model = rwkv7())
    return model->forward(detail::rwkv7_state(state), tokens,
                          detail::expect(work.rwkv(), detail::a_workspace), exec);
  return hybrid()->forward(detail::expect(state.hybrid(), detail::a_state), tokens,
                           detail::expect(work.hybrid(), detail::a_workspace), exec);
}

RWKV_FUNCTION void AnyModel::forward(std::span<const AnySlot> slots, Logits which,
                                     const Outputs& out, AnyWorkspace& work,
                                     ExecutorRef exec) const {
  for (std::size_t s = 0; s < slots.size(); ++s)
    if (slots[s].state == nullptr) fail_with(ErrorCategory::argument, "slot ", s, " has no state");
  if (const Model<>* const model = rwkv7()) {
    std::vector<Slot<>> mine;
    mine.reserve(slots.size());
    for (const AnySlot& slot : slots)
      mine.push_back({&detail::rwkv7_state(*slot.state), slot.tokens, slot.positions});
    model->forward(mine, which, out, detail::expect(work.rwkv(), detail::a_workspace), exec);
  } else {
    std::vector<HybridSlot> mine;
    mine.reserve(slots.size());
    for (const AnySlot& slot : slots)
      mine.push_back(
          {&detail::expect(slot.state->hybrid(), detail::a_state), slot.tokens, slot.positions});
    hybrid()->forward(mine, which, out, detail::expect(work.hybrid(), detail::a_workspace), exec);
  }
}

#if !defined(RWKV_NO_IO)
RWKV_FUNCTION std::vector<std::byte> AnyModel::state_to_bytes(const AnyState& state,
                                                              const io::Metadata& notes) const {
  if (const Model<>* const model = rwkv7())
    return model->state_to_bytes(detail::rwkv7_state(state), notes);
  return hybrid()->state_to_bytes(detail::expect(state.hybrid(), detail::a_state), notes);
}

RWKV_FUNCTION AnyState AnyModel::state_from_bytes(std::span<const std::byte> bytes,
                                                  const io::StateOptions& options,
                                                  const std::string& source) const {
  if (const Model<>* const model = rwkv7()) return model->state_from_bytes(bytes, options, source);
  return hybrid()->state_from_bytes(bytes, options, source);
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION void AnyModel::save_state(const std::filesystem::path& path, const AnyState& state,
                                        const io::Metadata& notes) const {
  if (const Model<>* const model = rwkv7())
    return model->save_state(path, detail::rwkv7_state(state), notes);
  hybrid()->save_state(path, detail::expect(state.hybrid(), detail::a_state), notes);
}

RWKV_FUNCTION AnyState AnyModel::load_state(const std::filesystem::path& path,
                                            const io::StateOptions& options) const {
  if (const Model<>* const model = rwkv7()) return model->load_state(path, options);
  return hybrid()->load_state(path, options);
}
#endif

namespace detail {

[[nodiscard]] inline Opened opened(const io::Checkpoint& checkpoint, const OpenOptions& options,
                                   ExecutorRef exec) {
  // The vocabulary first: it is quickly read, and its problems are not met after a long wait.
  std::optional<Tokenizer> vocabulary;
  if (!options.vocabulary.empty())
    vocabulary = Tokenizer::from_vocab(std::string_view(options.vocabulary));
  else if (const auto own = io::vocabulary_of(checkpoint))
    vocabulary.emplace(own->tokens, own->source);
  return {AnyModel(checkpoint, options.load, exec, options.hybrid), checkpoint.source,
          checkpoint.format, std::move(vocabulary)};
}

/// The same, with what the file itself says about conversations.
[[nodiscard]] inline Opened opened_from_memory(const io::Checkpoint& checkpoint,
                                               const OpenOptions& options, ExecutorRef exec) {
  Opened result = opened(checkpoint, options, exec);
#if !defined(RWKV_NO_FILES)
  result.chat_template = chat::chat_template_of({}, checkpoint.metadata);
#endif
  return result;
}

}  // namespace detail

RWKV_FUNCTION Opened open(std::span<const std::byte> bytes, const OpenOptions& options,
                          ExecutorRef exec, const std::string& source) {
  return detail::opened_from_memory(io::detail::look_at(bytes, source), options, exec);
}

RWKV_FUNCTION Opened open(std::vector<std::byte>&& bytes, const OpenOptions& options,
                          ExecutorRef exec, const std::string& source) {
  return detail::opened_from_memory(io::read_checkpoint(std::move(bytes), source), options, exec);
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION Opened open(const std::filesystem::path& path, const OpenOptions& options,
                          ExecutorRef exec) {
  const io::Checkpoint checkpoint =
      io::read_checkpoint(path, options.load.map ? io::FileAccess::map : io::FileAccess::read);
  chat::Choice choice = chat::chat_template_of(path, checkpoint.metadata);
  Opened opened = detail::opened(checkpoint, options, exec);
  opened.chat_template = std::move(choice);
  return opened;
}
#endif

#if RWKV_HAS_EXCEPTIONS || !RWKV_HEADER_ONLY
RWKV_FUNCTION Result<Opened> try_open(std::span<const std::byte> bytes, const OpenOptions& options,
                                      ExecutorRef exec, const std::string& source) {
  return attempt([&] { return open(bytes, options, exec, source); });
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION Result<Opened> try_open(const std::filesystem::path& path, const OpenOptions& options,
                                      ExecutorRef exec) {
  return attempt([&] { return open(path, options, exec); });
}

RWKV_FUNCTION Result<Model<>> try_load(const std::filesystem::path& path,
                                       const LoadOptions& options, ExecutorRef exec) {
  return attempt([&] { return Model<>::load(path, options, exec); });
}
#endif
#endif
#endif

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
