// SPDX-License-Identifier: Apache-2.0
// A model file can carry a self-test: tokens, and the top logits after each of them, as the program
// that wrote the file computed them from the weights in it. Replaying it tells whether this
// program, on this processor, computes the same model.
//
//   const auto checkpoint = rwkv::io::read_checkpoint("model.gguf");
//   const rwkv::Model<> model(checkpoint);
//   if (!rwkv::verify(model, checkpoint).passed()) return;
#pragma once

#include <rwkv/model.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Tokens read one by one from an empty state, and what a model says after each.
struct SelfTest {
  std::vector<Token> tokens;
  std::size_t top = 0;        ///< logits per token
  std::vector<Token> ids;     ///< [tokens][top], the largest logit first
  std::vector<float> logits;  ///< [tokens][top]
};

/// How far a model is off its self-test.
struct Verification {
  std::size_t tokens = 0;
  std::size_t same_top = 0;  ///< after how many of them the same token is the likeliest
  double largest_error = 0;  ///< of a logit
  double largest_logit = 0;  ///< absolute value, in the self-test
  double tolerance = 0;      ///< of largest_error, as a fraction of largest_logit

  [[nodiscard]] double relative_error() const noexcept {
    return largest_error == 0 ? 0 : largest_error / largest_logit;
  }
  [[nodiscard]] bool passed() const noexcept { return relative_error() <= tolerance; }
};

namespace detail {

inline constexpr std::size_t self_test_length = 32;
inline constexpr std::size_t self_test_top = 4;

/// The tokens of a self-test: some, from all over the vocabulary.
[[nodiscard]] RWKV_FUNCTION std::vector<Token> some_tokens(std::size_t vocab);

}  // namespace detail

class HybridModel;

/// What `model` says to some tokens. Throws `Error` (numeric) if a logit is not a finite number.
[[nodiscard]] RWKV_FUNCTION SelfTest record_self_test(const Model<>& model, ExecutorRef exec = {});
[[nodiscard]] RWKV_FUNCTION SelfTest record_self_test(const HybridModel& model,
                                                      ExecutorRef exec = {});

/// The self-test as metadata. Its length depends on the vocabulary alone.
[[nodiscard]] RWKV_FUNCTION io::Metadata to_metadata(const SelfTest& test);

/// The self-test that a file carries, if it does. Throws `Error` (format) if it is damaged or
/// belongs to a model with another vocabulary than one of `vocab` tokens.
[[nodiscard]] RWKV_FUNCTION std::optional<SelfTest> self_test_of(const io::Checkpoint& checkpoint,
                                                                 std::size_t vocab);

/// Replays the self-test in the file that `model` was loaded from. Throws `Error` (argument) if it
/// carries none, (format) if it is damaged.
///
/// The tolerance is 1 in 1000 for matrices of f32, f16 and bf16: processors add in different
/// orders. It is 1 in 20 when there are blocks, whose inputs are rounded to 8 bits on the way, and
/// where a number lies between two steps a different order decides.
[[nodiscard]] RWKV_FUNCTION Verification verify(const Model<>& model,
                                                const io::Checkpoint& checkpoint,
                                                ExecutorRef exec = {});
[[nodiscard]] RWKV_FUNCTION Verification verify(const HybridModel& model,
                                                const io::Checkpoint& checkpoint,
                                                ExecutorRef exec = {});

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/verify.ipp>
#endif
