// SPDX-License-Identifier: Apache-2.0
// What a call refuses with.
#pragma once

#include <rwkv/core/error.hpp>

#include <doctest/doctest.h>

#include <string>

namespace test {

/// The sentence with which f refuses.
template <class F>
std::string refusal(rwkv::ErrorCategory category, F&& f) {
  try {
    f();
  } catch (const rwkv::Error& e) {
    CHECK(e.category() == category);
    return e.what();
  }
  FAIL("no error");
  return {};
}

/// Whether a sentence has this part; shows the sentence if not.
inline bool contains(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE(text);
  return found;
}

}  // namespace test
