// SPDX-License-Identifier: Apache-2.0
// Several tokens per pass: something guesses how the text goes on, the model reads the guesses in
// one pass, and keeps those that it would have said itself.
//
//     rwkv::NgramDraft draft;                                 // looks them up in the text so far
//     rwkv::Feeder feeder(model.shape(), {.draft = &draft});
//     auto result = rwkv::generate(model, state, work, tokenizer, prompt, {.feeder = &feeder});
//
// The text is the same, token by token, greedy or sampled: each token is drawn from the model's own
// logits as ever, and a guess is right if it is the token that was drawn. Since the bits of a row do
// not depend on what else is in a pass, and the recurrence of the guesses that were right is
// replayed by its own kernel (rewind.hpp), the state has the same bits, too.
//
// One token at a time is bounded by how fast the weights are read; several rows read them once.
#pragma once

#include <rwkv/forward.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/history.hpp>
#include <rwkv/model.hpp>

namespace rwkv::inline RWKV_ABI {

/// Guesses how one text goes on. A guess costs time when it is wrong; it never changes a text.
class Draft {
 public:
  virtual ~Draft() = default;

  /// The text has gone on by these tokens, whoever they are from.
  virtual void append(std::span<const Token> tokens) = 0;
  /// Appends at most `most` tokens that may follow to `guesses`; none if there is no idea.
  virtual void propose(std::size_t most, std::vector<Token>& guesses) = 0;
  /// Another text begins.
  virtual void reset() = 0;
  /// The number of tokens that it may guess, if it has a vocabulary of its own, else 0.
  [[nodiscard]] virtual std::size_t vocab() const { return 0; }

 protected:
  Draft() = default;
  Draft(const Draft&) = default;
  Draft(Draft&&) = default;
  Draft& operator=(const Draft&) = default;
  Draft& operator=(Draft&&) = default;
};

struct NgramOptions {
  /// Tokens that must have occurred in the same order before.
  std::size_t shortest = 2;
  /// The text that is remembered, in tokens, at most 2^30; of a longer one the newer half.
  std::size_t longest_text = std::size_t{1} << 20;
};

/// Finds the longest end of the text that occurred before, and guesses that it goes on as it did
/// then (when it was last the longest): good for edits, code, JSON, quotations. The more tokens
/// agree, the more are guessed. A suffix automaton: a token takes amortised constant time and some
/// 100 bytes, however repetitive the text is. A value type.
class NgramDraft final : public Draft {
 public:
  explicit NgramDraft(const NgramOptions& options = {}) : options_(options) { reset(); }

  RWKV_FUNCTION void append(std::span<const Token> tokens) override;
  RWKV_FUNCTION void propose(std::size_t most, std::vector<Token>& guesses) override;
  RWKV_FUNCTION void reset() override;

 private:
  static constexpr std::uint32_t none = UINT32_MAX;

  // Substrings of the text that end in the same places; the longest of them.
  struct Node {
    std::uint32_t length;
    std::uint32_t link;   // the longest end of these that ends in more places
    std::uint32_t last;   // the newest of these places that is known
    std::uint32_t edges;  // the first of a list
  };
  struct Edge {
    Token token;
    std::uint32_t from, to;
    std::uint32_t next;  // of the same node
  };

  [[nodiscard]] std::size_t slot_of(std::uint32_t node, Token token) const noexcept;
  [[nodiscard]] std::uint32_t edge_of(std::uint32_t node, Token token) const noexcept {
    return table_[slot_of(node, token)];
  }
  void add_edge(std::uint32_t node, Token token, std::uint32_t to);
  void extend(Token token);

  NgramOptions options_;
  std::vector<Token> text_;
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> table_;  // edges by node and token, open addressing
  std::uint32_t whole_ = 0;           // the node of the whole text
  std::size_t agree_ = 0;             // tokens at the end that occurred before,
  std::size_t follows_ = 0;           // and what followed them
};

/// Guesses one fixed text, token for token: the tokens at its i-th place for the i-th place after
/// the last `reset`, whatever was drawn in between. For text that is as good as certain (a form, a
/// translation memory), and to measure with. A value type.
class FixedDraft final : public Draft {
 public:
  explicit FixedDraft(std::vector<Token> text) : text_(std::move(text)) {}

  void append(std::span<const Token> tokens) override { at_ += tokens.size(); }
  void propose(std::size_t most, std::vector<Token>& guesses) override {
    const auto begin = text_.begin() + static_cast<std::ptrdiff_t>((std::min)(at_, text_.size()));
    const auto left = static_cast<std::size_t>(text_.end() - begin);
    guesses.insert(guesses.end(), begin,
                   begin + static_cast<std::ptrdiff_t>((std::min)(most, left)));
  }
  void reset() override { at_ = 0; }

 private:
  std::vector<Token> text_;
  std::size_t at_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Guesses what a smaller model with the same vocabulary finds most probable. It has its own state,
/// which goes back as the text's does. Give it a model several times smaller.
class ModelDraft final : public Draft {
 public:
  /// Begins with `start`, the model's initial state by default. The executor must outlive this.
  /// Throws std::bad_alloc.
  RWKV_FUNCTION explicit ModelDraft(Model<> model, ExecutorRef exec = {});
  RWKV_FUNCTION ModelDraft(Model<> model, State<> start, ExecutorRef exec = {});

  RWKV_FUNCTION void append(std::span<const Token> tokens) override;
  RWKV_FUNCTION void propose(std::size_t most, std::vector<Token>& guesses) override;
  RWKV_FUNCTION void reset() override;
  [[nodiscard]] std::size_t vocab() const override { return model_.shape().vocab(); }

 private:
  static constexpr std::size_t most_logged = 32;
  void forget_guesses();

  Model<> model_;
  State<> start_;
  State<> state_;  // after the text without `unread_` and with `fed_` guesses
  Workspace<> work_;
  ExecutorRef exec_;
  std::vector<Token> unread_;
  std::vector<Token> guesses_;  // behind the text, from the place where `log_` begins
  std::size_t fed_ = 0;         // of them
  std::size_t right_ = 0;       // of these, belonging to the text by now
  RowLog log_;                  // of the fed ones
};

/// What a Feeder is made of; all of it must outlive it.
struct FeederOptions {
  Draft* draft = nullptr;
  /// Guesses per pass. 0: as many as pay, by how many were right and what passes took so far (the
  /// text is the same, whatever that comes to); else always so many, if the draft has them.
  std::size_t draft_tokens = 0;
  /// At most, if it is chosen.
  std::size_t most_draft_tokens = 15;
  /// Records what is fed, to be taken back.
  History* history = nullptr;
};

/// What came of the guesses.
struct FeederCounts {
  std::size_t passes = 0;    ///< after which tokens were expected: not of prompts, not the last
  std::size_t tokens = 0;    ///< fed by them, without wrong guesses
  std::size_t guessed = 0;   ///< guesses that passes read
  std::size_t accepted = 0;  ///< of them
};

namespace detail {

/// How many guesses pay: by the share of guesses that were right lately and what passes of so many
/// rows, and guesses, took.
class DraftLength {
 public:
  /// In a pass that has `rows` rows without these guesses, and brings `beside` other texts a token.
  [[nodiscard]] RWKV_FUNCTION std::size_t choose(std::size_t most, std::size_t rows,
                                                 std::size_t beside);
  /// Of `guessed` tokens the first `right` were right.
  RWKV_FUNCTION void judged(std::size_t guessed, std::size_t right);
  RWKV_FUNCTION void took(std::size_t rows, double seconds);
  /// Passes of up to so many rows can be told without memory.
  void make_room(std::size_t rows) { seconds_.reserve(rows + 1); }
  RWKV_FUNCTION void guessing_took(std::size_t guesses, double seconds);
  /// Behind guesses: to the state without the wrong ones.
  RWKV_FUNCTION void settling_took(double seconds);

 private:
  [[nodiscard]] double expected_seconds(std::size_t rows, bool alone) const;
  [[nodiscard]] bool worth_a_try(std::size_t guesses, std::size_t rows, std::size_t beside) const;

  double right_ = 0.7;              // share
  double guess_ = 0;                // seconds
  double settle_ = 0;               // seconds
  std::vector<double> seconds_{0};  // by rows; 0: not known
  std::size_t passes_without_ = 0;  // in a row
  std::size_t try_after_ = 8;       // so many of them
  bool guessed_before_ = false;
};

}  // namespace detail

/// Feeds the state of one sequence, by guesses if it has a draft, and into a history if it has one:
/// an option of `generate` (GenerateOptions::feeder). It may be kept from call to call, and then
/// goes on with what it has learnt. One sequence, one thread at a time. Works with models whose
/// state is a State<>: not for RWKV-X, whose sparse blocks thin their caches out as they go and keep
/// no way back.
///
/// Memory: besides its options', what a log takes for the longest pass (row_log.hpp), a state per
/// call, and a row of logits per guess.
class Feeder final : public AnyFeeder {
 public:
  /// Throws Error (argument) for a draft with another vocabulary than `shape`, (shape) for a history
  /// of another shape.
  RWKV_FUNCTION Feeder(const DynamicShape& shape, const FeederOptions& options);

  [[nodiscard]] const FeederCounts& counts() const noexcept { return counts_; }

  RWKV_FUNCTION std::span<const float> feed(State<>& state, std::span<const Token> tokens,
                                            std::size_t expected, const Forward& forward,
                                            ExecutorRef exec) override;
  RWKV_FUNCTION void settle(State<>& state, ExecutorRef exec) override;
  RWKV_FUNCTION void abandon() override;
  RWKV_FUNCTION bool feed_ahead(AnyFeeder::Request& request) override;
  RWKV_FUNCTION void feed_together(std::span<AnyFeeder::Request> requests, const Forward& forward,
                                   ExecutorRef exec) override;
  [[nodiscard]] RWKV_FUNCTION std::unique_ptr<AnyFeeder> plain() const override;

  /// What `feed` does, for several sequences in one pass: see `rwkv::feed`.
  struct Request {
    Feeder* feeder = nullptr;
    State<>* state = nullptr;
    std::span<const Token> tokens;       ///< at least one
    std::size_t expected = 0;            ///< as of AnyFeeder::feed
    std::span<const float> logits = {};  ///< out: [V] after the tokens, the feeder's
  };
  RWKV_FUNCTION static void feed(std::span<Request> requests, const Forward& forward,
                                 ExecutorRef exec);

 private:
  // Whether all of these were read ahead.
  [[nodiscard]] bool is_ahead(std::span<const Token> tokens) const noexcept;
  // Takes so many such tokens; returns the logits after them.
  std::span<const float> take(std::size_t tokens) noexcept;
  // What the next pass reads, and where guesses are logged. Without guesses it has `rows` rows, for
  // `beside` other texts, too.
  [[nodiscard]] Slot<> begin(Request& request, std::size_t rows, std::size_t beside,
                             ExecutorRef exec);
  // Where what is not guessed is logged, if anywhere.
  void log_input(Slot<>& slot, const Forward& forward, ExecutorRef exec);
  void guess(std::size_t expected, std::size_t rows, std::size_t beside);
  void forget() noexcept;
  [[nodiscard]] std::size_t most_guesses() const noexcept;
  // After the token of this index in `read_`.
  [[nodiscard]] std::span<const float> logits_of(std::size_t token) const noexcept {
    return std::span(logits_).subspan((token + rows_ - read_.size()) * shape_.vocab(),
                                      shape_.vocab());
  }

  DynamicShape shape_;
  FeederOptions options_;
  detail::DraftLength length_;
  FeederCounts counts_;
  std::vector<Token> read_;                 // by the last pass
  std::size_t known_ = 0;                   // of them, not guessed
  std::size_t taken_ = 0;                   // of them, belonging to the text by now
  std::size_t rows_ = 0;                    // of logits, after the last of them
  std::optional<std::size_t> size_before_;  // of the history, if the last pass is logged there
  std::optional<RowLog> own_log_;           // of the last pass, if it has guesses
  std::vector<float> logits_;               // [rows_][V]
};

/// One step of a batch in which every sequence is fed by its own feeder, with its own guesses, and
/// keeps as many of them as are right: afterwards every request has its logits. Those whose tokens
/// were guessed before take no part in a pass; if all were, there is none. Before a state is used
/// for anything else, `Feeder::settle` makes it that of the tokens that were fed. Throws
/// Error (argument, shape) as `Model::forward`, before anything has changed.
template <class Model, class Work>
void feed(const Model& model, std::span<Feeder::Request> requests, Work& work,
          ExecutorRef exec = {}) {
  const AnyFeeder::Forward forward = [&](std::span<const Slot<>> slots, Logits which,
                                         std::span<float> logits) {
    detail::forward_recurrent(model, slots, which, logits, work, exec);
  };
  Feeder::feed(requests, forward, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/speculate.ipp>
#endif
