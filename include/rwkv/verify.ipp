// SPDX-License-Identifier: Apache-2.0
// The definitions of verify.hpp.
#pragma once

#include <rwkv/core/argmax.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/verify.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#if !defined(__cpp_lib_to_chars)
#include <locale>
#include <sstream>
#endif

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

inline constexpr const char* self_test_tokens = "rwkv.self_test.tokens";
inline constexpr const char* self_test_ids = "rwkv.self_test.top_ids";
inline constexpr const char* self_test_logits = "rwkv.self_test.top_logits";

RWKV_FUNCTION std::vector<Token> some_tokens(std::size_t vocab) {
  std::vector<Token> tokens(self_test_length);
  std::uint64_t x = 1;
  for (Token& t : tokens) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    t = static_cast<Token>((x >> 33) % vocab);
  }
  return tokens;
}

/// Numbers as text, filled up with spaces to the length that any numbers of this kind need at most.
template <class T>
[[nodiscard]] std::string fixed_length_text(std::span<const T> values, std::size_t count) {
  constexpr std::size_t longest = std::is_same_v<T, float> ? 15 : 10;  // -1.2345679e-38
  std::string text;
  for (const T value : values) {
    std::array<char, longest> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    if (!text.empty()) text += ' ';
    text.append(digits.data(), end);
  }
  text.resize(count * (longest + 1), ' ');
  return text;
}

/// Reads a number that a space or `end` follows; where it ends, or null.
template <class T>
[[nodiscard]] const char* read_number(const char* at, const char* end, T& number) {
#if !defined(__cpp_lib_to_chars)  // libc++ reads only integers that way
  if constexpr (std::is_floating_point_v<T>) {
    const char* const stop = std::find(at, end, ' ');
    std::istringstream text(std::string(at, stop));
    text.imbue(std::locale::classic());
    double wide = 0;  // so that small numbers are not refused as underflow
    text >> wide;
    number = static_cast<T>(wide);
    return !text.fail() && text.peek() == std::istringstream::traits_type::eof() ? stop : nullptr;
  } else
#endif
  {
    const auto [stop, error] = std::from_chars(at, end, number);
    return error == std::errc{} && (stop == end || *stop == ' ') ? stop : nullptr;
  }
}

template <class T>
[[nodiscard]] std::vector<T> numbers_in(const io::Checkpoint& checkpoint, const char* key) {
  const auto it = checkpoint.metadata.find(key);
  if (it == checkpoint.metadata.end())
    fail_with(ErrorCategory::format, checkpoint.source, ": the self-test has no ", key);
  std::vector<T> numbers;
  const char* at = it->second.data();
  const char* const end = at + it->second.size();
  while (true) {
    while (at != end && *at == ' ') ++at;
    if (at == end) return numbers;
    const char* const stop = read_number(at, end, numbers.emplace_back());
    if (stop == nullptr)
      fail_with(ErrorCategory::format, checkpoint.source, ": ", key, " is damaged at byte ",
                at - it->second.data());
    at = stop;
  }
}

/// The logits after every token, from an empty state.
template <class Slot, class Work, class Model, class State>
[[nodiscard]] std::vector<float> all_logits(const Model& model, State state,
                                            std::span<const Token> tokens, ExecutorRef exec) {
  std::vector<float> logits(tokens.size() * model.shape().vocab());
  Work work(model.shape(), tokens.size());
  const Slot slot{&state, tokens};
  model.forward(std::span(&slot, 1), Logits::all, logits, work, exec);
  return logits;
}
[[nodiscard]] inline std::vector<float> all_logits(const Model<>& model,
                                                   std::span<const Token> tokens,
                                                   ExecutorRef exec) {
  return all_logits<Slot<>, Workspace<>>(model, State(model.shape()), tokens, exec);
}
[[nodiscard]] inline std::vector<float> all_logits(const HybridModel& model,
                                                   std::span<const Token> tokens,
                                                   ExecutorRef exec) {
  return all_logits<HybridSlot, HybridWorkspace>(model, HybridState(model.shape()), tokens, exec);
}

template <class Model>
[[nodiscard]] SelfTest record(const Model& model, ExecutorRef exec) {
  const std::size_t vocab = model.shape().vocab();
  SelfTest test{some_tokens(vocab), (std::min)(vocab, self_test_top), {}, {}};
  const std::vector<float> logits = all_logits(model, test.tokens, exec);
  std::vector<Token> order(vocab);
  for (std::size_t t = 0; t < test.tokens.size(); ++t) {
    const auto row = std::span(logits).subspan(t * vocab, vocab);
    for (const float x : row)
      if (!std::isfinite(x))
        fail_with(ErrorCategory::numeric, "after ", t + 1,
                  " tokens of the self-test the model's logits are not finite");
    std::iota(order.begin(), order.end(), Token{0});
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(test.top),
                      order.end(),
                      [&](Token a, Token b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    for (std::size_t i = 0; i < test.top; ++i) {
      test.ids.push_back(order[i]);
      test.logits.push_back(row[order[i]]);
    }
  }
  return test;
}

}  // namespace detail

RWKV_FUNCTION SelfTest record_self_test(const Model<>& model, ExecutorRef exec) {
  return detail::record(model, exec);
}
RWKV_FUNCTION SelfTest record_self_test(const HybridModel& model, ExecutorRef exec) {
  return detail::record(model, exec);
}

RWKV_FUNCTION io::Metadata to_metadata(const SelfTest& test) {
  const auto text = [&]<class T>(const std::vector<T>& values, std::size_t count) {
    return detail::fixed_length_text(std::span<const T>(values), count);
  };
  const std::size_t count = test.tokens.size() * test.top;
  return {{detail::self_test_tokens, text(test.tokens, test.tokens.size())},
          {detail::self_test_ids, text(test.ids, count)},
          {detail::self_test_logits, text(test.logits, count)}};
}

RWKV_FUNCTION std::optional<SelfTest> self_test_of(const io::Checkpoint& checkpoint,
                                                   std::size_t vocab) {
  if (!checkpoint.metadata.contains(detail::self_test_tokens)) return std::nullopt;
  SelfTest test;
  test.tokens = detail::numbers_in<Token>(checkpoint, detail::self_test_tokens);
  test.ids = detail::numbers_in<Token>(checkpoint, detail::self_test_ids);
  test.logits = detail::numbers_in<float>(checkpoint, detail::self_test_logits);
  const auto refuse = [&](const auto&... why) {
    fail_with(ErrorCategory::format, checkpoint.source, ": the self-test ", why...);
  };
  constexpr std::size_t longest = 1024;
  const std::size_t n = test.tokens.size();
  if (n == 0 || n > longest || test.ids.size() % n != 0 || test.ids.empty() ||
      test.ids.size() != test.logits.size())
    refuse("has ", n, " tokens, ", test.ids.size(), " ids and ", test.logits.size(), " logits");
  test.top = test.ids.size() / n;
  for (const auto* tokens : {&test.tokens, &test.ids})
    for (const Token t : *tokens)
      if (t >= vocab) refuse("uses token ", t, " of a vocabulary of ", vocab);
  for (const float logit : test.logits)
    if (!std::isfinite(logit)) refuse("expects logits that are not finite");
  return test;
}

namespace detail {

template <class Model>
[[nodiscard]] Verification replay(const Model& model, const io::Checkpoint& checkpoint,
                                  ExecutorRef exec) {
  const std::size_t vocab = model.shape().vocab();
  const auto test = self_test_of(checkpoint, vocab);
  if (!test)
    fail_with(ErrorCategory::argument, checkpoint.source,
              ": this file carries no self-test; files written by `rwkv convert` do");
  const std::vector<float> logits = all_logits(model, test->tokens, exec);
  Verification result;
  result.tokens = test->tokens.size();
  bool blocks = false;
  for (const auto& [name, tensor] : checkpoint.tensors) blocks |= is_block(tensor.dtype);
  result.tolerance = blocks ? 0.05 : 0.001;
  for (std::size_t t = 0; t < result.tokens; ++t) {
    const float* row = logits.data() + t * vocab;
    const std::size_t first = t * test->top;
    result.same_top += argmax(std::span(row, vocab)) == test->ids[first];
    for (std::size_t i = first; i < first + test->top; ++i) {
      const double error = std::abs(double{row[test->ids[i]]} - test->logits[i]);
      // A NaN is the largest of errors.
      if (!(error <= result.largest_error))
        result.largest_error = std::isnan(error) ? HUGE_VAL : error;
      result.largest_logit = (std::max)(result.largest_logit, std::abs(double{test->logits[i]}));
    }
  }
  return result;
}

}  // namespace detail

RWKV_FUNCTION Verification verify(const Model<>& model, const io::Checkpoint& checkpoint,
                                  ExecutorRef exec) {
  return detail::replay(model, checkpoint, exec);
}
RWKV_FUNCTION Verification verify(const HybridModel& model, const io::Checkpoint& checkpoint,
                                  ExecutorRef exec) {
  return detail::replay(model, checkpoint, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
