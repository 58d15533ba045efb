// SPDX-License-Identifier: Apache-2.0
// The definitions of history.hpp.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/history.hpp>
#include <rwkv/shape_difference.hpp>

#include <algorithm>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION History::History(const DynamicShape& shape, std::size_t bytes)
    : shape_(shape), capacity_(0), logs_at_most_(0) {
  // Few long logs need less memory per token; many short ones lose less at once, and replay less.
  constexpr std::size_t longest = 64;
  const std::size_t empty = RowLog::bytes_for(shape, 0);
  const std::size_t token = RowLog::bytes_for(shape, 1) - empty;
  for (const std::size_t logs : {std::size_t{8}, std::size_t{4}, std::size_t{2}}) {
    const std::size_t each = bytes / logs;
    capacity_ = each < empty ? 0 : (std::min)(longest, (each - empty) / token);
    if (capacity_ >= 16 || (logs == 2 && capacity_ > 0)) {
      logs_at_most_ = bytes / RowLog::bytes_for(shape, capacity_);
      return;
    }
  }
  fail_with(ErrorCategory::argument, "a history of ", bytes,
            " bytes holds no token of this model: the smallest has ",
            2 * RowLog::bytes_for(shape, 1));
}

RWKV_FUNCTION std::size_t History::size() const noexcept {
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < used_; ++i) tokens += logs_[i].size();
  return tokens;
}

RWKV_FUNCTION std::size_t History::bytes() const noexcept {
  std::size_t total = 0;
  for (const RowLog& log : logs_) total += log.bytes();
  return total;
}

template <class Rows>
bool History::stands_at(const Rows& rows, const RowLog& log, std::size_t m) const noexcept {
  const auto same = [&](std::span<const float> a, std::span<const float> b) {
    return std::memcmp(a.data(), b.data() + m * log.stride(), a.size_bytes()) == 0;
  };
  // The last layer's tell the most.
  for (std::size_t i = shape_.layers(); i-- > 0;)
    if (!same(rows.ffn_x_prev(i), log.ffn_x_prev(i)) ||
        !same(rows.att_x_prev(i), log.att_x_prev(i)))
      return false;
  return true;
}

template <class Rows>
bool History::find(const Rows& rows) noexcept {
  for (std::size_t used = used_; used > 0; --used)
    for (std::size_t m = logs_[used - 1].size() + 1; m-- > 0;)
      if (stands_at(rows, logs_[used - 1], m)) {
        logs_[used - 1].truncate(m);
        used_ = used;
        return true;
      }
  return false;
}

template <class Rows>
RowLog& History::log_with_room(const Rows& rows, std::size_t tokens) {
  RWKV_ASSERT(tokens <= capacity_);
  if (!find(rows)) clear();
  if (used_ > 0 && (logs_[used_ - 1].size() == 0 || logs_[used_ - 1].room() >= tokens))
    return logs_[used_ - 1];
  if (used_ == logs_at_most_) {
    std::rotate(logs_.begin(), logs_.begin() + 1, logs_.end());
  } else {
    reserve();  // before it counts
    ++used_;
  }
  logs_[used_ - 1].clear();
  return logs_[used_ - 1];
}

RWKV_FUNCTION RowLog& History::log_for(const State<>& state, std::size_t tokens) {
  internal::check_state(shape_, state, "the state to be logged");
  return log_with_room(state, tokens);
}

RWKV_FUNCTION void History::append(const RowLog& log, std::size_t tokens) {
  log_with_room(log, tokens).append(log, tokens);
}

RWKV_FUNCTION void History::forget(std::size_t tokens) noexcept {
  for (; used_ > 0; --used_) {  // an empty log may never have been written to: none is kept
    RowLog& last = logs_[used_ - 1];
    if (tokens < last.size()) return last.truncate(last.size() - tokens);
    tokens -= last.size();
  }
}

RWKV_FUNCTION bool History::ends_with(const State<>& state) const noexcept {
  return state.intact() && state.shape() == shape_ && used_ > 0 &&
         stands_at(state, logs_[used_ - 1], logs_[used_ - 1].size());
}

RWKV_FUNCTION void History::rewind(State<>& state, std::size_t tokens, ExecutorRef exec) {
  internal::check_state(shape_, state, "the state to be rewound");
  const std::size_t before = size();
  if (tokens > 0 && !ends_with(state))
    fail_with(ErrorCategory::argument,
              "the history does not end with this state, which went on without it");
  if (tokens > before)
    fail_with(ErrorCategory::argument, "the history has ", before, " tokens, not ", tokens);
  if (tokens == 0) return;
  while (tokens > logs_[used_ - 1].size()) tokens -= logs_[--used_].size();
  RowLog& log = logs_[used_ - 1];
  rwkv::rewind(state, log, log.size() - tokens, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
