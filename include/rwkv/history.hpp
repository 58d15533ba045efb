// SPDX-License-Identifier: Apache-2.0
// The way back: the last tokens of a sequence are taken back without reading anything again.
//
//     rwkv::History history(model.shape(), 64 << 20);        // as many tokens as 64 MiB hold
//     rwkv::Feeder feeder(model.shape(), {.history = &history});
//     auto result = rwkv::generate(model, state, work, tokenizer, prompt, {.feeder = &feeder});
//     history.rewind(state, 5);                              // as if the last five were never fed
#pragma once

#include <rwkv/rewind.hpp>

#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The last tokens of one sequence: what they did to its state, in logs (row_log.hpp) of a few
/// dozen tokens each, of which the oldest is given up for a new one when the budget is used up. A
/// token takes 7 C floats of a layer and its share of a state per log; a copy of a state per token
/// would be some ten times as much. A value type; one that was moved away is empty.
///
/// It recognises a state by its token-shift rows: one that went another way (was reset, restored,
/// or fed by something else) begins a new history, or, if the history holds the place, an earlier
/// part of this one.
class History {
 public:
  /// Throws Error (argument) if `bytes` do not hold at least two logs of a token. Memory is taken
  /// as it is needed.
  RWKV_FUNCTION History(const DynamicShape& shape, std::size_t bytes);
  History(const History&) = default;
  History(History&& other) noexcept
      : shape_(other.shape_),
        capacity_(other.capacity_),
        logs_at_most_(other.logs_at_most_),
        logs_(std::move(other.logs_)),
        used_(std::exchange(other.used_, 0)) {}
  History& operator=(History other) noexcept {
    shape_ = other.shape_;
    capacity_ = other.capacity_;
    logs_at_most_ = other.logs_at_most_;
    logs_.swap(other.logs_);
    used_ = other.used_;
    return *this;
  }
  ~History() = default;

  [[nodiscard]] const DynamicShape& shape() const noexcept { return shape_; }
  /// Tokens that can be taken back.
  [[nodiscard]] RWKV_FUNCTION std::size_t size() const noexcept;
  /// As many as can be taken back once as many were fed one by one. A pass is logged in one place:
  /// passes of k tokens (guesses, say) leave up to k - 1 places of each log empty, and of one
  /// longer than `capacity` its last tokens alone can be taken back, and what follows.
  [[nodiscard]] std::size_t reach() const noexcept { return (logs_at_most_ - 1) * capacity_; }
  /// Bytes held; never more than the budget.
  [[nodiscard]] RWKV_FUNCTION std::size_t bytes() const noexcept;
  /// Begins anew; keeps the memory.
  void clear() noexcept { used_ = 0; }

  /// Whether this is the state that it has come to.
  [[nodiscard]] RWKV_FUNCTION bool ends_with(const State<>& state) const noexcept;

  /// Takes the last `tokens` back: `state` is what it was before them, bit for bit. Reads no
  /// weights: a token of a log costs 11 N C operations of a layer, up to `capacity` of them. Throws
  /// Error (argument) if there are fewer, or if the state is none that the history has come to;
  /// nothing has changed then.
  RWKV_FUNCTION void rewind(State<>& state, std::size_t tokens, ExecutorRef exec = {});

  // -- for whoever feeds a state without a Feeder (speculate.hpp)

  /// Tokens of a pass that can be logged.
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  /// Where a pass that feeds `state` with so many tokens, at most `capacity`, is to be logged.
  /// Throws std::bad_alloc, and Error (argument, shape) as `Model::forward` for the state.
  [[nodiscard]] RWKV_FUNCTION RowLog& log_for(const State<>& state, std::size_t tokens);
  /// Memory for another log, if it may be had: the next `append` asks for none. Throws
  /// std::bad_alloc.
  void reserve() {
    if (used_ == logs_.size() && used_ < logs_at_most_) logs_.emplace_back(shape_, capacity_);
  }
  /// Appends the first `tokens`, at most `capacity`, of a log. Throws std::bad_alloc.
  RWKV_FUNCTION void append(const RowLog& log, std::size_t tokens);
  /// Forgets the last `tokens`, at most `size()`, which came to nothing.
  RWKV_FUNCTION void forget(std::size_t tokens) noexcept;

 private:
  // Whether rows like these (of a state, or a log's first) come before token `m` of a log.
  template <class Rows>
  [[nodiscard]] bool stands_at(const Rows& rows, const RowLog& log, std::size_t m) const noexcept;
  // Forgets what came after the place where they come, if there is one.
  template <class Rows>
  [[nodiscard]] bool find(const Rows& rows) noexcept;
  // The log to go on in.
  template <class Rows>
  [[nodiscard]] RowLog& log_with_room(const Rows& rows, std::size_t tokens);

  DynamicShape shape_;
  std::size_t capacity_;      // of a log
  std::size_t logs_at_most_;  // 2 or more
  std::vector<RowLog> logs_;  // the oldest first
  std::size_t used_ = 0;      // of them
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/history.ipp>
#endif
