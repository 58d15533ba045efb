// SPDX-License-Identifier: Apache-2.0
// The definitions of hybrid_shape.hpp.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/hybrid_shape.hpp>

namespace rwkv::inline RWKV_ABI {

RWKV_FUNCTION void HybridConfig::set(std::string_view key, std::string_view value,
                                     const std::string& source) {
  const auto choose = [&]<class E>(E& field,
                                   std::initializer_list<std::pair<const char*, E>> known) {
    std::string names;
    for (const auto& [name, meaning] : known) {
      if (value == name) return field = meaning, void();
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    fail_with(ErrorCategory::argument, source, ": ", std::string(key), " is \"",
              std::string(value.substr(0, 40)), "\" (known: ", names, ")");
  };
  if (key == "semantics")
    return choose(semantics,
                  {{"paper", HybridSemantics::paper}, {"package", HybridSemantics::package}});
  if (key == "attn_mode")
    return choose(mode, {{"sparse", AttentionMode::sparse}, {"full", AttentionMode::full}});
  if (key == "cache")
    return choose(cache_type,
                  {{"f32", CacheType::f32}, {"f16", CacheType::f16}, {"int8", CacheType::int8}});
  std::size_t* const field = key == "chunk"    ? &chunk
                             : key == "topk"   ? &top_k
                             : key == "max"    ? &max_cache
                             : key == "min"    ? &min_cache
                             : key == "window" ? &window
                                               : nullptr;
  if (field == nullptr)
    fail_with(
        ErrorCategory::argument, source, ": \"", std::string(key.substr(0, 40)),
        "\" is no hyper-parameter of a hybrid model (known: semantics, attn_mode, chunk, topk, "
        "max, min, window, cache)");
  if (const auto number = internal::parse<std::size_t>(value))
    *field = *number;
  else
    fail_with(ErrorCategory::argument, source, ": ", std::string(key), " is \"",
              std::string(value.substr(0, 40)), "\", not a number");
}

RWKV_FUNCTION std::vector<std::pair<std::string, std::string>> HybridConfig::items() const {
  return {{"semantics", semantics == HybridSemantics::paper ? "paper" : "package"},
          {"attn_mode", mode == AttentionMode::sparse ? "sparse" : "full"},
          {"chunk", std::to_string(chunk)},
          {"topk", std::to_string(top_k)},
          {"max", std::to_string(max_cache)},
          {"min", std::to_string(min_cache)},
          {"window", std::to_string(window)},
          {"cache", cache_type == CacheType::f32   ? "f32"
                    : cache_type == CacheType::f16 ? "f16"
                                                   : "int8"}};
}

RWKV_FUNCTION void HybridConfig::validate(const std::string& source) const {
  // Keeps every product below far from overflow.
  constexpr std::size_t limit = std::size_t{1} << (sizeof(std::size_t) < 8 ? 20 : 40);
  if (chunk == 0 || chunk > limit) fail_with(ErrorCategory::argument, source, ": chunk is ", chunk);
  if (top_k == 0 || top_k > largest_top_k)
    fail_with(ErrorCategory::argument, source, ": topk is ", top_k, ", not 1 ... ", largest_top_k);
  if (max_cache == 0) return;
  // In the paper's semantics the queries of the window vote as they come and are not stored: all
  // of them must have come since the cache was last thinned out.
  const bool paper = semantics == HybridSemantics::paper;
  if (max_cache > limit || window == 0 || window >= min_cache ||
      (paper && (min_cache >= max_cache || window > max_cache - min_cache)))
    fail_with(ErrorCategory::argument, source, ": window ", window, ", min ", min_cache, ", max ",
              max_cache,
              paper ? " where 0 < window < min and min + window <= max are needed"
                    : " where 0 < window < min is needed");
}

RWKV_FUNCTION std::string shape_difference(const HybridShape& is, const HybridShape& expected) {
  const auto numbers = [](std::size_t a, std::size_t b, const char* name) {
    return std::to_string(a) + name + " where " + std::to_string(b) + " were expected";
  };
  if (is.dimensions() != expected.dimensions())
    return shape_difference(is.dimensions(), expected.dimensions());
  if (is.sparse_blocks() != expected.sparse_blocks())
    return numbers(is.sparse_blocks(), expected.sparse_blocks(), " sparse blocks");
  if (is.sparse_ffn() != expected.sparse_ffn())
    return numbers(is.sparse_ffn(), expected.sparse_ffn(), " channels of the sparse ffn");
  const auto a = is.config().items(), b = expected.config().items();
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i])
      return a[i].first + ' ' + a[i].second + " where " + b[i].second + " was expected";
  return "no difference";
}

}  // namespace rwkv::inline RWKV_ABI
