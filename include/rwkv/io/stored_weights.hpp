// SPDX-License-Identifier: Apache-2.0
// Checkpoint -> weights: checks every tensor and packs matrices for the kernels. Matrices keep the type they are stored in; vectors are widened to
// float, and so are low-rank maps stored in blocks.
#pragma once

#include <rwkv/io/dimensions.hpp>
#include <rwkv/io/load_options.hpp>
#include <rwkv/io/model_settings.hpp>
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/table.hpp>
#include <rwkv/shape.hpp>
#include <rwkv/weights.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <new>
#include <utility>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Which kind of model the caller can run.
enum class Architecture : std::uint8_t { rwkv7, hybrid };

/// What the weights of a model take when they are loaded.
struct WeightSizes {
  std::size_t parameters = 0;       ///< StoredWeights::parameters
  std::size_t bytes = 0;            ///< StoredWeights::bytes
  std::size_t bytes_per_token = 0;  ///< StoredWeights::bytes_per_token
  std::size_t in_place = 0;         ///< of `bytes`: the tables that are used where they lie
  std::size_t sparse_ffn = 0;       ///< StoredWeights::sparse_ffn
  std::size_t allocated = 0;        ///< the one allocation for all that is not used in place
};

/// A model's parameters in memory: what the views of weights.hpp point into. Immutable, movable.
class StoredWeights {
 public:
  /// Reads and checks every tensor of the checkpoint. Tables (the embedding's, and those of DeepEmbed
  /// unless they are in two parts) stay where they are, if the checkpoint says that they may
  /// (`Checkpoint::in_place`) and its layout allows it; everything else is copied. Throws Error.
  explicit StoredWeights(const Checkpoint& c, const LoadOptions& options = {},
                         ExecutorRef exec = {}, Architecture architecture = Architecture::rwkv7)
      : StoredWeights(c, options, exec, architecture, false) {}

  /// The sizes of what that constructor would make, without reading an element. It checks what can
  /// be checked so: names, shapes and types. Throws Error.
  [[nodiscard]] static WeightSizes sizes(const Checkpoint& c, const LoadOptions& options = {},
                                         Architecture architecture = Architecture::rwkv7);

  [[nodiscard]] const Dimensions& dimensions() const noexcept { return dimensions_; }
  [[nodiscard]] Eigenvalues eigenvalues() const noexcept { return eigenvalues_; }
  [[nodiscard]] const NormSettings& norms() const noexcept { return norms_; }
  [[nodiscard]] const AnyTable& emb() const noexcept { return emb_; }
  [[nodiscard]] const NormWeights& ln0() const noexcept { return ln0_; }
  [[nodiscard]] const BlockWeights<AnyMatrix>& block(std::size_t i) const noexcept {
    return blocks_[i];
  }
  /// The sparse-attention blocks of a hybrid model.
  [[nodiscard]] std::size_t sparse_blocks() const noexcept { return sparse_blocks_.size(); }
  [[nodiscard]] const SparseBlockWeights<AnyMatrix>& sparse_block(std::size_t j) const noexcept {
    return sparse_blocks_[j];
  }
  /// Width of the sparse blocks' channel mix; 0 without sparse blocks.
  [[nodiscard]] std::size_t sparse_ffn() const noexcept {
    return sparse_blocks_.empty() ? 0 : sparse_blocks_[0].ffn.key.rows;
  }
  [[nodiscard]] const NormWeights& ln_out() const noexcept { return ln_out_; }
  [[nodiscard]] const AnyMatrix& head() const noexcept { return head_; }

  /// Puts the model's own initial state, if it has one, into a state before the first token.
  template <class State>
  void start(State& state) const noexcept {
    const std::size_t layer = dimensions_.embed * dimensions_.head_size;
    for (std::size_t i = 0; i < dimensions_.layers && initial_ != nullptr; ++i)
      std::copy_n(initial_ + i * layer, layer, state.wkv(i).begin());
  }

  /// Numbers in the model, block 0's unused value residual not counted.
  [[nodiscard]] std::size_t parameters() const noexcept { return parameters_; }
  /// Bytes of all parameters as they are held in memory.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_ + table_bytes_ + state_bytes_; }
  /// Bytes that one decoded token reads: everything but the tables, of which it reads one row each.
  [[nodiscard]] std::size_t bytes_per_token() const noexcept {
    return bytes_ + (dimensions_.vocab == 0 ? 0 : table_bytes_ / dimensions_.vocab);
  }
  /// Identifies the model a state belongs to: a hash of the dimensions and of every vector. Storing
  /// the matrices in another type does not change it.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }

  /// Throws Error (io) if the embedding table is used in a mapped file that has become shorter.
  /// Models call it before each pass.
  void check_file() const {
    if (check_file_) check_file_();
  }

 private:
  StoredWeights(const Checkpoint& c, const LoadOptions& options, ExecutorRef exec,
                Architecture architecture, bool only_measure);

  void read_eigenvalues(const Checkpoint& c);
  void hash(std::uint64_t word) noexcept { fingerprint_ = (fingerprint_ ^ word) * 0x100000001b3u; }

  class Builder;

  Dimensions dimensions_;
  NormSettings norms_;
  Eigenvalues eigenvalues_ = Eigenvalues::standard;
  AnyTable emb_;
  NormWeights ln0_;
  std::vector<BlockWeights<AnyMatrix>> blocks_;
  std::vector<SparseBlockWeights<AnyMatrix>> sparse_blocks_;
  NormWeights ln_out_;
  AnyMatrix head_;
  detail::WeightArena memory_;
  std::vector<std::unique_ptr<const LowRank>> beside_;  // what matrices of blocks point to
  std::vector<std::shared_ptr<const void>> storage_;    // of tables, if they are in place
  std::function<void()> check_file_;                    // likewise
  const float* initial_ = nullptr;                      // [L][H][N key][N value], or null
  std::size_t in_place_ = 0;                            // bytes of tables
  std::size_t parameters_ = 0;
  std::size_t bytes_ = 0;  // of all but tables
  std::size_t table_bytes_ = 0;
  std::size_t state_bytes_ = 0;  // of initial_
  std::uint64_t fingerprint_ = 0xcbf29ce484222325u;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/stored_weights.ipp>
#endif
