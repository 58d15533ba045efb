// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/recogniser.hpp.
#pragma once

#include <rwkv/automata/recogniser.hpp>
#include <rwkv/core/argmax.hpp>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

RWKV_FUNCTION Recogniser::Recogniser(const io::Checkpoint& checkpoint, const LoadOptions& options,
                                     std::size_t rows)
    : spelling_(Spelling::read(checkpoint)),
      model_(checkpoint, options),
      state_(model_.shape()),
      work_(model_.shape(), rows),
      logits_(work_.rows() * model_.shape().vocab()) {
  reset();
}

RWKV_FUNCTION void Recogniser::reset() {
  state_.reset();
  const auto logits = model_.forward(state_, spelling_.begin, work_);
  label_ = argmax(logits.first(spelling_.labels));
}

RWKV_FUNCTION void Recogniser::feed(std::span<const Symbol> word, std::span<std::size_t> labels) {
  for (const Symbol s : word)
    if (s >= spelling_.symbols.size())
      fail_with(ErrorCategory::argument, "symbol ", unsigned{s}, " of an automaton with ",
                spelling_.symbols.size(), " symbols");
  run(word.size(), labels, [word](std::size_t i) { return word[i]; });
}

RWKV_FUNCTION void Recogniser::feed(std::string_view text, std::span<std::size_t> labels) {
  for (const char byte : text) (void)spelling_.alphabet.at(byte);
  run(text.size(), labels,
      [&](std::size_t i) { return spelling_.alphabet[static_cast<unsigned char>(text[i])]; });
}

RWKV_FUNCTION void Recogniser::run(std::size_t count, std::span<std::size_t> labels,
                                   const std::function<Symbol(std::size_t)>& symbol_at) {
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

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
