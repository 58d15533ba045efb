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

namespace rwkv::inline RWKV_ABI {

/// Tokens to append to a sequence, and the sequence's state, which is advanced. The states of a
/// batch are distinct objects.
template <class Shape = DynamicShape>
struct Slot {
  State<Shape>* state = nullptr;
  std::span<const Token> tokens;
};

/// The rows whose logits are computed.
enum class Logits : std::uint8_t {
  none,  ///< only advance the states
  last,  ///< one row per slot: after its last token
  all,   ///< one row per token, slot after slot
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Runs the batch in passes of at most work.rows() rows; `blocks(pass)` runs the blocks on the rows
/// of a pass, and returns false if the executor wants to go no further: nothing more is done then.
/// `weights` offers emb, ln0, ln_out and head. `logits` is [number of asked rows][V].
/// Preconditions: every slot has at least one token, every token is below V, work.shape() is the
/// model's.
template <class L, class Weights, class SlotT, class Work, class Exec, class Blocks>
void forward(const Weights& weights, std::span<const SlotT> slots, Logits which, float* logits,
             Work& work, Exec& exec, Blocks&& blocks) {
  const auto& shape = work.shape();
  std::size_t slot = 0;
  std::size_t used = 0;  // tokens of this slot that earlier passes took
  while (slot < slots.size()) {
    // Fill a pass with segments of consecutive slots.
    Pass pass{0, 0};
    std::size_t asked = 0;
    while (slot < slots.size() && pass.rows < work.rows()) {
      const std::size_t left = slots[slot].tokens.size() - used;
      const std::size_t room = work.rows() - pass.rows;
      const std::size_t rows = left < room ? left : room;
      work.segments()[pass.segments++] = {slots[slot].state, slots[slot].tokens.data() + used,
                                          pass.rows, rows};
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
        embed<L>(weights.emb(), weights.ln0(), segment.tokens[m], channels,
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
    }
    if (asked > 0) head<L>(weights.ln_out(), weights.head(), asked, work, logits, exec);
    logits += asked * shape.vocab();
  }
}

/// The same for RWKV-7, whose blocks are `weights.block(i)`, one after the other.
template <class L, class Weights, class Shape, class Work, class Exec>
void forward(const Weights& weights, std::span<const Slot<Shape>> slots, Logits which,
             float* logits, Work& work, Exec& exec) {
  forward<L>(weights, slots, which, logits, work, exec, [&](const Pass& pass) {
    for (std::size_t i = 0; i < work.shape().layers(); ++i) {
      if (!proceed(exec)) return false;
      block<L>(weights.block(i), weights.eigenvalues(), i, pass, work, exec);
    }
    return true;
  });
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
