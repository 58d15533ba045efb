// SPDX-License-Identifier: Apache-2.0
// What a batch must fulfil before a model runs it.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/forward.hpp>
#include <rwkv/row_log.hpp>
#include <rwkv/shape_difference.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail {

/// Throws Error (argument, shape) if the batch does not fit a model and a workspace of `shape`.
template <class Shape, class SlotT, class Work>
void check_batch(const Shape& shape, std::span<const SlotT> slots, Logits which, const Outputs& out,
                 const Work& work) {
  if (!work.intact())
    fail(ErrorCategory::argument, "the workspace was moved away, or an assignment to it failed");
  if (!(work.shape() == shape))
    fail_with(ErrorCategory::shape, "the workspace was made for a model of another shape: ",
              shape_difference(work.shape(), shape));
  std::size_t tokens = 0;
  std::size_t chosen = 0;
  for (std::size_t s = 0; s < slots.size(); ++s) {
    if (slots[s].state == nullptr) fail_with(ErrorCategory::argument, "slot ", s, " has no state");
    internal::check_state(shape, *slots[s].state, "the state of slot ", s);
    for (std::size_t other = 0; other < s; ++other)  // a pass per token costs far more
      if (slots[other].state == slots[s].state)
        fail_with(ErrorCategory::argument, "slots ", other, " and ", s,
                  " have the same state: a sequence is in one slot of a batch");
    if (slots[s].tokens.empty()) fail_with(ErrorCategory::argument, "slot ", s, " has no tokens");
    for (std::size_t t = 0; t < slots[s].tokens.size(); ++t)
      if (slots[s].tokens[t] >= shape.vocab())
        fail_with(ErrorCategory::argument, "token ", slots[s].tokens[t], " at position ", t,
                  " is outside the vocabulary of ", shape.vocab());
    if constexpr (requires { *slots[s].log; }) {
      const RowLog* const log = slots[s].log;
      if (log != nullptr && !(log->shape() == shape))
        fail_with(ErrorCategory::shape, "the log of slot ", s,
                  " belongs to a model of another shape");
      if (log != nullptr && log->room() < slots[s].tokens.size())
        fail_with(ErrorCategory::argument, "the log of slot ", s, " has room for ", log->room(),
                  " tokens, not ", slots[s].tokens.size());
      for (std::size_t other = 0; log != nullptr && other < s; ++other)
        if (slots[other].log == log)
          fail_with(ErrorCategory::argument, "slots ", other, " and ", s,
                    " have the same log: a log is of one sequence");
      if (log != nullptr && log->size() > 0) {  // the last layer's rows tell the most
        const std::size_t i = shape.layers() - 1, end = log->size() * log->stride();
        const auto same = [end](std::span<const float> rows, std::span<const float> logged) {
          return std::memcmp(rows.data(), logged.data() + end, rows.size_bytes()) == 0;
        };
        const auto& state = *slots[s].state;
        if (!same(state.ffn_x_prev(i), log->ffn_x_prev(i)) ||
            !same(state.att_x_prev(i), log->att_x_prev(i)))
          fail_with(ErrorCategory::argument, "the log of slot ", s,
                    " does not end with its state, which went on without it");
      }
    }
    tokens += slots[s].tokens.size();
    if constexpr (requires { slots[s].positions; }) {
      if (which != Logits::chosen) continue;
      const auto& positions = slots[s].positions;
      for (std::size_t p = 0; p < positions.size(); ++p)
        if (positions[p] >= slots[s].tokens.size() || (p > 0 && positions[p] <= positions[p - 1]))
          fail_with(ErrorCategory::argument, "position ", positions[p], " of slot ", s,
                    positions[p] < slots[s].tokens.size() ? " does not come after the one before it"
                                                          : " is behind its last token");
      chosen += positions.size();
    }
  }
  const std::size_t rows = which == Logits::none   ? 0
                           : which == Logits::last ? slots.size()
                           : which == Logits::all  ? tokens
                                                   : chosen;
  const bool hidden_fit = out.hidden.empty() || out.hidden.size() == rows * shape.embed();
  const bool logits_fit = (out.logits.empty() && !out.hidden.empty()) ||
                          out.logits.size() == rows * shape.vocab() || which == Logits::none;
  if (!logits_fit)
    fail_with(ErrorCategory::argument, "room for ", out.logits.size(), " logits where ", rows,
              " rows of ", shape.vocab(), " are written");
  if (!hidden_fit)
    fail_with(ErrorCategory::argument, "room for ", out.hidden.size(),
              " numbers of hidden states where ", rows, " rows of ", shape.embed(), " are written");
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail
