// SPDX-License-Identifier: Apache-2.0
// RWKV-X: RWKV-7 blocks and, after every few of them, a block of sparse attention.
//
//   const auto model = rwkv::HybridModel::load("rwkv-x.pth");
//   rwkv::HybridState state(model.shape());
//   rwkv::HybridWorkspace work(model.shape());
//   std::span<const float> logits = model.forward(state, tokens, work);
//
// With m sparse blocks among n RWKV-7 blocks, sparse block j follows RWKV-7 block (j + 1) floor(n /
// m) - 1. RWKV-7 blocks left over by the division are loaded and never run, as in the published
// code. A file without sparse blocks is RWKV-7.
//
// Two functions of the same weights are defined. Both cache, per head, a key and a value per token;
// "entries" counts them. HybridConfig has the hyper-parameters.
//
// paper (the default): **the result depends on the tokens alone**, not on how they are cut into
// calls, on batching, or on threads.
//   * A token reads its own chunk of `chunk` entries up to itself. Of the complete chunks before it
//     the token reads the top_k - 1 whose mean key has the largest product with its query, chosen
//     per head. Until top_k chunks are full, and with mode `full` always, that is plain causal
//     attention.
//   * When `max_cache` entries are cached and another token comes, min_cache entries are kept: the
//     last `window`, and per head those of the others that have the most votes. The queries of the
//     window vote, each with its softmax over all entries before the window. What is kept stays in
//     order of time, and chunks are counted anew from the start. This happens after max_cache
//     tokens and then after every max_cache - min_cache, wherever calls begin or end. The votes are
//     cast token by token: only one number per entry and head is stored, and there is no pause. So
//     the window must be no longer than max_cache - min_cache.
//
// package: what the published package computes, for comparison. **A call is part of the input.**
//   * Each slot's tokens are one call, and all calls of a batch fit into one pass of the workspace.
//     A call of one token is a decode, a longer one a prefill.
//   * Decode: with at most chunk * top_k entries cached, or mode full, the token reads all of them;
//     otherwise the top_k complete chunks with the largest product of query and mean key over all
//     channels (one choice for all heads), the entries behind the last complete chunk, and itself.
//     Nothing else guarantees it its neighbourhood.
//   * Prefill of T tokens: if T and the entries together exceed chunk * top_k (whatever the mode),
//     the call is cut into pieces of `chunk` tokens and each token reads its own piece up to
//     itself: no cache, no earlier piece. Otherwise plain causal attention.
//   * A call that finds more than max_cache entries keeps min_cache: per head those with the most
//     votes, in order of votes, then the last `window`. The call's own queries vote; in a prefill
//     the outputs of ln1 stand in for them.
#pragma once

#include <rwkv/batch.hpp>
#include <rwkv/hybrid_workspace.hpp>
#include <rwkv/io/stored_weights.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/io/hybrid_state_file.hpp>
#include <rwkv/io/read.hpp>
#endif

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Tokens to append to a sequence, and the sequence's state, which is advanced. The states of a
/// batch are distinct objects: models refuse others.
struct HybridSlot {
  HybridState* state = nullptr;
  std::span<const Token> tokens;
  /// For Logits::chosen: the tokens after which a row is wanted, as ascending indices into
  /// `tokens`.
  std::span<const std::size_t> positions = {};
};

/// A batch of one (for code that works with every kind of model).
[[nodiscard]] inline HybridSlot slot_of(HybridState& state, std::span<const Token> tokens,
                                        std::span<const std::size_t> positions = {}) {
  return {&state, tokens, positions};
}

/// Immutable weights, their shape and the hyper-parameters. Copies share the weights.
class HybridModel {
 public:
  /// Without `config` the hyper-parameters are those that the file carries, else the defaults.
  /// Throws Error if the checkpoint is neither RWKV-X nor RWKV-7, is damaged, or the
  /// hyper-parameters contradict each other.
  explicit HybridModel(const io::Checkpoint& checkpoint,
                       const std::optional<HybridConfig>& config = {},
                       const LoadOptions& options = {}, ExecutorRef exec = {});

#if !defined(RWKV_NO_IO)
  /// The model whose file is in memory; see Model. Copies what it keeps.
  explicit HybridModel(std::span<const std::byte> bytes,
                       const std::optional<HybridConfig>& config = {},
                       const LoadOptions& options = {}, ExecutorRef exec = {},
                       const std::string& source = "the model in memory")
      : HybridModel(io::detail::look_at(bytes, source), config, options, exec) {}
  /// The same for bytes that are given up: they are freed when the model is loaded.
  explicit HybridModel(std::vector<std::byte>&& bytes,
                       const std::optional<HybridConfig>& config = {},
                       const LoadOptions& options = {}, ExecutorRef exec = {},
                       const std::string& source = "the model in memory")
      : HybridModel(io::read_checkpoint(std::move(bytes), source), config, options, exec) {}
  /// The same for bytes that must outlive the model and its copies.
  explicit HybridModel(io::View bytes, const std::optional<HybridConfig>& config = {},
                       const LoadOptions& options = {}, ExecutorRef exec = {},
                       const std::string& source = "the model in memory")
      : HybridModel(io::read_checkpoint(bytes, source), config, options, exec) {}
#endif

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
  /// Reads any supported file or folder, as Model::load does: the file must not change while the
  /// model lives, unless LoadOptions::map is false. Throws Error.
  [[nodiscard]] static HybridModel load(const std::filesystem::path& path,
                                        const std::optional<HybridConfig>& config = {},
                                        const LoadOptions& options = {}, ExecutorRef exec = {}) {
    return HybridModel(
        io::read_checkpoint(path, options.map ? io::FileAccess::map : io::FileAccess::read), config,
        options, exec);
  }

  /// Writes a state of this model to `path`, as a whole or not at all; `notes` are further
  /// metadata. Throws Error (io), (shape, argument) for a state of another shape or none, and
  /// (numeric) for one with numbers that are not finite.
  void save_state(const std::filesystem::path& path, const HybridState& state,
                  const io::Metadata& notes = {}) const {
    const std::uint64_t fingerprint = weights().fingerprint();
    internal::check_state(shape_, state, "the state");
    io::save_state(path, state, fingerprint, notes);
  }

  /// Reads a state written by `save_state`, or one trained by state tuning. Throws Error if the
  /// file is damaged or the state belongs to another model or other hyper-parameters.
  [[nodiscard]] HybridState load_state(const std::filesystem::path& path,
                                       const io::StateOptions& options = {}) const {
    const std::uint64_t fingerprint = weights().fingerprint();
    return io::hybrid_state_from(io::read_checkpoint(path), shape_, fingerprint, options);
  }
#endif

#if !defined(RWKV_NO_IO)
  /// The bytes of the file that `save_state` writes.
  [[nodiscard]] std::vector<std::byte> state_to_bytes(const HybridState& state,
                                                      const io::Metadata& notes = {}) const {
    const std::uint64_t fingerprint = weights().fingerprint();
    internal::check_state(shape_, state, "the state");
    return io::state_to_bytes(state, fingerprint, notes);
  }

  /// The state in the bytes of a file that `load_state` would read, checked as it does. `source`
  /// names them in messages. Throws Error.
  [[nodiscard]] HybridState state_from_bytes(
      std::span<const std::byte> bytes, const io::StateOptions& options = {},
      const std::string& source = "the state in memory") const {
    return io::hybrid_state_from(io::read_checkpoint(bytes, source), shape_,
                                 weights().fingerprint(), options);
  }
#endif

  [[nodiscard]] const HybridShape& shape() const noexcept { return shape_; }
  [[nodiscard]] const HybridConfig& config() const noexcept { return shape_.config(); }
  /// Throws Error (argument), as everything that needs them, if this model was moved away.
  [[nodiscard]] const io::StoredWeights& weights() const {
    if (weights_ == nullptr) fail(ErrorCategory::argument, "this model was moved away");
    return *weights_;
  }

  /// The state before the first token: empty, unless the file has a tuned state for the RWKV-7
  /// blocks.
  [[nodiscard]] HybridState initial_state() const {
    HybridState state(shape_);
    weights().start(state);
    return state;
  }

  /// Appends `tokens` to the sequence and returns the logits [V] after the last one; they live in
  /// the workspace until it is used again. Throws Error (argument) for no tokens or a token outside
  /// the vocabulary, and std::bad_alloc for a cache that cannot grow, before anything has changed.
  std::span<const float> forward(HybridState& state, std::span<const Token> tokens,
                                 HybridWorkspace& work, ExecutorRef exec = {}) const;

  /// Advances a batch of sequences together and writes the rows that `which` says, slot after slot,
  /// to `out`: a span of logits, or {logits, hidden states}. Throws as above, before anything has
  /// changed; with the package's semantics also (argument) if the tokens do not fit into one pass
  /// of the workspace.
  void forward(std::span<const HybridSlot> slots, Logits which, const Outputs& out,
               HybridWorkspace& work, ExecutorRef exec = {}) const;

 private:
  void check_calls(std::span<const HybridSlot> slots, std::size_t rows) const;

  std::shared_ptr<const io::StoredWeights> weights_;
  HybridShape shape_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/hybrid.ipp>
#endif
