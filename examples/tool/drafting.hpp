// SPDX-License-Identifier: Apache-2.0
// --draft: guessing tokens ahead, for the commands that generate text.
#pragma once

#include "common.hpp"
#include <rwkv/speculate.hpp>

#include <memory>

namespace tool {

/// What --draft names, for a model with this tokenizer; null if nothing is named. Throws Error for
/// a model that cannot be a draft.
std::unique_ptr<rwkv::Draft> draft_for(const Drafting& options, const rwkv::Tokenizer& tokenizer,
                                       rwkv::ThreadPool& pool);

/// How a command feeds its model: by guesses if the user wants it, and with a way back if
/// `history`. Other models than RWKV-7's are fed as ever.
class Feeding {
 public:
  template <class Model>
  Feeding(const Drafting& options, const Model& model, const rwkv::Tokenizer& tokenizer,
          rwkv::ThreadPool& pool, bool history) {
    bool recurrent = false;
    if constexpr (requires { model.rwkv7(); }) recurrent = model.rwkv7() != nullptr;
    if (!recurrent && !options.draft.empty())
      rwkv::fail(rwkv::ErrorCategory::unsupported,
                 "--draft: only RWKV-7 models on the processor can be fed ahead; the caches of "
                 "RWKV-X have no way back from wrong guesses");
    if (!recurrent) return;
    draft_ = draft_for(options, tokenizer, pool);
    // Room for a hundred tokens or more; memory is taken as they come.
    if (history) history_.emplace(model.shape(), 4 * rwkv::RowLog::bytes_for(model.shape(), 32));
    if (draft_ != nullptr || history_)
      feeder_.emplace(model.shape(),
                      rwkv::FeederOptions{.draft = draft_.get(),
                                          .draft_tokens = options.draft_tokens,
                                          .history = history_ ? &*history_ : nullptr});
  }
  Feeding(const Feeding&) = delete;
  Feeding& operator=(const Feeding&) = delete;

  /// For GenerateOptions.
  [[nodiscard]] rwkv::AnyFeeder* feeder() noexcept { return feeder_ ? &*feeder_ : nullptr; }
  [[nodiscard]] rwkv::History* history() noexcept { return history_ ? &*history_ : nullptr; }
  [[nodiscard]] rwkv::Draft* draft() noexcept { return draft_.get(); }

  /// ", 60 of 80 guesses right", or nothing.
  [[nodiscard]] std::string report() const {
    if (draft_ == nullptr) return {};
    const rwkv::FeederCounts& counts = feeder_->counts();
    return ", " + std::to_string(counts.accepted) + " of " + std::to_string(counts.guessed) +
           " guesses right";
  }

 private:
  std::unique_ptr<rwkv::Draft> draft_;
  std::optional<rwkv::History> history_;
  std::optional<rwkv::Feeder> feeder_;
};

}  // namespace tool
