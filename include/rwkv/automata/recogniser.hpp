// SPDX-License-Identifier: Apache-2.0
// Runs a compiled automaton: symbols in, labels out, in memory that does not grow with the word.
#pragma once

#include <rwkv/automata/spelling.hpp>
#include <rwkv/model.hpp>

#include <functional>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// A compiled automaton and the word it has read. Copies share the weights and go on separately.
/// Everything it knows of the word is in the model's state, and everything it says comes from the
/// model's logits.
class Recogniser {
 public:
  /// `checkpoint`: from `compile` or `compile_permutations`, or read from a file. `rows`: how many
  /// tokens run through the model together. Throws Error (format) if it is not a compiled
  /// automaton.
  explicit Recogniser(const io::Checkpoint& checkpoint, const LoadOptions& options = {},
                      std::size_t rows = 64);

  /// Forgets the word.
  void reset();

  /// Appends `word`. If `labels` is not empty, it has one entry per symbol and receives the label
  /// after each. Throws Error (argument) for a symbol that does not exist or `labels` of another
  /// size, before anything has changed. Allocates nothing once the first long word has been read.
  void feed(std::span<const Symbol> word, std::span<std::size_t> labels = {});

  /// The same for bytes of the automaton's alphabet.
  void feed(std::string_view text, std::span<std::size_t> labels = {});

  /// The label of the word so far: 0 or 1, a state, or the rank of a permutation.
  [[nodiscard]] std::size_t label() const noexcept { return label_; }
  /// True if the word so far belongs to the language. Throws Error (argument) if the automaton was
  /// compiled to say something else.
  [[nodiscard]] bool accepted() const {
    if (spelling_.output != Output::acceptance)
      fail_with(ErrorCategory::argument, "this automaton says its ",
                std::string(name_of(spelling_.output)), ", not whether it accepts");
    return label_ == 1;
  }

  [[nodiscard]] const Spelling& spelling() const noexcept { return spelling_; }
  [[nodiscard]] const Model<>& model() const noexcept { return model_; }
  [[nodiscard]] const State<>& state() const noexcept { return state_; }

 private:
  void run(std::size_t count, std::span<std::size_t> labels,
           const std::function<Symbol(std::size_t)>& symbol_at);

  Spelling spelling_;
  Model<> model_;
  State<> state_;
  Workspace<> work_;
  std::vector<float> logits_;
  std::vector<Token> tokens_;
  std::vector<std::size_t> ends_;  // where the symbols among `tokens_` end
  std::size_t label_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/automata/recogniser.ipp>
#endif
