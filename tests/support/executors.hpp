// SPDX-License-Identifier: Apache-2.0
// An executor that claims to be many and runs the calls last to first: what depends on the order
// or on the cut of the work shows, without threads.
#pragma once

#include <cstddef>

namespace test {

class Backwards {
 public:
  explicit Backwards(std::size_t concurrency) : concurrency_(concurrency) {}
  [[nodiscard]] std::size_t concurrency() const { return concurrency_; }
  template <class F>
  void parallel(std::size_t n, F&& f) {
    largest_ = n > largest_ ? n : largest_;
    for (std::size_t i = n; i-- > 0;) f(i);
  }
  /// The largest n it was ever asked for.
  [[nodiscard]] std::size_t largest() const { return largest_; }

 private:
  std::size_t concurrency_;
  std::size_t largest_ = 0;
};

}  // namespace test
