// SPDX-License-Identifier: Apache-2.0
// JSON numbers within bounds, and multiples, as automata.
#pragma once

#include <rwkv/grammar/byte_dfa.hpp>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// 0.d1d2d3... * 10^exponent, where neither the first nor the last digit is 0; no digits: zero.
struct Decimal {
  bool negative = false;
  std::string digits{};
  int exponent = 0;

  friend bool operator==(const Decimal&, const Decimal&) = default;

  /// From a JSON number.
  [[nodiscard]] static Decimal of(std::string_view text) {
    Decimal d;
    std::size_t at = 0;
    if (text.starts_with('-')) {
      d.negative = true;
      ++at;
    }
    bool point = false;
    for (; at < text.size() && text[at] != 'e' && text[at] != 'E'; ++at) {
      if (text[at] == '.') {
        point = true;
        continue;
      }
      d.digits += text[at];
      if (!point) ++d.exponent;
    }
    if (at < text.size()) {
      int shift = 0;
      const bool down = text[++at] == '-';
      if (text[at] == '-' || text[at] == '+') ++at;
      for (; at < text.size(); ++at) shift = (std::min)(shift * 10 + (text[at] - '0'), 100'000);
      d.exponent += down ? -shift : shift;
    }
    const std::size_t zeros = (std::min)(d.digits.find_first_not_of('0'), d.digits.size());
    d.digits.erase(0, zeros);
    d.exponent -= static_cast<int>(zeros);
    d.digits.erase(d.digits.find_last_not_of('0') + 1);
    if (d.digits.empty()) d = {};
    return d;
  }

  [[nodiscard]] bool zero() const noexcept { return digits.empty(); }

  /// Of what lies before the point.
  [[nodiscard]] std::size_t whole_digits() const noexcept {
    return exponent > 0 ? static_cast<std::size_t>(exponent) : 0;
  }
  /// Digit i after the first one before the point ("0" if there is none before it, which has
  /// number 0 then).
  [[nodiscard]] char whole(std::size_t i) const noexcept {
    return i < digits.size() ? digits[i] : '0';
  }
  [[nodiscard]] std::size_t fraction_digits() const noexcept {
    const int n = static_cast<int>(digits.size()) - exponent;
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  [[nodiscard]] char fraction(std::size_t i) const noexcept {
    const int at = static_cast<int>(i) + exponent;
    return at >= 0 && at < static_cast<int>(digits.size()) ? digits[static_cast<std::size_t>(at)]
                                                           : '0';
  }

  [[nodiscard]] static int compare_magnitudes(const Decimal& a, const Decimal& b) noexcept {
    if (a.zero() || b.zero()) return static_cast<int>(b.zero()) - static_cast<int>(a.zero());
    if (a.exponent != b.exponent) return a.exponent < b.exponent ? -1 : 1;
    const int order = a.digits.compare(b.digits);
    return order < 0 ? -1 : order > 0;
  }
  [[nodiscard]] static int compare(const Decimal& a, const Decimal& b) noexcept {
    const int sign_a = a.zero() ? 0 : a.negative ? -1 : 1;
    const int sign_b = b.zero() ? 0 : b.negative ? -1 : 1;
    if (sign_a != sign_b) return sign_a < sign_b ? -1 : 1;
    return sign_a < 0 ? compare_magnitudes(b, a) : compare_magnitudes(a, b);
  }
};

/// What a schema says about numbers.
struct Numbers {
  struct Bound {
    Decimal value;
    bool open;  // the value itself is out
    friend bool operator==(const Bound&, const Bound&) = default;
  };
  std::optional<Bound> low{}, high{};
  bool integer = false;
  // Multiples of step / 10^scale; step 0: of nothing.
  std::uint64_t step = 0;
  int scale = 0;

  void at_least(Bound b) {
    const int order = low ? Decimal::compare(b.value, low->value) : 1;
    if (order > 0 || (order == 0 && b.open)) low = std::move(b);
  }
  void at_most(Bound b) {
    const int order = high ? Decimal::compare(b.value, high->value) : -1;
    if (order < 0 || (order == 0 && b.open)) high = std::move(b);
  }

  static constexpr std::uint64_t largest_step = 1'000'000;

  /// False if the step would be too large.
  [[nodiscard]] bool multiple_of(std::uint64_t by, int by_scale) {
    const auto raise = [](std::uint64_t& value, int& from, int to) {
      for (; from < to; ++from) {
        if (value > (std::numeric_limits<std::uint64_t>::max)() / 10) return false;
        value *= 10;
      }
      return true;
    };
    if (step == 0) {
      step = by;
      scale = by_scale;
    } else {
      const int common = (std::max)(scale, by_scale);
      if (!raise(step, scale, common) || !raise(by, by_scale, common)) return false;
      step /= std::gcd(step, by);
      if (step > (std::numeric_limits<std::uint64_t>::max)() / by) return false;
      step *= by;
    }
    for (; scale > 0 && step % 10 == 0; --scale) step /= 10;
    return step <= largest_step;
  }
  [[nodiscard]] bool multiple_of(const Decimal& d) {
    const int by_scale = static_cast<int>(d.digits.size()) - d.exponent;
    if (d.digits.size() > 15 || by_scale > 60 || by_scale < -6) return false;
    std::uint64_t by = 0;
    for (const char c : d.digits) by = by * 10 + static_cast<std::uint64_t>(c - '0');
    for (int i = by_scale; i < 0; ++i) by *= 10;
    return multiple_of(by, (std::max)(by_scale, 0));
  }

  [[nodiscard]] bool any() const noexcept { return !low && !high && !integer && step == 0; }

  friend bool operator==(const Numbers&, const Numbers&) = default;
};
/// Reads a number and knows how it compares with the bounds. Plain decimals always; with an
/// exponent where the first digit is not 0, the only one before the point, and (for multiples of
/// 10^-n, as integers are) it cannot leave a fraction: either there is no point, or there are at
/// most 16 digits behind it and the exponent is 16 or more, as programs write large numbers.
class NumberReader {
 public:
  /// `plain`: without exponents, integers without a point, no more digits than a program can use.
  explicit NumberReader(const Numbers& n, bool plain) : n_(n), plain_(plain) {
    if (n.integer) exact_ = n_.multiple_of(1, 0);
    // What programs divide are doubles, which hold 15 digits.
    if (n_.step > 1 || n_.scale > 0)
      most_whole_ = 15 - (std::min)(static_cast<std::size_t>(n_.scale), std::size_t{14});
    // For each sign, between which magnitudes.
    const auto side = [&](bool negative) {
      Side s;
      const auto& farthest = negative ? n_.low : n_.high;
      const auto& nearest = negative ? n_.high : n_.low;
      if (farthest) {
        const bool reached = farthest->value.zero() || farthest->value.negative == negative;
        if (!reached || (farthest->value.zero() && farthest->open)) s.possible = false;
        s.most = *farthest;
      }
      if (nearest && !nearest->value.zero() && nearest->value.negative == negative)
        s.least = *nearest;
      if (nearest && nearest->value.zero() && nearest->open) s.least = *nearest;
      if (nearest && !nearest->value.zero() && nearest->value.negative != negative)
        s.least = std::nullopt;
      return s;
    };
    sides_[0] = side(false);
    sides_[1] = side(true);
    for (const Side& s : sides_)
      for (const auto* bound : {&s.least, &s.most}) {
        if (!*bound) continue;
        const Decimal& value = (*bound)->value;
        largest_exponent_ = (std::max)(largest_exponent_, std::abs(value.exponent));
        most_whole_ =
            (std::max)(most_whole_, (std::min)(value.whole_digits() + 1, std::size_t{250}));
        most_fraction_ =
            (std::max)(most_fraction_, (std::min)(value.fraction_digits() + 1, std::size_t{250}));
      }
    most_fraction_ = (std::max)(most_fraction_, static_cast<std::size_t>(n_.scale));
  }

  [[nodiscard]] bool exact() const noexcept { return exact_; }

  // How what was read compares with a bound, digit by digit.
  struct Order {
    std::int8_t order = 0;  // so far: less, equal, greater
    std::uint16_t at = 0;   // digits compared (before the point, then those behind it)
    friend auto operator<=>(const Order&, const Order&) = default;
  };
  struct State {
    enum class Place : std::uint8_t {
      start,
      sign,
      zero,   // "0" before the point
      whole,  // digits before the point
      point,  // just read
      fraction,
      e,  // just read
      e_sign,
      exponent,
    };
    Place place = Place::start;
    bool negative = false;
    bool nonzero = false;   // some digit is not 0
    bool single = false;    // one digit before the point, not 0: an exponent may follow
    Order least{}, most{};  // as a plain decimal
    Order least_digits{}, most_digits{};  // of the digits alone, for an exponent
    std::uint32_t rest = 0;               // modulo the step
    std::uint8_t length = 0;  // digits before the point, or behind it, if they are limited
    std::uint8_t behind = 0;  // digits behind the point: up to the scale, or 17
    bool down = false;        // the exponent is negative
    std::uint16_t power = 0;
    friend auto operator<=>(const State&, const State&) = default;
  };

  [[nodiscard]] std::optional<State> step(State s, unsigned char byte) const {
    using Place = State::Place;
    const bool digit = byte >= '0' && byte <= '9';
    switch (s.place) {
      case Place::start:
        if (byte == '-') {
          s.negative = true;
          s.place = Place::sign;
          return s;
        }
        [[fallthrough]];
      case Place::sign:
        if (!digit) return std::nullopt;
        s.place = byte == '0' ? Place::zero : Place::whole;
        s.single = byte != '0';
        return byte == '0' ? s : whole(s, byte);
      case Place::zero:
        if (byte == '.') return point(s);
        return std::nullopt;
      case Place::whole:
        if (digit) {
          s.single = false;
          forget_digits(s);
          return whole(s, byte);
        }
        if (byte == '.') return point(s);
        if (byte == 'e' || byte == 'E') return exponent(s);
        return std::nullopt;
      case Place::point:
      case Place::fraction:
        if (digit) {
          s.place = Place::fraction;
          return fraction(s, byte);
        }
        if ((byte == 'e' || byte == 'E') && s.place == Place::fraction) return exponent(s);
        return std::nullopt;
      case Place::e:
        if (byte == '+' || byte == '-') {
          s.down = byte == '-';
          s.place = Place::e_sign;
          return s;
        }
        [[fallthrough]];
      default:
        if (!digit) return std::nullopt;
        s.place = Place::exponent;
        s.power = static_cast<std::uint16_t>(
            (std::min)(s.power * 10 + (byte - '0'), largest_exponent_ + 20));
        return s;
    }
  }

  [[nodiscard]] bool accepts(const State& s) const {
    using Place = State::Place;
    const Side& side = sides_[s.negative];
    switch (s.place) {
      case Place::zero:
      case Place::whole:
      case Place::fraction: {
        if (n_.step == 1 && s.rest != 0) return false;
        if (n_.step > 1) {
          std::uint64_t rest = s.rest;
          for (int i = s.behind; i < n_.scale; ++i) rest = rest * 10 % n_.step;
          if (rest != 0) return false;
        }
        if (!s.nonzero) return zero_fits() && !(plain_ && s.negative && !below_zero());
        if (!side.possible) return false;
        if (side.least && !above(finished(s, side.least->value, s.least), *side.least))
          return false;
        return !side.most || below(finished(s, side.most->value, s.most), *side.most);
      }
      case Place::exponent: {
        if (!side.possible) return false;
        const int power = s.down ? -int{s.power} : int{s.power};
        if (n_.step != 0 && (s.behind == 0 ? power < 0 : power < 16)) return false;
        const auto order = [&](const Decimal& bound, const Order& digits) {
          if (bound.zero()) return 1;
          if (power + 1 != bound.exponent) return power + 1 < bound.exponent ? -1 : 1;
          if (digits.order != 0) return int{digits.order};
          return digits.at < bound.digits.size() ? -1 : 0;
        };
        if (side.least && !above(order(side.least->value, s.least_digits), *side.least))
          return false;
        return !side.most || below(order(side.most->value, s.most_digits), *side.most);
      }
      default:
        return false;
    }
  }

  /// Nothing if it would be too large.
  [[nodiscard]] std::optional<ByteDfa> automaton() const {
    if (!exact_) return std::nullopt;
    std::array<std::uint8_t, 256> class_of{};
    for (std::size_t c = 0; c < 10; ++c) class_of['0' + c] = static_cast<std::uint8_t>(c + 1);
    class_of['-'] = 11;
    class_of['+'] = 12;
    class_of['.'] = 13;
    class_of['e'] = class_of['E'] = 14;
    return explore(
        State(), [&](const State& s, unsigned char byte) { return step(s, byte); },
        [&](const State& s) { return accepts(s) ? 0 : ByteDfa::not_accepting; }, class_of, 200'000);
  }

 private:
  struct Side {
    bool possible = true;
    std::optional<Numbers::Bound> least{}, most{};  // of the magnitude; none: anything
  };

  [[nodiscard]] static bool above(int order, const Numbers::Bound& b) noexcept {
    return order > 0 || (order == 0 && !b.open);
  }
  [[nodiscard]] static bool below(int order, const Numbers::Bound& b) noexcept {
    return order < 0 || (order == 0 && !b.open);
  }

  [[nodiscard]] bool zero_fits() const {
    const Decimal zero;
    return (!n_.low || above(Decimal::compare(zero, n_.low->value), *n_.low)) &&
           (!n_.high || below(Decimal::compare(zero, n_.high->value), *n_.high));
  }

  [[nodiscard]] bool below_zero() const noexcept {
    return !n_.low || (n_.low->value.negative && !n_.low->value.zero());
  }

  static void forget_digits(State& s) noexcept { s.least_digits = s.most_digits = {}; }

  // Before the point, `at` counts digits, up to one more than the bound has.
  static void compare_whole(Order& order, const Decimal& bound, char digit) noexcept {
    const std::size_t n = bound.whole_digits();
    if (order.at > n) return;
    if (order.order == 0 && order.at < n) {
      const char other = bound.whole(order.at);
      order.order = static_cast<std::int8_t>(digit < other ? -1 : digit > other);
    }
    ++order.at;
    if (order.at > n) order.order = 1;  // it has more digits
  }
  static void compare_digits(Order& order, const Decimal& bound, char digit) noexcept {
    if (order.order != 0) return;
    const char other = order.at < bound.digits.size() ? bound.digits[order.at] : '0';
    if (digit != other) order = {static_cast<std::int8_t>(digit < other ? -1 : 1), 0};
    if (order.order == 0 && order.at < bound.digits.size()) ++order.at;
  }
  // At the point, digits before it were fewer, as many, or more.
  static Order at_point(const Order& order, const Decimal& bound) noexcept {
    const std::size_t n = bound.whole_digits();
    if (order.at < n) return {-1, 0};
    return {order.order, 0};
  }
  static void compare_fraction(Order& order, const Decimal& bound, char digit) noexcept {
    if (order.order != 0) return;
    const char other = bound.fraction(order.at);
    if (digit != other)
      order = {static_cast<std::int8_t>(digit < other ? -1 : 1), 0};
    else if (order.at < bound.fraction_digits())
      ++order.at;
  }
  [[nodiscard]] static int finished(const State& s, const Decimal& bound, const Order& order) {
    const bool behind = s.place == State::Place::fraction;
    const Order o = behind ? order : at_point(order, bound);
    if (o.order != 0) return o.order;
    return o.at < bound.fraction_digits() ? -1 : 0;
  }

  void read(State& s, unsigned char byte) const noexcept {
    s.nonzero = s.nonzero || byte != '0';
    if (n_.step > 1)
      s.rest = static_cast<std::uint32_t>((s.rest * std::uint64_t{10} + (byte - '0')) % n_.step);
  }

  [[nodiscard]] std::optional<State> whole(State s, unsigned char byte) const {
    if (plain_ && s.length++ == most_whole_) return std::nullopt;
    const Side& side = sides_[s.negative];
    const char c = static_cast<char>(byte);
    if (side.least) compare_whole(s.least, side.least->value, c);
    if (side.most) compare_whole(s.most, side.most->value, c);
    if (s.single && side.least) compare_digits(s.least_digits, side.least->value, c);
    if (s.single && side.most) compare_digits(s.most_digits, side.most->value, c);
    read(s, byte);
    if (!side.possible) return std::nullopt;
    return s;
  }

  [[nodiscard]] std::optional<State> point(State s) const {
    if (plain_ && n_.integer) return std::nullopt;
    const Side& side = sides_[s.negative];
    if (side.least) s.least = at_point(s.least, side.least->value);
    if (side.most) s.most = at_point(s.most, side.most->value);
    s.place = State::Place::point;
    s.length = 0;
    return s;
  }

  [[nodiscard]] std::optional<State> fraction(State s, unsigned char byte) const {
    if (plain_ && s.length++ == most_fraction_) return std::nullopt;
    const Side& side = sides_[s.negative];
    const char c = static_cast<char>(byte);
    if (side.least) compare_fraction(s.least, side.least->value, c);
    if (side.most) compare_fraction(s.most, side.most->value, c);
    if (s.single && side.least) compare_digits(s.least_digits, side.least->value, c);
    if (s.single && side.most) compare_digits(s.most_digits, side.most->value, c);
    s.nonzero = s.nonzero || byte != '0';
    if (n_.step == 0) return s;
    if (int{s.behind} < n_.scale) {
      read(s, byte);
    } else if (byte != '0') {
      // A fraction, unless an exponent takes it away.
      if (!s.single || n_.step > 1) return std::nullopt;
      s.rest = 1;
    }
    if (s.single && n_.step == 1) {
      if (int{s.behind} < (std::max)(17, n_.scale)) ++s.behind;
    } else if (int{s.behind} < n_.scale) {
      ++s.behind;
    }
    return s;
  }

  [[nodiscard]] std::optional<State> exponent(State s) const {
    if (plain_ || !s.single || n_.step > 1 || s.behind > 16) return std::nullopt;
    s.place = State::Place::e;
    s.least = s.most = {};
    s.rest = 0;
    if (s.behind > 0) s.behind = 1;
    return s;
  }

  Numbers n_;
  bool plain_;
  bool exact_ = true;
  Side sides_[2];
  int largest_exponent_ = 0;
  std::size_t most_whole_ = 18;  // as many as integers of 64 bits always hold
  std::size_t most_fraction_ = 17;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
