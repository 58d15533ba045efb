// SPDX-License-Identifier: Apache-2.0
// The definitions of core/error.hpp.
#pragma once

#include <rwkv/core/error.hpp>

#include <charconv>
#if defined(__wasi__)
#include <rwkv/core/decimal.hpp>
#endif

namespace rwkv::inline RWKV_ABI {

[[noreturn]] RWKV_FUNCTION void fail(ErrorCategory category, const std::string& sentence) {
#if RWKV_HAS_EXCEPTIONS
  throw Error(category, sentence);
#else
  if (error_handler != nullptr) error_handler(category, sentence.c_str());
  std::abort();
#endif
}

namespace internal {

RWKV_FUNCTION void Part::append_to(std::string& sentence) const {
  switch (kind_) {
    case Kind::text:
      sentence += text_;
      break;
    case Kind::letter:
      sentence += letter_;
      break;
    case Kind::integer:
      sentence += std::to_string(integer_);
      break;
    case Kind::natural:
      sentence += std::to_string(natural_);
      break;
    case Kind::single:
    case Kind::real: {  // the shortest text that means it, whatever the locale says
#if defined(__wasi__)   // the tables of to_chars are larger than all sentences
      append_decimal(sentence, real_, kind_ == Kind::single);
#else
      char text[32];
      const auto end = kind_ == Kind::single
                           ? std::to_chars(text, text + sizeof text, static_cast<float>(real_)).ptr
                           : std::to_chars(text, text + sizeof text, real_).ptr;
      sentence.append(text, end);
#endif
      break;
    }
  }
}

[[noreturn]] RWKV_FUNCTION void fail_with_parts(ErrorCategory category, const Part* parts,
                                                std::size_t count) {
  std::string sentence;
  for (std::size_t i = 0; i < count; ++i) parts[i].append_to(sentence);
  fail(category, sentence);
}

}  // namespace internal

}  // namespace rwkv::inline RWKV_ABI
