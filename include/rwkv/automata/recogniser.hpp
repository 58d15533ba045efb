// SPDX-License-Identifier: Apache-2.0
// Runs a compiled automaton: symbols in, labels out, in memory that does not grow with the word.
#pragma once

#include <rwkv/automata/spelling.hpp>
#include <rwkv/core/argmax.hpp>
#include <rwkv/model.hpp>

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
                      std::size_t rows = 64)
      : spelling_(Spelling::read(checkpoint)),
        model_(checkpoint, options),
        state_(model_.shape()),
        work_(model_.shape(), rows),
        logits_(work_.rows() * model_.shape().vocab()) {
    reset();
  }

  /// Forgets the word.
  void reset() {
    state_.reset();
    const auto logits = model_.forward(state_, spelling_.begin, work_);
    label_ = argmax(logits.first(spelling_.labels));
  }

  /// Appends `word`. If `labels` is not empty, it has one entry per symbol and receives the label
  /// after each. Throws Error (argument) for a symbol that does not exist or `labels` of another
  /// size, before anything has changed. Allocates nothing once the first long word has been read.
  void feed(std::span<const Symbol> word, std::span<std::size_t> labels = {}) {
    for (const Symbol s : word)
      if (s >= spelling_.symbols.size())
        fail_with(ErrorCategory::argument, "symbol ", unsigned{s}, " of an automaton with ",
                  spelling_.symbols.size(), " symbols");
    run(word.size(), labels, [word](std::size_t i) { return word[i]; });
  }

  /// The same for bytes of the automaton's alphabet.
  void feed(std::string_view text, std::span<std::size_t> labels = {}) {
    for (const char byte : text) (void)spelling_.alphabet.at(byte);
    run(text.size(), labels,
        [&](std::size_t i) { return spelling_.alphabet[static_cast<unsigned char>(text[i])]; });
  }

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
  template <class SymbolAt>
  void run(std::size_t count, std::span<std::size_t> labels, SymbolAt symbol_at) {
    if (!labels.empty() && labels.size() != count)
      fail_with(ErrorCategory::argument, "room for ", labels.size(), " labels of ", count,
                " symbols");
    const Logits which = labels.empty() ? Logits::last : Logits::all;
    for (std::size_t i = 0; i < count;) {
      // As many symbols as fill the workspace, at least one.
      tokens_.clear();
      ends_.clear();
      do {
        const auto& spelled = spelling_.symbols[symbol_at(i)];
        tokens_.insert(tokens_.end(), spelled.begin(), spelled.end());
        ends_.push_back(tokens_.size());
      } while (++i < count && tokens_.size() < work_.rows());

      const std::size_t vocab = model_.shape().vocab();
      const std::size_t rows = which == Logits::all ? tokens_.size() : 1;
      if (logits_.size() < rows * vocab) logits_.resize(rows * vocab);
      const Slot<> slot{&state_, tokens_};
      model_.forward(std::span(&slot, 1), which, std::span(logits_).first(rows * vocab), work_);
      const auto label_in = [&](std::size_t row) {
        return argmax(std::span(logits_).subspan(row * vocab, spelling_.labels));
      };
      if (which == Logits::all)
        for (std::size_t j = 0; j < ends_.size(); ++j)
          labels[i - ends_.size() + j] = label_in(ends_[j] - 1);
      label_ = label_in(rows - 1);
    }
  }

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
