// SPDX-License-Identifier: Apache-2.0
// Texts of many sequences at once, each of which begins and ends when it does: their tokens are fed
// together, so that the weights are streamed once per step for all of them.
//
//     rwkv::GenerateBatch batch(model, tokenizer);
//     const std::size_t first = batch.add(state, prompt, {.max_tokens = 100}, show);
//     while (batch.step(work, pool)) continue;   // or add others, and take those that have ended
//     rwkv::GenerateResult result = batch.take(first);
//
// Every text is what `generate` makes of the same sequence alone, bit for bit. (Not with the
// semantics of the published RWKV-X package, where the cut of a prompt is part of the input.) Each
// may have a feeder of its own (speculate.hpp), which guesses how it goes on or records the way back:
// a step goes through all the guesses that were right, and reads new ones together.
#pragma once

#include <rwkv/forward.hpp>
#include <rwkv/generate.hpp>

#include <map>
#include <utility>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Sequences of one model in the making. Model is Model, HybridModel or AnyModel, State its state.
/// The model, the tokenizer's copies and the states must live as long as a sequence runs. One thread
/// at a time.
template <class Model, class State = decltype(std::declval<const Model&>().initial_state())>
class GenerateBatch {
 public:
  /// Gets every piece of text as soon as it is certain; returns whether to go on. Empty: nothing.
  using OnText = std::function<bool(std::string_view)>;

  GenerateBatch(const Model& model, Tokenizer tokenizer)
      : model_(&model), tokenizer_(std::move(tokenizer)) {}

  /// Adds a sequence, which goes on from `state` as `generate` would, with a `sampler` of the
  /// caller's or (null) one of its own. Nothing is fed before the next step. Returns its number.
  /// Throws as `generate` does before anything has changed; Error (argument) also for a state or a
  /// feeder that another sequence here still has. A state with a feeder may be ahead of its text
  /// until the sequence has ended or is taken (or its feeder settles it); both must live until then.
  std::size_t add(State& state, std::span<const Token> prompt, const GenerateOptions& options = {},
                  OnText on_text = {}, Sampler* sampler = nullptr) {
    for (const auto& [number, sequence] : sequences_) {
      const bool same_state = sequence.state == &state;
      if (sequence.ended ||
          !(same_state || (options.feeder != nullptr && sequence.feeder == options.feeder)))
        continue;
      fail_with(ErrorCategory::argument, "sequence ", number, " of this batch has this ",
                same_state ? "state" : "feeder", " already");
    }
    auto kept =
        std::make_unique<Kept>(Kept{options, {options.logits.begin(), options.logits.end()}});
    kept->options.logits = kept->logits;
    detail::require_way_back(options.feeder, detail::recurrent_state(state));
    detail::Generation text(model_->shape().vocab(), tokenizer_, prompt, kept->options, sampler);
    if (!on_text) on_text = [](std::string_view) { return true; };
    sequences_.emplace(next_, Sequence{&state, std::move(text), std::move(on_text), std::move(kept),
                                       options.feeder, detail::recurrent_state(state)});
    return next_++;
  }
  std::size_t add(State& state, std::string_view prompt, const GenerateOptions& options = {},
                  OnText on_text = {}, Sampler* sampler = nullptr) {
    return add(state, std::span<const Token>(tokenizer_.encode(prompt)), options,
               std::move(on_text), sampler);
  }

  /// One pass: draws a token for every sequence whose logits are there, or several if they were
  /// guessed, then feeds what all of them want; prompts share the rows that are left. False once
  /// nothing is wanted any more. If a callback or a sampler throws, its sequence has ended, and the
  /// others go on with the next step; if the model throws, nothing was fed. Throws Error (cancelled)
  /// if `exec` abandons the pass (see Executor); the states of the sequences are then none.
  template <class Work>
  bool step(Work& work, ExecutorRef exec = {}) {
    for (auto& [number, sequence] : sequences_) draw(sequence, work.rows(), exec);
    gather(work.rows(), exec);
    if (fed_.empty()) return false;
    for (const Sequence* const sequence : fed_)
      if (sequence->feeder != nullptr) {
        feed_together(*sequence->feeder, work, exec);
        return true;
      }
    using Slot = decltype(slot_of(std::declval<State&>(), std::span<const Token>()));
    std::vector<Slot> slots;
    std::size_t asked = 0;
    for (Sequence* const sequence : fed_) {
      sequence->asked = sequence->text.needs_logits(sequence->tokens.size());
      sequence->last = sequence->tokens.size() - 1;
      sequence->row = asked;
      asked += sequence->asked ? 1 : 0;
      slots.push_back(
          slot_of(*sequence->state, sequence->tokens,
                  std::span<const std::size_t>(&sequence->last, sequence->asked ? 1 : 0)));
    }
    const std::size_t vocab = model_->shape().vocab();
    logits_.resize(asked * vocab);
    model_->forward(std::span<const Slot>(slots), asked > 0 ? Logits::chosen : Logits::none,
                    asked > 0 ? Outputs(std::span<float>(logits_)) : Outputs(), work, exec);
    detail::require_whole_pass(exec);
    for (Sequence* const sequence : fed_)
      was_fed(*sequence,
              std::span<const float>(logits_).subspan(sequence->row * vocab,
                                                      sequence->asked ? vocab : 0),
              work.rows());
    return true;
  }

  /// Steps until nothing is wanted any more.
  template <class Work>
  void run(Work& work, ExecutorRef exec = {}) {
    while (step(work, exec)) continue;
  }

  /// Sequences that have been added and not taken.
  [[nodiscard]] std::size_t size() const noexcept { return sequences_.size(); }

  /// Throws Error (argument) for a number that is none of a sequence here.
  [[nodiscard]] bool ended(std::size_t number) const { return find(number)->second.ended; }

  /// Takes a sequence out of the batch: what it has come to, with the reason `cancelled` if it had
  /// not ended. Its state has consumed what the result says. Throws Error (argument) as `ended`.
  GenerateResult take(std::size_t number) {
    const auto it = find(number);
    Sequence& sequence = it->second;
    sequence.text.stop(sequence.ready ? sequence.tokens.size() : 0,
                       sequence.ready ? sequence.logits : std::span<const float>());
    sequence.settle({});
    GenerateResult result = std::move(sequence.text).result();
    sequences_.erase(it);
    return result;
  }

 private:
  struct Kept {
    GenerateOptions options;
    std::vector<float> logits;  // which the options view
  };
  struct Sequence {
    State* state;
    detail::Generation text;
    OnText on_text;
    std::unique_ptr<Kept> kept;
    AnyFeeder* feeder = nullptr;
    rwkv::State<DynamicShape>* recurrent = nullptr;  // the state, if it is such a one
    std::unique_ptr<AnyFeeder> plain{};  // to share passes with those that have a feeder
    std::span<const Token> tokens{};     // fed in the last pass
    std::size_t last = 0;                // of these
    std::size_t row = 0;                 // of the logits after them
    std::span<const float> logits{};     // there
    bool asked = false;                  // for these
    bool ready = false;                  // nothing has been drawn from them yet
    bool begun = false;
    bool ended = false;

    // In the end: the state becomes that of the text, and the feeder is free for another one.
    void settle(ExecutorRef exec) {
      if (AnyFeeder* const mine = std::exchange(feeder, nullptr)) mine->settle(*recurrent, exec);
    }
  };

  [[nodiscard]] auto find(std::size_t number) const { return find_in(sequences_, number); }
  [[nodiscard]] auto find(std::size_t number) { return find_in(sequences_, number); }
  template <class Map>
  [[nodiscard]] static auto find_in(Map& sequences, std::size_t number) {
    const auto it = sequences.find(number);
    if (it == sequences.end())
      fail_with(ErrorCategory::argument, "there is no sequence ", number, " in this batch");
    return it;
  }

  // What it wants, as a request.
  [[nodiscard]] AnyFeeder::Request request_of(Sequence& sequence, AnyFeeder& feeder) const {
    return {.feeder = &feeder,
            .state = sequence.recurrent,
            .tokens = sequence.tokens,
            .expected = sequence.text.expected()};
  }

  void draw(Sequence& sequence, std::size_t rows, ExecutorRef exec) {
    if (std::exchange(sequence.ended, true)) return;  // it stays so if something throws
    struct Settled {
      Sequence& sequence;
      ExecutorRef exec;
      ~Settled() {
        if (sequence.ended) sequence.settle(exec);
      }
    } const settled{sequence, exec};
    if (!std::exchange(sequence.begun, true)) sequence.text.begin(rows, sequence.on_text);
    while (std::exchange(sequence.ready, false)) {
      sequence.text.fed(sequence.tokens.size(), sequence.logits, rows, sequence.on_text);
      if (sequence.feeder == nullptr || sequence.text.reads_prompt()) break;
      sequence.tokens = sequence.text.wanted(rows);
      auto request = request_of(sequence, *sequence.feeder);
      if (!sequence.feeder->feed_ahead(request)) break;
      sequence.logits = request.logits;
      sequence.ready = true;
    }
    sequence.ended = false;
  }

  // The sequence's tokens were, and these are the logits after them if they were asked for.
  void was_fed(Sequence& sequence, std::span<const float> logits, std::size_t rows) {
    sequence.logits = logits;
    sequence.ready = sequence.asked;
    if (!sequence.asked) sequence.text.fed(sequence.tokens.size(), {}, rows, sequence.on_text);
  }

  /// A pass in which some sequences are read ahead.
  template <class Work>
  void feed_together(AnyFeeder& any, Work& work, ExecutorRef exec) {
    std::vector<AnyFeeder::Request> requests;
    for (Sequence* const sequence : fed_) {
      AnyFeeder* feeder = sequence->feeder;
      if (feeder == nullptr && sequence->plain == nullptr) sequence->plain = any.plain();
      requests.push_back(request_of(*sequence, feeder != nullptr ? *feeder : *sequence->plain));
      sequence->asked = sequence->text.needs_logits(sequence->tokens.size());
    }
    any.feed_together(
        requests,
        [&](std::span<const Slot<DynamicShape>> slots, Logits which, std::span<float> logits) {
          detail::forward_recurrent(*model_, slots, which, logits, work, exec);
        },
        exec);
    if (!exec.proceed())
      for (const AnyFeeder::Request& request : requests) request.feeder->abandon();
    detail::require_whole_pass(exec);
    for (std::size_t i = 0; i < fed_.size(); ++i)
      was_fed(*fed_[i], requests[i].logits, work.rows());
  }

  /// Those that want something, and what: first whoever is past the prompt.
  void gather(std::size_t rows, ExecutorRef exec) {
    fed_.clear();
    std::size_t used = 0;
    for (const bool prompts : {false, true})
      for (auto& [number, sequence] : sequences_) {
        if (sequence.ended || sequence.text.reads_prompt() != prompts) continue;
        const std::size_t room = rows > used ? rows - used : 1;
        sequence.tokens = sequence.text.wanted(prompts ? room : rows);
        sequence.ended = sequence.tokens.empty();
        if (sequence.ended) {
          sequence.settle(exec);
          continue;
        }
        used += sequence.tokens.size();
        fed_.push_back(&sequence);
      }
  }

  const Model* model_;
  Tokenizer tokenizer_;
  std::map<std::size_t, Sequence> sequences_;  // by number, so in order
  std::size_t next_ = 0;
  std::vector<float> logits_;
  std::vector<Sequence*> fed_;
};

/// Texts of several sequences, one per state, each as `generate` makes it, with the same options.
/// `on_text(sequence, piece)` gets their pieces; it may return bool, where false ends that sequence.
/// Throws as `generate`; Error (argument) also for another number of prompts than of states.
template <class Model, class State, class Work, class OnText>
requires std::invocable<OnText&, std::size_t, std::string_view> std::vector<GenerateResult>
generate_batch(const Model& model, std::span<State> states, Work& work, const Tokenizer& tokenizer,
               std::span<const std::vector<Token>> prompts, const GenerateOptions& options,
               OnText&& on_text, ExecutorRef exec = {}) {
  if (prompts.size() != states.size())
    fail_with(ErrorCategory::argument, prompts.size(), " prompts for ", states.size(), " states");
  GenerateBatch<Model, State> batch(model, tokenizer);
  for (std::size_t s = 0; s < states.size(); ++s)
    batch.add(states[s], prompts[s], options, [&on_text, s](std::string_view piece) {
      if constexpr (std::is_void_v<std::invoke_result_t<OnText&, std::size_t, std::string_view>>) {
        on_text(s, piece);
        return true;
      } else {
        return static_cast<bool>(on_text(s, piece));
      }
    });
  batch.run(work, exec);
  std::vector<GenerateResult> results;
  for (std::size_t s = 0; s < states.size(); ++s) results.push_back(batch.take(s));
  return results;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
