// SPDX-License-Identifier: Apache-2.0
// What an RWKV-X model has beyond RWKV-7: how many sparse-attention blocks, and how these choose
// what to read and what to forget. The two semantics are described in hybrid.hpp.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/core/parse.hpp>
#include <rwkv/shape_difference.hpp>

#include <string_view>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI {

/// Which function a hybrid model computes; see hybrid.hpp.
enum class HybridSemantics : std::uint8_t { paper, package };

/// Whether tokens read chosen chunks of the cache or all of it.
enum class AttentionMode : std::uint8_t { sparse, full };

/// How keys and values are held; int8 with one scale per entry and head.
enum class CacheType : std::uint8_t { f32, f16, int8 };

/// The hyper-parameters of sparse attention. Published files do not carry them; ours do, as
/// metadata `rwkv.hybrid.<key>`. A value type.
struct HybridConfig {
  HybridSemantics semantics = HybridSemantics::paper;
  AttentionMode mode = AttentionMode::sparse;  ///< key attn_mode
  std::size_t chunk = 2048;                    ///< entries that are chosen or left out together
  std::size_t top_k = 3;                       ///< key topk: chunks that a token reads
  std::size_t max_cache = 20000;  ///< key max: entries before the cache is thinned out; 0 = never
  std::size_t min_cache = 16000;  ///< key min: entries that thinning leaves
  std::size_t window = 2000;      ///< the latest entries, always kept; L_obs in the paper
  CacheType cache_type = CacheType::f32;  ///< key cache

  static constexpr std::size_t largest_top_k = 64;

  /// Sets the field called `key` from text; `source` names the text's origin. Throws Error
  /// (argument) for an unknown key or value.
  void set(std::string_view key, std::string_view value, const std::string& source) {
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

  /// All fields as (key, value), as `set` takes them.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> items() const {
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

  /// Throws Error (argument) if the numbers contradict each other.
  void validate(const std::string& source) const {
    // Keeps every product below far from overflow.
    constexpr std::size_t limit = std::size_t{1} << (sizeof(std::size_t) < 8 ? 20 : 40);
    if (chunk == 0 || chunk > limit)
      fail_with(ErrorCategory::argument, source, ": chunk is ", chunk);
    if (top_k == 0 || top_k > largest_top_k)
      fail_with(ErrorCategory::argument, source, ": topk is ", top_k, ", not 1 ... ",
                largest_top_k);
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

  friend bool operator==(const HybridConfig&, const HybridConfig&) = default;
};

/// The dimensions of a hybrid model: those of its RWKV-7 blocks, and its sparse-attention blocks.
class HybridShape : public DynamicShape {
 public:
  /// Throws Error (argument) if the configuration is not usable, (unsupported) if the channels
  /// cannot be divided into attention heads of 64.
  HybridShape(const Dimensions& rwkv, std::size_t sparse_blocks, std::size_t sparse_ffn,
              const HybridConfig& config, const std::string& source = "hybrid model")
      : DynamicShape(rwkv),
        sparse_blocks_(sparse_blocks),
        sparse_ffn_(sparse_ffn),
        config_(config) {
    config.validate(source);
    if (sparse_blocks > 0 && rwkv.embed % 64 != 0)
      fail_with(ErrorCategory::unsupported, source, ": ", rwkv.embed,
                " channels cannot be divided into attention heads of 64");
  }

  [[nodiscard]] std::size_t sparse_blocks() const noexcept { return sparse_blocks_; }
  /// Width of the sparse blocks' channel mix.
  [[nodiscard]] std::size_t sparse_ffn() const noexcept { return sparse_ffn_; }
  [[nodiscard]] std::size_t attention_heads() const noexcept { return embed() / 64; }
  [[nodiscard]] const HybridConfig& config() const noexcept { return config_; }

  /// RWKV-7 blocks that run before each sparse block. Where the blocks do not divide evenly, those
  /// left over do not run at all; so it is in the published models.
  [[nodiscard]] std::size_t interval() const noexcept {
    return sparse_blocks_ == 0 ? layers() : layers() / sparse_blocks_;
  }

  friend bool operator==(const HybridShape& a, const HybridShape& b) noexcept {
    return a.dimensions() == b.dimensions() && a.sparse_blocks_ == b.sparse_blocks_ &&
           a.sparse_ffn_ == b.sparse_ffn_ && a.config_ == b.config_;
  }

 private:
  std::size_t sparse_blocks_;
  std::size_t sparse_ffn_;
  HybridConfig config_;
};

/// As of other shapes; also "max 25 where 24 was expected".
[[nodiscard]] inline std::string shape_difference(const HybridShape& is,
                                                  const HybridShape& expected) {
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
