// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/compile.hpp.
#pragma once

#include <rwkv/automata/compile.hpp>
#include <rwkv/automata/weights.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

namespace detail {

/// States that need a channel. A state without a way out is worth none: it is the row of zeros, so
/// that going there is one erasure instead of a merge.
struct StateChannels {
  std::vector<std::size_t> channel;  // or `vanished`
  std::size_t count = 0;

  explicit StateChannels(const Dfa& dfa) : channel(dfa.states()) {
    std::vector<std::size_t> entries(dfa.states(), 0);
    for (StateId q = 0; q < dfa.states(); ++q)
      for (std::size_t s = 0; s < dfa.symbols(); ++s) ++entries[dfa.next(q, s)];
    std::optional<StateId> sink;  // the busiest
    for (StateId q = 0; q < dfa.states(); ++q) {
      bool absorbing = q != dfa.start();
      for (std::size_t s = 0; s < dfa.symbols(); ++s) absorbing &= dfa.next(q, s) == q;
      if (absorbing && (!sink || entries[q] > entries[*sink])) sink = q;
    }
    for (StateId q = 0; q < dfa.states(); ++q) channel[q] = q == sink ? vanished : count++;
  }
};

/// Labels as equidistant numbers in [-1, 1]; 0 is the one that a row of zeros means.
class LabelCodes {
 public:
  LabelCodes(std::size_t labels, std::size_t zero)
      : steps_(static_cast<double>((std::max<std::size_t>)(1, labels / 2))), codes_(labels) {
    for (std::size_t label = 0; label < labels; ++label) {
      const std::size_t rank = label == zero ? 0 : label < zero ? label + 1 : label;
      const double distance = static_cast<double>((rank + 1) / 2) / steps_;
      codes_[label] = rank % 2 == 0 ? -distance : distance;
    }
  }

  [[nodiscard]] double operator[](std::size_t label) const noexcept { return codes_[label]; }

  /// The nearest code wins: 2 code x - code^2 is x^2 less the squared distance.
  [[nodiscard]] std::vector<LabelReader> readers() const {
    const double scale = margin * steps_ * steps_;
    std::vector<LabelReader> readers;
    for (const double code : codes_) readers.push_back({{2 * scale * code}, -scale * code * code});
    return readers;
  }

 private:
  double steps_;  // from 0 to 1
  std::vector<double> codes_;
};

/// The number y for which the group norm of (y, 0, ..., 0) [n] begins with `code`, |code| <= 1.
[[nodiscard]] inline double before_group_norm(double code, std::size_t n) {
  const double share = 1 - 1 / static_cast<double>(n);
  return code * std::sqrt(double{kernels::group_norm_epsilon} /
                          (share * share - code * code * share / static_cast<double>(n)));
}

}  // namespace detail

RWKV_FUNCTION io::Checkpoint compile(const Dfa& dfa, Output output) {
  if (output != Output::acceptance && output != Output::state)
    fail_with(ErrorCategory::argument, "a DFA has no output ", std::string(name_of(output)));
  dfa.require_states();
  const detail::StateChannels states(dfa);
  const detail::ChannelMap map(states.count, 1);
  Spelling spelling;
  spelling.output = output;
  spelling.labels = output == Output::acceptance ? 2 : dfa.states();
  spelling.alphabet = dfa.alphabet();
  spelling.begin = {static_cast<Token>(spelling.labels)};
  detail::Speller speller(map, spelling.labels + 1);
  for (std::size_t s = 0; s < dfa.symbols(); ++s) {
    std::vector<std::size_t> f(states.count);
    for (StateId q = 0; q < dfa.states(); ++q)
      if (states.channel[q] != vanished) f[states.channel[q]] = states.channel[dfa.next(q, s)];
    spelling.symbols.push_back(speller.spell(f));
  }

  const auto label_of = [&](StateId q) {
    return output == Output::state ? q : static_cast<std::size_t>(dfa.accepting(q));
  };
  std::size_t zero = 0;
  for (StateId q = 0; q < dfa.states(); ++q)
    if (states.channel[q] == vanished) zero = label_of(q);
  const detail::LabelCodes codes(spelling.labels, zero);
  detail::Program program{.states = states.count,
                          .begins = {states.channel[dfa.start()]},
                          .steps = speller.take(),
                          .receptance = std::vector<float>(states.count),
                          .labels = codes.readers()};
  for (StateId q = 0; q < dfa.states(); ++q)
    if (states.channel[q] != vanished)
      program.receptance[states.channel[q]] =
          static_cast<float>(detail::before_group_norm(codes[label_of(q)], map.width));

  io::Checkpoint checkpoint = detail::assemble(program, map, "compiled automaton");
  spelling.write(checkpoint.metadata);
  return checkpoint;
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
