// SPDX-License-Identifier: Apache-2.0
// The public header: an RWKV-7 model.
//
//   const auto model = rwkv::Model<>::load("model.pth");     // or .safetensors, .gguf, .bin, .st
//   rwkv::State state(model.shape());
//   rwkv::Workspace work(model.shape());
//   std::span<const float> logits = model.forward(state, tokens, work);
//
// A model is immutable: any number of threads may run it at once, each with its own states and
// workspace. Define RWKV_NO_IO to leave out files and json (a model is then built from an
// io::Checkpoint in memory).
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/forward.hpp>
#include <rwkv/io/stored_weights.hpp>
#include <rwkv/simd/native.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/io/read.hpp>
#include <rwkv/io/state_file.hpp>
#endif

namespace rwkv::inline RWKV_ABI {

/// Immutable weights and their shape. With static dimensions (`Model<Shape<...>>`) loading checks
/// that the file has exactly these. Copies share the weights.
template <class ShapeT = DynamicShape>
class Model {
 public:
  using Shape = ShapeT;

  /// Throws Error if the checkpoint is not an RWKV-7 model, is damaged, or has other dimensions
  /// than Shape.
  template <Executor Exec = Serial>
  explicit Model(const io::Checkpoint& checkpoint, const LoadOptions& options = {},
                 Exec&& exec = {})
      : shape_(checked(io::dimensions_of(checkpoint), checkpoint.source)),
        weights_(std::make_shared<const io::StoredWeights>(checkpoint, options, exec)) {}

#if !defined(RWKV_NO_IO)
  /// Reads any supported file; the format is recognised by content. The file must not change while
  /// the model lives (its embedding table stays mapped). Throws Error.
  template <Executor Exec = Serial>
  [[nodiscard]] static Model load(const std::filesystem::path& path,
                                  const LoadOptions& options = {}, Exec&& exec = {}) {
    return Model(io::read_checkpoint(path), options, exec);
  }

  /// Writes a state of this model to `path`, as a whole or not at all. Throws Error (io).
  void save_state(const std::filesystem::path& path, const State<Shape>& state) const {
    io::save_state(path, state, weights_->fingerprint());
  }

  /// Reads a state written by `save_state`, or one trained by state tuning (only `time_state`; .pth
  /// too). Throws Error if the file is damaged or the state belongs to another model.
  [[nodiscard]] State<Shape> load_state(const std::filesystem::path& path) const {
    return io::state_from(io::read_checkpoint(path), shape_, weights_->fingerprint());
  }
#endif

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] const io::StoredWeights& weights() const noexcept { return *weights_; }

  /// Appends `tokens` to the sequence and returns the logits [V] after the last one; they live in
  /// the workspace until it is used again. Throws Error (argument) for no tokens or a token outside
  /// the vocabulary, before anything has changed. Same bits for every way of cutting a text into
  /// calls, and for every executor.
  template <class Work, Executor Exec = Serial>
  std::span<const float> forward(State<Shape>& state, std::span<const Token> tokens, Work& work,
                                 Exec&& exec = {}) const {
    const Slot<Shape> slot{&state, tokens};
    forward(std::span(&slot, 1), Logits::last, work.logits(), work, exec);
    return work.logits();
  }

  /// Advances a batch of sequences together. `logits` takes one row [V] per slot (Logits::last) or
  /// per token, slot after slot (Logits::all). Throws Error (argument, shape) before anything has
  /// changed: a slot without tokens, a token outside the vocabulary, a state or workspace of
  /// another shape, `logits` of another size.
  template <class Work, Executor Exec = Serial>
  void forward(std::span<const Slot<Shape>> slots, Logits which, std::span<float> logits,
               Work& work, Exec&& exec = {}) const {
    detail::check_batch(shape_, slots, which, logits, work);
    detail::forward<simd::Native>(*weights_, slots, which, logits.data(), work, exec);
  }

 private:
  static Shape checked(const Dimensions& d, const std::string& source) {
    if (!Shape::accepts(d))
      fail_with(ErrorCategory::shape, source, ": the model (", d.layers, " layers, ", d.embed,
                " channels, head size ", d.head_size, ", ffn ", d.ffn, ", vocabulary ", d.vocab,
                ", ranks ", d.decay_rank, "/", d.icl_rank, "/", d.value_rank, "/", d.gate_rank,
                ") does not have the dimensions this program was compiled for");
    return Shape(d);
  }

  [[no_unique_address]] Shape shape_;
  std::shared_ptr<const io::StoredWeights> weights_;
};

#if !defined(RWKV_NO_IO)
/// `Model<>::load`
template <Executor Exec = Serial>
[[nodiscard]] Model<> load(const std::filesystem::path& path, const LoadOptions& options = {},
                           Exec&& exec = {}) {
  return Model<>::load(path, options, exec);
}
#endif

}  // namespace rwkv::inline RWKV_ABI
