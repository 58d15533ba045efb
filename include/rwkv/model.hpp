// SPDX-License-Identifier: Apache-2.0
// The public header: an RWKV-7 model.
//
//   const auto model = rwkv::Model<>::load("model.pth");     // or .safetensors, .gguf, .bin, .st
//   rwkv::State state(model.shape());
//   rwkv::Workspace work(model.shape());
//   std::span<const float> logits = model.forward(state, tokens, work);
//
// A model is immutable: any number of threads may run it at once, each with its own states and
// workspace. Define RWKV_NO_FILES where there is no file system (models are then read from memory,
// by io::read_checkpoint), RWKV_NO_PTH to leave out .pth and rwkv.cpp files, RWKV_NO_IO to leave out
// the formats and json as well (a model is then built from an io::Checkpoint that the program
// fills).
#pragma once

#include <rwkv/batch.hpp>
#include <rwkv/exec/serial.hpp>
#include <rwkv/io/stored_weights.hpp>
#include <rwkv/kernels/chosen.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/io/read.hpp>
#include <rwkv/io/state_file.hpp>
#endif

#include <algorithm>
#include <type_traits>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Checks a batch and runs it. Compiled once for models whose shape is known only at run time.
template <class Shape, class Work>
void run(const io::StoredWeights& weights, std::span<const Slot<Shape>> slots, Logits which,
         const Outputs& out, Work& work, ExecutorRef exec) {
  check_batch(Shape(weights.dimensions()), slots, which, out, work);
  weights.check_file();
  forward<simd::Chosen>(weights, slots, which, out, work, exec);
}

#if !RWKV_HEADER_ONLY
extern template void run(const io::StoredWeights&, std::span<const Slot<>>, Logits, const Outputs&,
                         Workspace<>&, ExecutorRef);
#endif

/// The same numbers in a state of another type of shape.
template <class To, class From>
[[nodiscard]] State<To> state_of(const To& shape, const State<From>& from) {
  State<To> to(shape);
  for (std::size_t i = 0; i < shape.layers(); ++i) {
    std::ranges::copy(from.att_x_prev(i), to.att_x_prev(i).begin());
    std::ranges::copy(from.ffn_x_prev(i), to.ffn_x_prev(i).begin());
    std::ranges::copy(from.wkv(i), to.wkv(i).begin());
  }
  return to;
}

}  // namespace detail

/// Immutable weights and their shape. With static dimensions (`Model<Shape<...>>`) loading checks
/// that the file has exactly these. Copies share the weights.
template <class ShapeT = DynamicShape>
class Model {
 public:
  using Shape = ShapeT;

  /// Throws Error if the checkpoint is not an RWKV-7 model, is damaged, or has other dimensions
  /// than Shape.
  explicit Model(const io::Checkpoint& checkpoint, const LoadOptions& options = {},
                 ExecutorRef exec = {})
      : shape_(checked(io::dimensions_of(checkpoint), checkpoint.source)),
        weights_(std::make_shared<const io::StoredWeights>(checkpoint, options, exec)) {}

#if !defined(RWKV_NO_IO)
  /// The model whose file, of any supported format, is in memory: downloaded, say. Copies what it
  /// keeps; `bytes` are not needed afterwards. `source` names the model in messages. Throws Error.
  explicit Model(std::span<const std::byte> bytes, const LoadOptions& options = {},
                 ExecutorRef exec = {}, const std::string& source = "the model in memory")
      : Model(io::detail::look_at(bytes, source), options, exec) {}
  /// The same for bytes that are given up: they are freed when the model is loaded.
  explicit Model(std::vector<std::byte>&& bytes, const LoadOptions& options = {},
                 ExecutorRef exec = {}, const std::string& source = "the model in memory")
      : Model(io::read_checkpoint(std::move(bytes), source), options, exec) {}
  /// The same for bytes that stay, linked into the program, say: the embedding table is used where
  /// it lies if it is aligned for its type, so that **they must outlive the model and its copies**.
  explicit Model(io::View bytes, const LoadOptions& options = {}, ExecutorRef exec = {},
                 const std::string& source = "the model in memory")
      : Model(io::read_checkpoint(bytes, source), options, exec) {}
#endif

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
  /// Reads any supported file or folder; the format is recognised by content. The file must not
  /// change while the model lives (its embedding table stays mapped), unless LoadOptions::map is
  /// false. One that has become shorter gives Error (io) in the next `forward`, but kills the
  /// process if that happens while a pass runs. Throws Error.
  [[nodiscard]] static Model load(const std::filesystem::path& path,
                                  const LoadOptions& options = {}, ExecutorRef exec = {}) {
    return Model(
        io::read_checkpoint(path, options.map ? io::FileAccess::map : io::FileAccess::read),
        options, exec);
  }

  /// Writes a state of this model to `path`, as a whole or not at all; `notes` are further
  /// metadata. Throws Error (io), (shape, argument) for a state of another shape or none, and
  /// (numeric) for one with numbers that are not finite.
  void save_state(const std::filesystem::path& path, const State<Shape>& state,
                  const io::Metadata& notes = {}) const {
    const std::uint64_t fingerprint = weights().fingerprint();
    internal::check_state(shape_, state, "the state");
    if constexpr (std::is_same_v<Shape, DynamicShape>)
      io::save_state(path, state, fingerprint, notes);
    else
      io::save_state(path, detail::state_of(DynamicShape(shape_.dimensions()), state), fingerprint,
                     notes);
  }

  /// Reads a state written by `save_state`, one trained by state tuning (only `time_state`; .pth
  /// too), or one of ChatRWKV or rwkv.cpp: see io/state_file.hpp. Throws Error if the file is
  /// damaged or the state belongs to another model.
  [[nodiscard]] State<Shape> load_state(const std::filesystem::path& path,
                                        const io::StateOptions& options = {}) const {
    State<> state =
        io::read_state(path, DynamicShape(shape_.dimensions()), weights().fingerprint(), options);
    if constexpr (std::is_same_v<Shape, DynamicShape>)
      return state;
    else
      return detail::state_of(shape_, state);
  }
#endif

#if !defined(RWKV_NO_IO)
  /// The bytes of the file that `save_state` writes: to be kept, or sent, without a file.
  [[nodiscard]] std::vector<std::byte> state_to_bytes(const State<Shape>& state,
                                                      const io::Metadata& notes = {}) const {
    const std::uint64_t fingerprint = weights().fingerprint();
    internal::check_state(shape_, state, "the state");
    if constexpr (std::is_same_v<Shape, DynamicShape>)
      return io::state_to_bytes(state, fingerprint, notes);
    else
      return io::state_to_bytes(detail::state_of(DynamicShape(shape_.dimensions()), state),
                                fingerprint, notes);
  }

  /// The state in the bytes of a file that `load_state` would read, checked as it does. `source`
  /// names them in messages. Throws Error.
  [[nodiscard]] State<Shape> state_from_bytes(
      std::span<const std::byte> bytes, const io::StateOptions& options = {},
      const std::string& source = "the state in memory") const {
    State<> state = io::state_from_bytes(bytes, DynamicShape(shape_.dimensions()),
                                         weights().fingerprint(), options, source);
    if constexpr (std::is_same_v<Shape, DynamicShape>)
      return state;
    else
      return detail::state_of(shape_, state);
  }
#endif

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  /// Throws Error (argument), as everything that needs them, if this model was moved away.
  [[nodiscard]] const io::StoredWeights& weights() const {
    if (weights_ == nullptr) fail(ErrorCategory::argument, "this model was moved away");
    return *weights_;
  }

  /// The state before the first token: zeros, unless the file has a tuned state for the model
  /// (`blocks.0.att.time_state` among its tensors).
  [[nodiscard]] State<Shape> initial_state() const {
    State<Shape> state(shape_);
    weights().start(state);
    return state;
  }

  /// Appends `tokens` to the sequence and returns the logits [V] after the last one; they live in
  /// the workspace until it is used again. Throws Error (argument) for no tokens or a token outside
  /// the vocabulary, before anything has changed. Same bits for every way of cutting a text into
  /// calls, and for every executor.
  template <class Work>
  std::span<const float> forward(State<Shape>& state, std::span<const Token> tokens, Work& work,
                                 ExecutorRef exec = {}) const {
    const Slot<Shape> slot{&state, tokens};
    forward(std::span(&slot, 1), Logits::last, work.logits(), work, exec);
    return work.logits();
  }

  /// Advances a batch of sequences together and writes the rows that `which` says, slot after slot,
  /// to `out`: a span of logits, or {logits, hidden states}. Throws Error (argument, shape) before
  /// anything has changed: a slot without tokens or state, a state in two slots, a token outside the
  /// vocabulary, a position outside its slot, a state or workspace of another shape or moved away,
  /// outputs of another size.
  template <class Work>
  void forward(std::span<const Slot<Shape>> slots, Logits which, const Outputs& out, Work& work,
               ExecutorRef exec = {}) const {
    detail::run(weights(), slots, which, out, work, exec);
  }

 private:
  static Shape checked(const Dimensions& d, const std::string& source) {
    if (!Shape::accepts(d))
      fail_with(ErrorCategory::shape, source, ": the model (", d.layers, " layers, ", d.embed,
                " channels, head size ", d.head_size, ", ffn ", d.ffn, ", vocabulary ", d.vocab,
                ", ranks ", d.decay_rank, "/", d.icl_rank, "/", d.value_rank, "/", d.gate_rank,
                ", DeepEmbed ", d.deep_rank,
                ") does not have the dimensions this program was compiled for");
    return Shape(d);
  }

  [[no_unique_address]] Shape shape_;
  std::shared_ptr<const io::StoredWeights> weights_;
};

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
/// `Model<>::load`
[[nodiscard]] inline Model<> load(const std::filesystem::path& path,
                                  const LoadOptions& options = {}, ExecutorRef exec = {}) {
  return Model<>::load(path, options, exec);
}
#endif

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
