// SPDX-License-Identifier: Apache-2.0
// Runs a compiled automaton (automata.hpp) as a static model: recogniser.hpp for microcontrollers.
// `rwkv export` writes the spelling of such a model beside its weights.
//
//   constexpr rwkv::StaticModel model(tiny::weights);
//   static rwkv::State<tiny::Shape> state;
//   static rwkv::Workspace<tiny::Shape, 1> work;
//   const rwkv::automata::StaticRecogniser dates(model, date::spelling);
//   dates.reset(state, work);
//   if (dates.feed("2024-02-29", state, work) && dates.label(work) == 1) print("a date");
//
// Freestanding: no heap, no exceptions.
#pragma once

#include <rwkv/static_model.hpp>

#include <string_view>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// Spelling (spelling.hpp) over constant arrays.
struct StaticSpelling {
  static constexpr std::uint16_t none = 0xffff;  ///< in `alphabet`: no symbol

  std::size_t labels;                       ///< the first logits, of which the largest is the label
  std::span<const Token> begin;             ///< fed once, before the first symbol
  std::span<const std::uint16_t> alphabet;  ///< [256] bytes to symbols
  std::span<const std::uint32_t> starts;    ///< [symbols + 1] into `tokens`
  std::span<const Token> tokens;            ///< of symbol s: from starts[s] to starts[s + 1]
};

/// Reads words with a static model. Immutable: the word so far is in the state, its label in the
/// workspace.
template <class Model>
class StaticRecogniser {
 public:
  /// The model must outlive it, and the spelling be that of this model.
  constexpr StaticRecogniser(const Model& model, const StaticSpelling& spelling) noexcept
      : model_(&model), spelling_(spelling) {}

  /// Forgets the word.
  template <class State, class Work, class Exec = Serial>
  void reset(State& state, Work& work, Exec&& exec = Exec{}) const noexcept {
    state.reset();
    (void)model_->forward(state, spelling_.begin, work, exec);
  }

  /// Appends `text`. False, with nothing changed, if a byte of it is not in the alphabet.
  template <class State, class Work, class Exec = Serial>
  [[nodiscard]] bool feed(std::string_view text, State& state, Work& work,
                          Exec&& exec = Exec{}) const noexcept {
    for (const char byte : text)
      if (symbol_of(byte) == StaticSpelling::none) return false;
    for (const char byte : text) {
      const std::size_t symbol = symbol_of(byte);
      const std::size_t first = spelling_.starts[symbol];
      (void)model_->forward(
          state, spelling_.tokens.subspan(first, spelling_.starts[symbol + 1] - first), work, exec);
    }
    return true;
  }

  /// The label of the word so far: for a regular expression 1 if it matches, else 0.
  template <class Work>
  [[nodiscard]] std::size_t label(Work& work) const noexcept {
    return argmax(std::span<const float>(work.logits()).first(spelling_.labels));
  }

  /// How many tokens `reset` and `feed` of a text run through the model.
  [[nodiscard]] std::size_t tokens_of(std::string_view text) const noexcept {
    std::size_t n = spelling_.begin.size();
    for (const char byte : text)
      if (const std::size_t s = symbol_of(byte); s != StaticSpelling::none)
        n += spelling_.starts[s + 1] - spelling_.starts[s];
    return n;
  }

 private:
  [[nodiscard]] std::uint16_t symbol_of(char byte) const noexcept {
    return spelling_.alphabet[static_cast<unsigned char>(byte)];
  }

  const Model* model_;
  StaticSpelling spelling_;
};

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
