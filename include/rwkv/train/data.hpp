// SPDX-License-Identifier: Apache-2.0
// Where training samples come from. Every epoch visits everything once, in a new random order;
// order and position can be saved, so that a resumed run sees exactly what the uninterrupted one
// would have seen.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/train/objective.hpp>
#include <rwkv/train/random.hpp>

#include <numeric>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// Position in a data source: enough to continue exactly there.
struct DataPosition {
  Random::State random{};   ///< before the current epoch's order was drawn
  std::uint64_t epoch = 0;  ///< epochs finished
  std::uint64_t next = 0;   ///< samples of the current epoch that have been handed out
  friend bool operator==(const DataPosition&, const DataPosition&) = default;
};

/// What a Trainer draws its batches from.
///   next(samples): fills the samples' tokens, weights and targets with views that stay valid until
///   the next call; position(), restore(position); largest_token(): for checking against the
///   vocabulary; fingerprint(): identifies the data.
template <class S>
concept DataSource = requires(S& s, const S& c, std::span<Sample> samples, DataPosition position) {
  s.next(samples);
  { c.position() } -> std::convertible_to<DataPosition>;
  s.restore(position);
  { c.largest_token() } -> std::convertible_to<Token>;
  { c.fingerprint() } -> std::convertible_to<std::uint64_t>;
};

namespace detail {

/// FNV-1a over 64-bit words.
class Fingerprint {
 public:
  void add(std::uint64_t word) noexcept {
    value_ = (value_ ^ word) * 0x100000001b3u;
    value_ ^= value_ >> 29;
  }
  [[nodiscard]] std::uint64_t value() const noexcept { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

/// The numbers 0 ... items - 1 in a new random order every epoch, with `extra` more random draws
/// per epoch.
class EpochOrder {
 public:
  EpochOrder(std::size_t items, std::uint64_t seed) : random_(seed), order_(items) {
    begin_epoch();
  }

  /// Calls on_epoch(random) whenever a new epoch begins. Throws `Error` (argument) if the order was
  /// moved away.
  template <class OnEpoch>
  std::size_t next(OnEpoch on_epoch) {
    if (order_.empty()) fail(ErrorCategory::argument, "these samples were moved away");
    if (position_.next == order_.size()) {
      ++position_.epoch;
      position_.next = 0;
      begin_epoch();
      on_epoch(random_);
    }
    return order_[static_cast<std::size_t>(position_.next++)];
  }

  [[nodiscard]] const DataPosition& position() const noexcept { return position_; }
  template <class OnEpoch>
  void restore(const DataPosition& position, OnEpoch on_epoch) {
    if (position.next > order_.size())
      fail_with(ErrorCategory::argument, "a position after sample ", position.next,
                " of an epoch cannot be restored: the data has ", order_.size(), " samples");
    random_ = Random(position.random);
    position_ = position;
    begin_epoch();
    on_epoch(random_);
  }
  [[nodiscard]] Random& random() noexcept { return random_; }

 private:
  void begin_epoch() {
    position_.random = random_.state();
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    for (std::size_t i = order_.size(); i > 1; --i)
      std::swap(order_[i - 1], order_[random_.below(i)]);
  }

  Random random_;
  std::vector<std::size_t> order_;
  DataPosition position_;
};

}  // namespace detail

/// Windows of a long text: an epoch cuts it into pieces of `length` predictions, at a random
/// offset.
class TextWindows {
 public:
  /// Throws `Error` (argument) unless the text has at least two windows: length + 1 tokens and an
  /// offset.
  TextWindows(std::vector<Token> tokens, std::size_t length, std::uint64_t seed)
      : tokens_(std::move(tokens)), length_(length), order_(count(tokens_, length), seed) {
    draw_offset(order_.random());
  }

  void next(std::span<Sample> samples) {
    for (Sample& s : samples) {
      const std::size_t window = order_.next([this](Random& r) { draw_offset(r); });
      s.tokens = std::span(tokens_).subspan(offset_ + window * length_, length_ + 1);
      s.weights = {};
    }
  }

  [[nodiscard]] DataPosition position() const noexcept { return order_.position(); }
  void restore(const DataPosition& position) {
    order_.restore(position, [this](Random& r) { draw_offset(r); });
  }
  [[nodiscard]] Token largest_token() const noexcept {
    Token largest = 0;
    for (const Token t : tokens_) largest = (std::max)(largest, t);
    return largest;
  }
  [[nodiscard]] std::uint64_t fingerprint() const noexcept {
    detail::Fingerprint f;
    f.add(length_);
    for (const Token t : tokens_) f.add(t);
    return f.value();
  }
  /// Samples per epoch.
  [[nodiscard]] std::size_t size() const noexcept { return count(tokens_, length_); }

 private:
  // One window less than fit, so that there is room for the offset.
  static std::size_t count(const std::vector<Token>& tokens, std::size_t length) {
    if (length == 0 || tokens.empty() || length > (tokens.size() - 1) / 2)
      fail_with(ErrorCategory::argument, "a text of ", tokens.size(),
                " tokens is too short for training on windows of ", length,
                " (it needs twice that and one more)");
    return (tokens.size() - 1) / length - 1;
  }
  void draw_offset(Random& random) { offset_ = random.below(length_); }

  std::vector<Token> tokens_;
  std::size_t length_;
  detail::EpochOrder order_;
  std::size_t offset_ = 0;
};

/// Separate samples of any length, each beginning with an empty state.
class SampleList {
 public:
  struct Item {
    std::vector<Token> tokens;   ///< [T + 1]
    std::vector<float> weights;  ///< [T], e.g. 0 for a question and 1 for its answer; empty: all 1
  };

  /// Throws `Error` (argument) naming the sample for an empty list or a sample without a prediction
  /// or with a wrong number of weights.
  SampleList(std::vector<Item> items, std::uint64_t seed)
      : items_(checked(std::move(items))), order_(items_.size(), seed) {}

  void next(std::span<Sample> samples) {
    for (Sample& s : samples) {
      const Item& item = items_[order_.next([](Random&) {})];
      s.tokens = item.tokens;
      s.weights = item.weights;
    }
  }

  [[nodiscard]] DataPosition position() const noexcept { return order_.position(); }
  void restore(const DataPosition& position) {
    order_.restore(position, [](Random&) {});
  }
  [[nodiscard]] Token largest_token() const noexcept {
    Token largest = 0;
    for (const Item& item : items_)
      for (const Token t : item.tokens) largest = (std::max)(largest, t);
    return largest;
  }
  [[nodiscard]] std::uint64_t fingerprint() const noexcept {
    detail::Fingerprint f;
    for (const Item& item : items_) {
      f.add(item.tokens.size());
      for (const Token t : item.tokens) f.add(t);
      for (const float w : item.weights) f.add(std::bit_cast<std::uint32_t>(w));
    }
    return f.value();
  }
  /// Samples per epoch.
  [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }

 private:
  static std::vector<Item> checked(std::vector<Item> items) {
    if (items.empty()) fail(ErrorCategory::argument, "there are no samples to train on");
    for (std::size_t i = 0; i < items.size(); ++i) {
      const Item& item = items[i];
      if (item.tokens.size() < 2)
        fail_with(ErrorCategory::argument, "sample ", i, " has ", item.tokens.size(),
                  " tokens; a prediction needs two");
      if (!item.weights.empty() && item.weights.size() + 1 != item.tokens.size())
        fail_with(ErrorCategory::argument, "sample ", i, " has ", item.weights.size(),
                  " weights for ", item.tokens.size() - 1, " predictions");
    }
    return items;
  }

  std::vector<Item> items_;
  detail::EpochOrder order_;
};

/// A text cut into consecutive windows of `length` predictions, the last one shorter, for
/// validation. Views `tokens`. Throws `Error` (argument) for windows of 0.
[[nodiscard]] inline std::vector<Sample> cut(std::span<const Token> tokens, std::size_t length) {
  if (length == 0)
    fail_with(ErrorCategory::argument, "a text of ", tokens.size(),
              " tokens cannot be cut into windows of 0 predictions");
  std::vector<Sample> samples;
  while (tokens.size() > 1) {
    const std::size_t predictions = (std::min)(length, tokens.size() - 1);
    samples.emplace_back();
    samples.back().tokens = tokens.first(predictions + 1);
    tokens = tokens.subspan(predictions);
  }
  return samples;
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
