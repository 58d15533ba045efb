// SPDX-License-Identifier: Apache-2.0
// The one forward pass: a ragged batch of rows flows through the weights and a state per sequence.
//
//   tokens -> embed -> block 0 ... block L-1 -> head -> logits
//
// Decode is one slot with one token, prefill one slot with many, batched decode many slots with one
// each; any mixture is a batch. The bits of a row depend on nothing but its own sequence: not on
// the other slots, not on how the prompt was cut, not on the executor.
#pragma once

#include <rwkv/block.hpp>
#include <rwkv/embedding.hpp>
#include <rwkv/head.hpp>

#include <span>
#include <type_traits>

namespace rwkv::inline RWKV_ABI {

/// Tokens to append to a sequence, and the sequence's state, which is advanced. The states of a
/// batch are distinct objects: models refuse others.
template <class Shape = DynamicShape>
struct Slot {
  State<Shape>* state = nullptr;
  std::span<const Token> tokens;
  /// For Logits::chosen: the tokens after which a row is wanted, as ascending indices into
  /// `tokens`.
  std::span<const std::size_t> positions = {};
  /// Where the pass logs what these tokens do to the state, if anywhere: the way back to each of
  /// them (row_log.hpp). It must have room for them. With a shape of constants there is none.
  [[no_unique_address]] IfLogs<Shape, RowLog*> log = {};
};

/// A batch of one (for code that works with every kind of model).
template <class Shape>
[[nodiscard]] Slot<Shape> slot_of(State<Shape>& state, std::span<const Token> tokens,
                                  std::span<const std::size_t> positions = {}) {
  return {&state, tokens, positions};
}

/// The rows of a batch that somebody wants.
enum class Logits : std::uint8_t {
  none,    ///< only advance the states
  last,    ///< one row per slot: after its last token
  all,     ///< one row per token, slot after slot
  chosen,  ///< one row per position that a slot names, slot after slot; a slot may name none
};

/// Where a forward pass writes these rows. What is empty is not computed; spans of rows without
/// logits save the head.
struct Outputs {
  /// [rows][V]
  std::span<float> logits = {};
  /// [rows][C] The hidden states: the vector after the last norm, whose product with the head are
  /// the logits. It depends on all tokens up to its own, so that one after a whole text is an
  /// embedding of the text (compare them by their angle; a model that was not trained for it makes
  /// rough ones).
  std::span<float> hidden = {};

  constexpr Outputs() = default;
  /// Logits alone.
  template <class Range>
  requires(std::is_convertible_v<Range, std::span<float>>) constexpr Outputs(Range&& rows) noexcept
      : logits(rows) {}
  constexpr Outputs(std::span<float> logit_rows, std::span<float> hidden_rows) noexcept
      : logits(logit_rows), hidden(hidden_rows) {}
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Lets the rows of a segment be logged where its slot says.
template <class SlotT, class SegmentT>
constexpr void log_rows(const SlotT& slot, SegmentT& segment) noexcept {
  if constexpr (requires { *slot.log; }) {
    if (slot.log == nullptr) return;
    segment.logged = {slot.log, slot.log->size()};
    slot.log->extend(segment.rows);
  }
}

/// Runs the batch in passes of at most work.rows() rows; `blocks(pass)` runs the blocks on the rows
/// of a pass, and returns false if the executor wants to go no further: nothing more is done then.
/// `weights` offers emb, ln0, ln_out and head. `out` has room for the rows asked for.
/// Preconditions: every slot has at least one token, every token is below V, positions are as a
/// Slot wants them, work.shape() is the model's.
template <class L, class Weights, class SlotT, class Work, class Exec, class Blocks>
void forward(const Weights& weights, std::span<const SlotT> slots, Logits which, Outputs out,
             Work& work, Exec& exec, Blocks&& blocks) {
  const auto& shape = work.shape();
  std::size_t slot = 0;
  std::size_t used = 0;      // tokens of this slot that earlier passes took
  std::size_t position = 0;  // and positions
  while (slot < slots.size()) {
    // Fill a pass with segments of consecutive slots.
    const std::size_t first_slot = slot;
    const std::size_t used_before = used;
    Pass pass{0, 0};
    std::size_t asked = 0;
    while (slot < slots.size() && pass.rows < work.rows()) {
      const std::size_t left = slots[slot].tokens.size() - used;
      const std::size_t room = work.rows() - pass.rows;
      const std::size_t rows = left < room ? left : room;
      work.segments()[pass.segments++] = {slots[slot].state, slots[slot].tokens.data() + used,
                                          pass.rows, rows};
      log_rows(slots[slot], work.segments()[pass.segments - 1]);
      pass.rows += rows;
      used += rows;
      if (used == slots[slot].tokens.size()) {
        ++slot;
        used = 0;
      }
    }

    const std::size_t channels = shape.embed();
    for (std::size_t s = 0; s < pass.segments; ++s) {
      const auto& segment = work.segments()[s];
      kernels::for_each(segment.rows, 2 * channels, exec, [&](std::size_t m) {
        embed<L>(weights.emb(), weights.ln0(), segment.tokens[m], channels, exec,
                 work.row(Work::x, segment.first_row + m));
      });
    }
    if (!blocks(pass)) return;

    if (which == Logits::all) {
      asked = pass.rows;
    } else if (which == Logits::last) {
      // Every segment ends its slot, except the last one of a pass that ran full.
      const std::size_t complete = used == 0 ? pass.segments : pass.segments - 1;
      for (; asked < complete; ++asked)
        select_row(work, work.segments()[asked].first_row + work.segments()[asked].rows - 1, asked);
    } else if (which == Logits::chosen) {
      for (std::size_t s = 0; s < pass.segments; ++s) {
        const auto& segment = work.segments()[s];
        const auto& positions = slots[first_slot + s].positions;
        const std::size_t begin = s == 0 ? used_before : 0;
        if (begin == 0) position = 0;
        for (; position < positions.size() && positions[position] < begin + segment.rows;
             ++position)
          select_row(work, segment.first_row + positions[position] - begin, asked++);
      }
    }
    if (asked > 0) head<L>(weights.ln_out(), weights.head(), asked, out, work, exec);
  }
}

/// The same for RWKV-7, whose blocks are `weights.block(i)`, one after the other.
template <class L, class Weights, class Shape, class Work, class Exec>
void forward(const Weights& weights, std::span<const Slot<Shape>> slots, Logits which,
             const Outputs& out, Work& work, Exec& exec) {
  forward<L>(weights, slots, which, out, work, exec, [&](const Pass& pass) {
    for (std::size_t i = 0; i < work.shape().layers(); ++i) {
      if (!proceed(exec)) return false;
      block<L>(weights.block(i), weights.eigenvalues(), i, pass, work, exec);
    }
    return true;
  });
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
