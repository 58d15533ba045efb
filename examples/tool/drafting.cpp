// SPDX-License-Identifier: Apache-2.0
#include "drafting.hpp"

namespace tool {

std::unique_ptr<rwkv::Draft> draft_for(const Drafting& options, const rwkv::Tokenizer& tokenizer,
                                       rwkv::ThreadPool& pool) {
  if (options.draft.empty()) return nullptr;
  if (options.draft == "ngram") return std::make_unique<rwkv::NgramDraft>();
  const auto checkpoint = rwkv::io::read_checkpoint(options.draft);
  if (rwkv::io::sparse_blocks_of(checkpoint) > 0)
    rwkv::fail_with(rwkv::ErrorCategory::unsupported, "--draft: ", options.draft,
                    " is an RWKV-X model, whose caches have no way back from wrong guesses");
  std::optional<rwkv::Tokenizer> own;
  try {
    own = rwkv::Tokenizer::from_checkpoint(checkpoint);
  } catch (const rwkv::Error&) {
    // It comes without one, and then shares the model's.
  }
  if (own)
    if (const auto token = first_difference(*own, tokenizer))
      rwkv::fail_with(rwkv::ErrorCategory::argument, "--draft: ", options.draft,
                      " has another vocabulary than the model: token ", *token, " is another text");
  return std::make_unique<rwkv::ModelDraft>(load(checkpoint, pool), pool);
}

}  // namespace tool
