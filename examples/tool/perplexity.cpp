// SPDX-License-Identifier: Apache-2.0
// The first token of a text has nothing before it and is not predicted; its bytes do not count.
#include "common.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace tool {

namespace {

/// The pieces of `text` between lines that equal `separator`, or all of it if that is empty.
std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
  if (separator.empty()) return {text};
  std::vector<std::string_view> pieces;
  std::size_t piece = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::size_t next = std::min(end + 1, text.size());
    if (text.substr(begin, end - begin) == separator) {
      pieces.push_back(text.substr(piece, begin - piece));
      piece = next;
    }
    begin = next;
  }
  pieces.push_back(text.substr(piece));
  return pieces;
}

/// -ln of the probability that softmax gives to `token`.
double surprise(std::span<const float> logits, rwkv::Token token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(double{x} - largest);
  return std::log(sum) - (double{logits[token]} - largest);
}

/// Runs texts through a model and adds up how surprised it is. Memory does not depend on the length
/// of a text, and the sums do not depend on the number of threads.
template <class Model, class State, class Work>
class Meter {
 public:
  static constexpr std::size_t rows = 128;

  Meter(const Model& model, State state, Work work, rwkv::ThreadPool& pool)
      : model_(model), pool_(pool), state_(std::move(state)), work_(std::move(work)) {
    work_.hidden_units().counted = true;
  }

  /// Reads a text from an empty state; calls progress(tokens) now and then.
  template <class Progress>
  void read(std::span<const rwkv::Token> text, Progress progress) {
    const std::size_t vocab = model_.shape().vocab();
    state_ = model_.initial_state();
    for (std::size_t done = 0; done + 1 < text.size();) {
      const std::size_t n = std::min(rows, text.size() - 1 - done);
      // Also the last target, which no later forward pass will check.
      if (const rwkv::Token last = text[done + n]; last >= vocab)
        rwkv::fail_with(rwkv::ErrorCategory::argument, "token ", last,
                        " is outside the vocabulary of ", vocab);
      logits_.resize(n * vocab);
      const auto slot = slot_of(state_, text.subspan(done, n));
      model_.forward(std::span(&slot, 1), rwkv::Logits::all, logits_, work_, pool_);
      surprises_.resize(n);
      pool_.parallel(pool_.concurrency(), [&](std::size_t worker) {
        for (std::size_t row = worker; row < n; row += pool_.concurrency())
          surprises_[row] =
              surprise(std::span(logits_).subspan(row * vocab, vocab), text[done + row + 1]);
      });
      for (const double s : surprises_) nats_ += s;
      predictions_ += n;
      done += n;
      progress(n);
    }
  }

  [[nodiscard]] double bits() const { return nats_ / std::log(2.0); }
  [[nodiscard]] std::size_t predictions() const noexcept { return predictions_; }
  /// The fraction of hidden units of the channel mixes that were zero.
  [[nodiscard]] double ffn_zeros() {
    const rwkv::HiddenUnits& units = work_.hidden_units();
    return static_cast<double>(units.zero) / static_cast<double>(units.all);
  }

 private:
  const Model& model_;
  rwkv::ThreadPool& pool_;
  State state_;
  Work work_;
  std::vector<float> logits_;
  std::vector<double> surprises_;
  double nats_ = 0.0;
  std::size_t predictions_ = 0;
};

/// What reading a file says about a model.
struct Measured {
  double bits = 0.0;
  std::size_t predictions = 0;
  std::size_t bytes = 0;
  double ffn_zeros = 0.0;
};

template <class Meter>
Measured read_file(const Perplexity& o, const rwkv::Tokenizer& tokenizer, Meter& meter) {
  const std::string file = read_all(o.file);
  Progress progress("tokens");
  std::vector<rwkv::Token> tokens;
  std::size_t bytes = 0;
  for (const std::string_view text : split(file, o.separator)) {
    tokens.clear();
    tokenizer.encode(text, tokens);
    if (tokens.size() < 2) continue;
    bytes += text.size() - tokenizer.token_bytes(tokens[0]).size();
    const auto begin = static_cast<double>(text.data() - file.data());
    const double bytes_per_token =
        static_cast<double>(text.size()) / static_cast<double>(tokens.size());
    double read = 0.0;
    meter.read(tokens, [&](std::size_t n) {
      read += static_cast<double>(n) * bytes_per_token;
      progress((begin + read) / static_cast<double>(file.size()));
    });
  }
  if (meter.predictions() == 0)
    rwkv::fail_with(rwkv::ErrorCategory::argument, o.file, ": no text of at least two tokens");
  if (!std::isfinite(meter.bits()))
    rwkv::fail_with(rwkv::ErrorCategory::numeric, o.model, ": the model's logits are not finite");
  return {meter.bits(), meter.predictions(), bytes, meter.ffn_zeros()};
}

}  // namespace

void run(const Perplexity& o) {
  rwkv::ThreadPool pool(o.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(o.model);
  Measured measured;
  with_model(checkpoint, o.hybrid, pool, load_options(o),
             [&](const auto& model, auto state, const auto& make_workspace) {
               const auto tokenizer = tokenizer_for(o.vocab, checkpoint, model.shape().vocab());
               Meter meter(model, std::move(state), make_workspace(128, 128), pool);
               measured = read_file(o, tokenizer, meter);
             });
  const auto& [bits, predictions, bytes, ffn_zeros] = measured;

  const double per_byte = bits / static_cast<double>(bytes);
  const double per_token = bits / static_cast<double>(predictions);
  if (o.json) {
    const nlohmann::ordered_json result = {{"bits_per_byte", per_byte},
                                           {"bits_per_token", per_token},
                                           {"tokens", predictions},
                                           {"bytes", bytes},
                                           {"ffn_zeros", ffn_zeros}};
    std::printf("%s\n", result.dump(2).c_str());
  } else {
    std::printf(
        "bits per byte   %.5f\nbits per token  %.5f\ntokens          %zu\nbytes           %zu\n"
        "ffn zeros       %.1f %%\n",
        per_byte, per_token, predictions, bytes, 100 * ffn_zeros);
  }
}

}  // namespace tool
