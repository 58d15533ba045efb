// SPDX-License-Identifier: Apache-2.0
// The definitions of speculate.hpp.
#pragma once

#include <rwkv/core/argmax.hpp>
#include <rwkv/shape_difference.hpp>
#include <rwkv/speculate.hpp>

#include <algorithm>
#include <chrono>

namespace rwkv::inline RWKV_ABI {

RWKV_FUNCTION void NgramDraft::reset() {
  text_.clear();
  nodes_.assign(1, {0, none, 0, none});
  edges_.clear();
  table_.assign(16, none);
  whole_ = 0;
  agree_ = 0;
}

RWKV_FUNCTION std::size_t NgramDraft::slot_of(std::uint32_t node, Token token) const noexcept {
  std::uint64_t hash = (std::uint64_t{node} << 32 | token) * 0x9e3779b97f4a7c15u;
  hash ^= hash >> 32;
  std::size_t slot = static_cast<std::size_t>(hash) & (table_.size() - 1);
  while (table_[slot] != none &&
         (edges_[table_[slot]].from != node || edges_[table_[slot]].token != token))
    slot = (slot + 1) & (table_.size() - 1);
  return slot;
}

RWKV_FUNCTION void NgramDraft::add_edge(std::uint32_t node, Token token, std::uint32_t to) {
  if (2 * (edges_.size() + 1) > table_.size()) {
    table_.assign(2 * table_.size(), none);
    for (std::uint32_t e = 0; e < edges_.size(); ++e)
      table_[slot_of(edges_[e].from, edges_[e].token)] = e;
  }
  const std::size_t slot = slot_of(node, token);
  edges_.push_back({token, node, to, nodes_[node].edges});  // may throw
  table_[slot] = nodes_[node].edges = static_cast<std::uint32_t>(edges_.size() - 1);
}

// Blumer et al.: all nodes that the new token makes, in amortised constant time.
RWKV_FUNCTION void NgramDraft::extend(Token token) {
  const auto end = static_cast<std::uint32_t>(text_.size());
  text_.push_back(token);
  const auto added = static_cast<std::uint32_t>(nodes_.size());
  nodes_.push_back({nodes_[whole_].length + 1, 0, end, none});
  std::uint32_t from = whole_;
  whole_ = added;
  std::uint32_t edge = none;
  for (; from != none && (edge = edge_of(from, token)) == none; from = nodes_[from].link)
    add_edge(from, token, added);
  if (from != none) {
    const std::uint32_t to = edges_[edge].to;
    if (nodes_[to].length == nodes_[from].length + 1) {
      nodes_[added].link = to;
    } else {
      const auto shorter = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({nodes_[from].length + 1, nodes_[to].link, nodes_[to].last, none});
      for (std::uint32_t e = nodes_[to].edges; e != none; e = edges_[e].next)
        add_edge(shorter, edges_[e].token, edges_[e].to);
      nodes_[to].link = shorter;
      nodes_[added].link = shorter;
      for (; from != none && (edge = edge_of(from, token)) != none && edges_[edge].to == to;
           from = nodes_[from].link)
        edges_[edge].to = shorter;
    }
  }
  // The longest end that occurred before: where it did so last, and from now on here.
  Node& before = nodes_[nodes_[added].link];
  agree_ = before.length;
  follows_ = before.last + std::size_t{1};
  before.last = end;
}

RWKV_FUNCTION void NgramDraft::append(std::span<const Token> tokens) {
  if (nodes_.empty()) reset();  // it was moved away
  // Nodes and edges are counted in 32 bits: at most two and three per token.
  const std::size_t longest =
      std::clamp(options_.longest_text, std::size_t{2}, std::size_t{1} << 30);
  for (const Token token : tokens) {
    if (text_.size() >= longest) {
      const std::vector<Token> newer(text_.begin() + static_cast<std::ptrdiff_t>(text_.size() / 2),
                                     text_.end());
      reset();
      for (const Token again : newer) extend(again);
    }
    extend(token);
  }
}

RWKV_FUNCTION void NgramDraft::propose(std::size_t most, std::vector<Token>& guesses) {
  if (agree_ == 0 || agree_ < options_.shortest || text_.empty()) return;
  const std::size_t begin = guesses.size();
  const std::size_t count = (std::min)(most, agree_);
  for (std::size_t i = 0; i < count; ++i) {
    // What repeats itself up to here goes on repeating itself.
    const std::size_t at = follows_ + i;
    guesses.push_back(at < text_.size() ? text_[at] : guesses[begin + at - text_.size()]);
  }
}

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION ModelDraft::ModelDraft(Model<> model, ExecutorRef exec)
    : ModelDraft(model, model.initial_state(), exec) {}

RWKV_FUNCTION ModelDraft::ModelDraft(Model<> model, State<> start, ExecutorRef exec)
    : model_(std::move(model)),
      start_(std::move(start)),
      state_(start_),
      work_(model_.shape()),
      exec_(exec),
      log_(model_.shape(), most_logged) {
  if (!(start_.shape() == model_.shape()))
    fail(ErrorCategory::shape, "the draft's state belongs to a model of another shape");
}

RWKV_FUNCTION void ModelDraft::reset() {
  state_ = start_;
  unread_.clear();
  forget_guesses();
}

RWKV_FUNCTION void ModelDraft::forget_guesses() {
  guesses_.clear();
  log_.clear();
  fed_ = 0;
  right_ = 0;
}

RWKV_FUNCTION void ModelDraft::append(std::span<const Token> tokens) {
  internal::check_state(model_.shape(), state_, "the draft's state");
  for (const Token token : tokens) {
    if (right_ < fed_ && guesses_[right_] == token) {
      ++right_;
      continue;
    }
    if (right_ < fed_) rewind(state_, log_, right_, exec_);
    forget_guesses();
    if (token < vocab()) unread_.push_back(token);
  }
}

RWKV_FUNCTION void ModelDraft::propose(std::size_t most, std::vector<Token>& guesses) {
  internal::check_state(model_.shape(), state_, "the draft's state");
  if (right_ > 0 && right_ == fed_) {  // the log begins anew
    guesses_.erase(guesses_.begin(), guesses_.begin() + static_cast<std::ptrdiff_t>(fed_));
    log_.clear();
    fed_ = 0;
    right_ = 0;
  }
  if (!unread_.empty()) {
    guesses_.assign(1, argmax(model_.forward(state_, unread_, work_, exec_)));
    unread_.clear();
  }
  while (!guesses_.empty() && guesses_.size() - right_ < most && log_.room() > 0) {
    const Slot<> slot{.state = &state_, .tokens = std::span(&guesses_[fed_], 1), .log = &log_};
    model_.forward(std::span(&slot, 1), Logits::last, work_.logits(), work_, exec_);
    ++fed_;
    guesses_.push_back(argmax(work_.logits()));
  }
  const std::size_t count = (std::min)(most, guesses_.size() - right_);
  const auto first = guesses_.begin() + static_cast<std::ptrdiff_t>(right_);
  guesses.insert(guesses.end(), first, first + static_cast<std::ptrdiff_t>(count));
}

namespace detail {

/// A row more, as a share of a pass of one, as long as nothing was measured: of a text alone, which
/// waits for memory, or of one of several, which may compute as long.
inline constexpr double row_share = 0.2, row_share_of_several = 1;

RWKV_FUNCTION double DraftLength::expected_seconds(std::size_t rows, bool alone) const {
  const double share = alone ? row_share : row_share_of_several;
  const auto guessed = [&](std::size_t n) { return 1 + share * static_cast<double>(n - 1); };
  const auto measured = [&](std::size_t n) { return n < seconds_.size() && seconds_[n] > 0; };
  std::size_t below = rows;
  while (below > 0 && !measured(below)) --below;
  std::size_t above = rows;
  while (above < seconds_.size() && !measured(above)) ++above;
  double seconds = 0;
  if (below == 0 && above >= seconds_.size())
    return guessed(rows);
  else if (below == 0)
    seconds = seconds_[above] * guessed(rows) / guessed(above);
  else if (below == rows || above >= seconds_.size())
    seconds = seconds_[below] * guessed(rows) / guessed(below);
  else
    seconds = seconds_[below] + (seconds_[above] - seconds_[below]) *
                                    static_cast<double>(rows - below) /
                                    static_cast<double>(above - below);
  // More rows never take less, nor more than passes of their own; what says otherwise was disturbed.
  double least = seconds;
  for (const double other : seconds_)
    if (other > 0) least = (std::min)(least, other);
  return (std::min)(seconds, least * static_cast<double>(rows));
}

RWKV_FUNCTION std::size_t DraftLength::choose(std::size_t most, std::size_t rows,
                                              std::size_t beside) {
  std::size_t best = 0;
  double best_rate = 0;
  double expected = 1 + static_cast<double>(beside);  // tokens per pass
  double power = 1;
  for (std::size_t guesses = 0; guesses <= most; ++guesses) {
    const double seconds = expected_seconds(rows + guesses, beside == 0) +
                           static_cast<double>(guesses) * guess_ + (guesses > 0 ? settle_ : 0);
    // Of several texts, the others' guesses and who ends first are not reckoned with.
    const double surely = beside > 0 && guesses > 0 ? 1.1 : 1;
    if (expected > best_rate * seconds * surely) {
      best = guesses;
      best_rate = expected / seconds;
    }
    power *= right_;
    expected += power;
  }
  if (best > 0) {
    passes_without_ = 0;
  } else if (++passes_without_ >= try_after_ && most > 0) {
    // The text may have become one that can be guessed.
    passes_without_ = 0;
    try_after_ = (std::min)(2 * try_after_, std::size_t{64});
    const std::size_t some = (std::min)(most, std::size_t{2});
    if (worth_a_try(some, rows, beside)) best = some;
  }
  return best;
}

// One of several texts tries only what would pay if it were right, as far as that is known.
RWKV_FUNCTION bool DraftLength::worth_a_try(std::size_t guesses, std::size_t rows,
                                            std::size_t beside) const {
  if (beside == 0 || rows + guesses >= seconds_.size()) return true;
  const double texts = 1 + static_cast<double>(beside), more = static_cast<double>(guesses);
  const double seconds = expected_seconds(rows + guesses, false) + more * guess_ + settle_;
  return (texts + more) * expected_seconds(rows, false) > texts * seconds;
}

RWKV_FUNCTION void DraftLength::judged(std::size_t guessed, std::size_t right) {
  constexpr double newest = 1.0 / 12;
  for (std::size_t i = 0; i < right; ++i) right_ += (1 - right_) * newest;
  if (right < guessed) right_ -= right_ * newest;
  if (right > 0) try_after_ = 8;
}

/// A mean that soon forgets how long somebody else had the processor.
inline void learn(double& mean, double seconds) {
  if (mean == 0 || seconds < mean)
    mean += (seconds - mean) * (mean == 0 ? 1 : 0.5);
  else
    mean += ((std::min)(seconds, 2 * mean) - mean) * 0.1;
}

RWKV_FUNCTION void DraftLength::took(std::size_t rows, double seconds) {
  if (rows >= seconds_.size()) seconds_.resize(rows + 1, 0.0);
  learn(seconds_[rows], seconds);
}

RWKV_FUNCTION void DraftLength::guessing_took(std::size_t guesses, double seconds) {
  // The first time a model reads the prompt.
  if (std::exchange(guessed_before_, true)) learn(guess_, seconds / static_cast<double>(guesses));
}

RWKV_FUNCTION void DraftLength::settling_took(double seconds) { learn(settle_, seconds); }

[[nodiscard]] inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Longer inputs are read without guesses: every row of a pass with guesses has logits.
inline constexpr std::size_t longest_with_guesses = 8;

/// Passes of so many rows tell how long others will take.
inline constexpr std::size_t most_rows_timed = 128;

}  // namespace detail

RWKV_FUNCTION Feeder::Feeder(const DynamicShape& shape, const FeederOptions& options)
    : shape_(shape), options_(options) {
  if (options_.draft != nullptr && options_.draft->vocab() != 0 &&
      options_.draft->vocab() != shape_.vocab())
    fail_with(ErrorCategory::argument, "the draft guesses among ", options_.draft->vocab(),
              " tokens, and the model has ", shape_.vocab(), ": they must share a vocabulary");
  if (options_.history != nullptr && !(options_.history->shape() == shape_))
    fail(ErrorCategory::shape, "the history belongs to a model of another shape");
}

RWKV_FUNCTION bool Feeder::is_ahead(std::span<const Token> tokens) const noexcept {
  const std::size_t ahead = read_.size() - (std::min)(taken_, read_.size());
  return !tokens.empty() && tokens.size() <= ahead &&
         std::equal(tokens.begin(), tokens.end(), read_.end() - static_cast<std::ptrdiff_t>(ahead));
}

RWKV_FUNCTION std::span<const float> Feeder::take(std::size_t tokens) noexcept {
  taken_ += tokens;
  counts_.accepted += tokens;
  counts_.tokens += tokens;
  return logits_of(taken_ - 1);
}

RWKV_FUNCTION Slot<> Feeder::begin(Request& request, std::size_t rows, std::size_t beside,
                                   ExecutorRef exec) {
  if (!read_.empty()) length_.judged(read_.size() - known_, taken_ - known_);
  const bool guessed = known_ < read_.size();
  const double start = guessed ? detail::seconds_now() : 0;
  settle(*request.state, exec);
  if (guessed) length_.settling_took(detail::seconds_now() - start);

  History* const history = options_.history;
  read_.assign(request.tokens.begin(), request.tokens.end());
  std::span<const Token> tokens = request.tokens;
  if (options_.draft != nullptr && request.expected > 0 &&
      tokens.size() <= detail::longest_with_guesses) {
    guess(request.expected, rows, beside);
    counts_.passes += 1;
    counts_.tokens += tokens.size();
    counts_.guessed += read_.size() - tokens.size();
  }
  known_ = tokens.size();
  taken_ = known_;
  if (history != nullptr) history->reserve();  // for `log_input`, or what `settle` appends
  if (known_ < read_.size()) {
    if (!own_log_ || own_log_->capacity() < read_.size())
      own_log_.emplace(shape_, (std::max)(read_.size(), detail::longest_with_guesses +
                                                            options_.most_draft_tokens));
    own_log_->clear();
    return {.state = request.state, .tokens = read_, .log = &*own_log_};
  }
  // Of a long input the end is logged.
  const std::size_t logged = history == nullptr ? known_ : (std::min)(known_, history->capacity());
  return {.state = request.state, .tokens = std::span<const Token>(read_).last(logged)};
}

RWKV_FUNCTION void Feeder::log_input(Slot<>& slot, const Forward& forward, ExecutorRef exec) {
  History* const history = options_.history;
  if (history == nullptr || slot.log != nullptr) return;
  if (slot.tokens.size() < known_) {
    const Slot<> head{.state = slot.state,
                      .tokens = std::span(read_).first(known_ - slot.tokens.size())};
    forward(std::span(&head, 1), Logits::none, {});
    // An abandoned pass leaves a state that is none; the history is of the one before.
    if (!exec.proceed()) return;
  }
  slot.log = &history->log_for(*slot.state, slot.tokens.size());
  size_before_ = history->size();
}

RWKV_FUNCTION std::size_t Feeder::most_guesses() const noexcept {
  return options_.draft_tokens > 0 ? options_.draft_tokens : options_.most_draft_tokens;
}

RWKV_FUNCTION void Feeder::guess(std::size_t expected, std::size_t rows, std::size_t beside) {
  const std::size_t tokens = read_.size();
  std::size_t most = (std::min)(expected, most_guesses());
  if (options_.history != nullptr) {
    const std::size_t capacity = options_.history->capacity();
    most = (std::min)(most, capacity - (std::min)(tokens, capacity));
  }
  if (options_.draft_tokens == 0) most = length_.choose(most, rows, beside);
  if (most == 0) return;
  const double start = detail::seconds_now();
  options_.draft->propose(most, read_);
  read_.resize((std::min)(read_.size(), tokens + most));
  length_.guessing_took((std::max)(read_.size() - tokens, std::size_t{1}),
                        detail::seconds_now() - start);
  for (std::size_t i = tokens; i < read_.size(); ++i)
    if (read_[i] >= shape_.vocab()) read_.resize(i);
}

RWKV_FUNCTION void Feeder::feed(std::span<Request> requests, const Forward& forward,
                                ExecutorRef exec) {
  // Those that must take part in a pass; if it throws, nothing was read: of those that have not
  // begun, what was read ahead is still there.
  struct Pass {
    std::vector<Request*> requests;
    std::vector<Slot<>> slots;
    std::size_t begun = 0, rows = 0, read = 0;
    bool done = false;
    ~Pass() {
      for (std::size_t i = 0; !done && i < begun; ++i) requests[i]->feeder->abandon();
    }
  };
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].feeder == nullptr || requests[i].state == nullptr || requests[i].tokens.empty())
      fail_with(ErrorCategory::argument, "request ", i, " has no ",
                requests[i].feeder == nullptr  ? "feeder"
                : requests[i].state == nullptr ? "state"
                                               : "tokens");
    // Here, because the first of several passes may have fed other states when a model says so.
    const DynamicShape& shape = requests[i].feeder->shape_;
    internal::check_state(shape, *requests[i].state, "the state of request ", i);
    for (std::size_t t = 0; t < requests[i].tokens.size(); ++t)
      if (requests[i].tokens[t] >= shape.vocab())
        fail_with(ErrorCategory::argument, "request ", i, ": token ", requests[i].tokens[t],
                  " at position ", t, " is outside the vocabulary of ", shape.vocab());
    for (std::size_t j = 0; j < i; ++j) {
      const History* const history = requests[i].feeder->options_.history;
      const char* const shared =
          requests[j].feeder == requests[i].feeder                                ? "feeder"
          : requests[j].state == requests[i].state                                ? "state"
          : history != nullptr && requests[j].feeder->options_.history == history ? "history"
                                                                                  : nullptr;
      if (shared != nullptr)
        fail_with(ErrorCategory::argument, "requests ", j, " and ", i, " have the same ", shared,
                  ": each sequence has its own");
    }
  }
  Pass all, last;
  std::size_t known = 0;
  for (Request& request : requests) {
    request.logits = {};
    if (Draft* const draft = request.feeder->options_.draft) draft->append(request.tokens);
    if (request.feeder->is_ahead(request.tokens)) continue;  // taken when nothing fails any more
    last.requests.push_back(&request);
    known += request.tokens.size();
  }
  bool guessed = false;
  for (Request* const request : last.requests) {
    Feeder& feeder = *request->feeder;
    ++last.begun;
    last.slots.push_back(feeder.begin(*request, known, last.requests.size() - 1, exec));
    known += feeder.read_.size() - feeder.known_;
    guessed = guessed || feeder.known_ < feeder.read_.size();
  }
  // A pass has the logits of all its rows, or the last ones. Of long inputs the last are enough.
  if (guessed) {
    Pass both;
    std::swap(both, last);
    for (std::size_t i = 0; i < both.slots.size(); ++i) {
      const bool is_long =
          both.slots[i].tokens.size() > detail::longest_with_guesses &&
          both.requests[i]->feeder->known_ == both.requests[i]->feeder->read_.size();
      Pass& to = is_long ? last : all;
      to.requests.push_back(both.requests[i]);
      to.slots.push_back(both.slots[i]);
      ++to.begun;
    }
    both.done = true;
  }
  // All memory before the first state changes.
  for (Pass* const pass : {&all, &last})
    for (std::size_t i = pass->slots.size(); i-- > 0;) {
      Feeder& feeder = *pass->requests[i]->feeder;
      feeder.rows_ = pass == &last ? 1 : pass->slots[i].tokens.size();
      pass->rows += feeder.rows_;
      pass->read += pass->slots[i].tokens.size();
      const std::size_t numbers = (i == 0 ? pass->rows : feeder.rows_) * feeder.shape_.vocab();
      if (feeder.logits_.size() < numbers) feeder.logits_.resize(numbers);
      feeder.length_.make_room(detail::most_rows_timed);
    }
  for (Pass* const pass : {&all, &last})
    for (std::size_t i = 0; i < pass->slots.size(); ++i)
      pass->requests[i]->feeder->log_input(pass->slots[i], forward, exec);
  for (Pass* const pass : {&all, &last}) {
    if (pass->requests.empty()) continue;
    Feeder& first = *pass->requests.front()->feeder;
    const std::size_t vocab = first.shape_.vocab();
    const std::span<float> logits = std::span(first.logits_).first(pass->rows * vocab);
    const double start = detail::seconds_now();
    forward(std::span<const Slot<>>(pass->slots), pass == &last ? Logits::last : Logits::all,
            logits);
    const double seconds = detail::seconds_now() - start;
    std::size_t row = 0;
    for (Request* const request : pass->requests) {
      Feeder& feeder = *request->feeder;
      if (feeder.options_.draft != nullptr && pass->read <= detail::most_rows_timed)
        feeder.length_.took(pass->read, seconds);
      if (row > 0)
        std::ranges::copy(logits.subspan(row * vocab, feeder.rows_ * vocab),
                          feeder.logits_.begin());
      row += feeder.rows_;
      request->logits = feeder.logits_of(feeder.known_ - 1);
    }
    pass->done = true;
  }
  for (Request& request : requests)
    if (request.logits.empty()) request.logits = request.feeder->take(request.tokens.size());
}

RWKV_FUNCTION std::span<const float> Feeder::feed(State<>& state, std::span<const Token> tokens,
                                                  std::size_t expected, const Forward& forward,
                                                  ExecutorRef exec) {
  Request request{.feeder = this, .state = &state, .tokens = tokens, .expected = expected};
  feed(std::span(&request, 1), forward, exec);
  return request.logits;
}

RWKV_FUNCTION bool Feeder::feed_ahead(AnyFeeder::Request& request) {
  if (!is_ahead(request.tokens)) return false;
  if (options_.draft != nullptr) options_.draft->append(request.tokens);
  request.logits = take(request.tokens.size());
  return true;
}

RWKV_FUNCTION void Feeder::feed_together(std::span<AnyFeeder::Request> requests,
                                         const Forward& forward, ExecutorRef exec) {
  std::vector<Request> mine;
  mine.reserve(requests.size());
  for (const AnyFeeder::Request& request : requests) {
#if defined(__cpp_rtti)
    if (dynamic_cast<Feeder*>(request.feeder) == nullptr)
      fail(ErrorCategory::argument, "sequences of one batch have feeders of different kinds");
#endif
    mine.push_back({.feeder = static_cast<Feeder*>(request.feeder),
                    .state = request.state,
                    .tokens = request.tokens,
                    .expected = request.expected});
  }
  feed(mine, forward, exec);
  for (std::size_t i = 0; i < mine.size(); ++i) requests[i].logits = mine[i].logits;
}

RWKV_FUNCTION std::unique_ptr<AnyFeeder> Feeder::plain() const {
  return std::make_unique<Feeder>(shape_, FeederOptions{});
}

RWKV_FUNCTION void Feeder::settle(State<>& state, ExecutorRef exec) {
  if (known_ < read_.size()) {
    const std::size_t taken = taken_;
    if (taken < read_.size()) rewind(state, *own_log_, taken, exec);
    if (options_.history != nullptr) options_.history->append(*own_log_, taken);
  }
  forget();
}

RWKV_FUNCTION void Feeder::forget() noexcept {
  read_.clear();
  known_ = 0;
  taken_ = 0;
  size_before_.reset();
}

RWKV_FUNCTION void Feeder::abandon() {
  // Some of the passes may have logged their rows.
  if (size_before_) options_.history->forget(options_.history->size() - *size_before_);
  forget();
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
