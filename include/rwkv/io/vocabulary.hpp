// SPDX-License-Identifier: Apache-2.0
// What every vocabulary file becomes: token bytes by id.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/untrusted.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// No RWKV vocabulary has more ids; it bounds what a line like "4000000000 'a' 1" can allocate.
inline constexpr std::uint64_t max_vocabulary = std::uint64_t{1} << 18;

/// Adds an entry; returns what is wrong with it, or nothing.
[[nodiscard]] inline std::string add_entry(Vocabulary& vocabulary, std::uint64_t id,
                                           std::string&& bytes) {
  if (id >= max_vocabulary)
    return "id " + std::to_string(id) + " is not below " + std::to_string(max_vocabulary);
  if (bytes.empty()) return "id " + std::to_string(id) + " is an empty string";
  if (id >= vocabulary.size()) vocabulary.resize(static_cast<std::size_t>(id) + 1);
  std::string& entry = vocabulary[static_cast<std::size_t>(id)];
  if (!entry.empty()) return "id " + std::to_string(id) + " occurs twice";
  entry = std::move(bytes);
  return {};
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
