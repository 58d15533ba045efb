// SPDX-License-Identifier: Apache-2.0
// What an RWKV-X model has beyond RWKV-7: how many sparse-attention blocks, and how these choose
// what to read and what to forget. The two semantics are described in hybrid.hpp.
#pragma once

#include <rwkv/core/error.hpp>
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
  void set(std::string_view key, std::string_view value, const std::string& source);

  /// All fields as (key, value), as `set` takes them.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> items() const;

  /// Throws Error (argument) if the numbers contradict each other.
  void validate(const std::string& source) const;

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
[[nodiscard]] RWKV_FUNCTION std::string shape_difference(const HybridShape& is,
                                                         const HybridShape& expected);

}  // namespace rwkv::inline RWKV_ABI

#if RWKV_HEADER_ONLY
#include <rwkv/hybrid_shape.ipp>
#endif
