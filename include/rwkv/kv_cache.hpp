// SPDX-License-Identifier: Apache-2.0
// The keys and values that a sparse-attention block has not forgotten, for one sequence. They lie
// in pages that are allocated one by one and never moved, so that growing copies nothing; a capped
// cache stops growing. Every head has its own entries in its own part of the pages (after thinning
// out, heads keep different tokens), and heads may be written at the same time.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/hybrid_shape.hpp>
#include <rwkv/kernels/attention.hpp>

#include <cstdint>
#include <span>
#include <utility>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

template <class T>
class CachedHead;

/// Keys and values per head, the running sum of keys per chunk of entries, and, while the paper's
/// observation window is open, the votes for what to keep. A regular value type; one that was moved
/// away is empty.
class KvCache {
 public:
  KvCache(std::size_t heads, const HybridConfig& config) : heads_(heads), config_(config) {}
  KvCache(const KvCache&) = default;
  KvCache(KvCache&& other) noexcept
      : heads_(other.heads_),
        config_(other.config_),
        size_(std::exchange(other.size_, 0)),
        pages_(std::move(other.pages_)),
        sums_(std::move(other.sums_)),
        votes_(std::move(other.votes_)),
        scratch_(std::move(other.scratch_)) {}
  /// Nothing changes if it throws (std::bad_alloc), and it does not if this cache `can_take` the
  /// other one.
  KvCache& operator=(const KvCache& other) {
    if (this == &other) return *this;
    if (!can_take(other)) return *this = KvCache(other);
    copy_pages(other.pages_, pages_);
    copy_pages(other.sums_, sums_);
    votes_ = other.votes_;
    if (votes_.size() == 0) scratch_ = {};
    size_ = other.size_;
    return *this;
  }
  KvCache& operator=(KvCache&& other) noexcept {
    KvCache taken(std::move(other));
    heads_ = taken.heads_;
    config_ = taken.config_;
    size_ = taken.size_;
    pages_.swap(taken.pages_);
    sums_.swap(taken.sums_);
    std::swap(votes_, taken.votes_);
    std::swap(scratch_, taken.scratch_);
    return *this;
  }
  ~KvCache() = default;

  /// True if assigning `other` needs no memory: it is of the same kind and holds no more than this
  /// cache has held.
  [[nodiscard]] bool can_take(const KvCache& other) const noexcept {
    return heads_ == other.heads_ && config_ == other.config_ &&
           pages_.size() >= other.pages_.size() && sums_.size() >= other.sums_.size() &&
           (other.votes_.size() == 0 || votes_.size() == other.votes_.size());
  }

  /// Entries, the same number for every head.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t heads() const noexcept { return heads_; }
  [[nodiscard]] const HybridConfig& config() const noexcept { return config_; }
  /// Bytes allocated.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return pages_.size() * page_bytes() +
           (sums_.size() * sum_floats() + votes_.size() + scratch_.size()) * sizeof(float);
  }

  /// Entries that may be appended on top of `size()` before memory is needed. With the paper's
  /// semantics a capped cache never needs more than the cap. Throws std::bad_alloc; the entries
  /// stay as they were.
  void reserve(std::size_t more) {
    const std::size_t entries = entries_after(more);
    // Page by page, all memory would be gone before it turns out.
    if (bytes_of(entries) > PTRDIFF_MAX) (void)Buffer<std::byte, dynamic>(SIZE_MAX);
    while (pages_.size() < pages_for(entries)) pages_.emplace_back(page_bytes());
    while (sums_.size() < sums_for(entries)) sums_.emplace_back(sum_floats());
    if (needs_votes(entries) && votes_.size() == 0) {
      Buffer<float, dynamic> votes(heads_ * past());
      scratch_ = Buffer<float, dynamic>(heads_ * past());
      votes_ = std::move(votes);
    }
  }

  /// What `bytes` says of an empty cache with room for so many tokens; SIZE_MAX for more than that.
  [[nodiscard]] static std::size_t bytes_for(std::size_t heads, const HybridConfig& config,
                                             std::size_t tokens) {
    const KvCache cache(heads, config);
    return cache.bytes_of(cache.entries_after(tokens));
  }

  /// No entries. Memory is kept.
  void clear() noexcept { size_ = 0; }

  /// Calls f(CachedHead<T>) for the storage type T. Changes to the head count once `commit` has
  /// been called for the cache.
  template <class F>
  void visit_head(std::size_t head, F&& f);
  template <class F>
  void visit_head(std::size_t head, F&& f) const {
    const_cast<KvCache*>(this)->visit_head(head, [&](const auto& view) { f(view); });
  }

  /// What the size will be after so many more tokens.
  [[nodiscard]] std::size_t size_after(std::size_t more) const noexcept {
    if (!thins_itself() || size_ + more <= config_.max_cache) return size_ + more;
    const std::size_t past_the_cap = size_ + more - config_.max_cache;
    const std::size_t period = config_.max_cache - config_.min_cache;
    return config_.min_cache + (past_the_cap - 1) % period + 1;
  }

  /// After every head has been changed alike.
  void commit(std::size_t size) noexcept { size_ = size; }

  /// Entries older than the observation window when the cache is full.
  [[nodiscard]] std::size_t past() const noexcept { return config_.max_cache - config_.window; }
  /// True if the cache thins itself out, entry by entry, in the paper's way.
  [[nodiscard]] bool thins_itself() const noexcept {
    return config_.max_cache > 0 && config_.semantics == HybridSemantics::paper;
  }
  /// True while votes are being cast: they are then part of the value.
  [[nodiscard]] bool observing() const noexcept { return thins_itself() && size_ > past(); }
  /// [heads][past()]. Precondition: observing().
  [[nodiscard]] std::span<float> votes() noexcept { return {votes_.data(), votes_.size()}; }
  [[nodiscard]] std::span<const float> votes() const noexcept {
    return {votes_.data(), votes_.size()};
  }

  /// The same entries, bit by bit, and the same votes.
  friend bool operator==(const KvCache& a, const KvCache& b) noexcept;

 private:
  template <class T>
  friend class CachedHead;

  // Pages of the same size: nothing is allocated.
  template <class Pages>
  static void copy_pages(const Pages& from, Pages& to) noexcept {
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i];
    to.erase(to.begin() + static_cast<std::ptrdiff_t>(from.size()), to.end());
  }

  [[nodiscard]] std::size_t entries_after(std::size_t more) const noexcept {
    const std::size_t most = thins_itself() ? config_.max_cache : SIZE_MAX;
    return size_ < most && more < most - size_ ? size_ + more : most;
  }
  [[nodiscard]] static std::size_t pages_for(std::size_t entries) noexcept {
    return entries / kernels::page_entries + (entries % kernels::page_entries != 0);
  }
  [[nodiscard]] std::size_t sums_for(std::size_t entries) const noexcept {
    return pages_for(entries / config_.chunk + (entries % config_.chunk != 0));
  }
  [[nodiscard]] bool needs_votes(std::size_t entries) const noexcept {
    return thins_itself() && entries > past();
  }
  [[nodiscard]] std::size_t bytes_of(std::size_t entries) const noexcept {
    const std::size_t floats = sum_or_most(product_or_most(sums_for(entries), sum_floats()),
                                           needs_votes(entries) ? 2 * heads_ * past() : 0);
    return sum_or_most(product_or_most(pages_for(entries), page_bytes()),
                       product_or_most(floats, sizeof(float)));
  }

  [[nodiscard]] bool scaled() const noexcept { return config_.cache_type == CacheType::int8; }
  [[nodiscard]] std::size_t element_bytes() const noexcept {
    return config_.cache_type == CacheType::f32 ? 4 : config_.cache_type == CacheType::f16 ? 2 : 1;
  }
  [[nodiscard]] std::size_t page_bytes() const noexcept {  // per head: keys, values, their scales
    const std::size_t numbers = kernels::page_entries * kernels::attention_width;
    return heads_ * 2 *
           (numbers * element_bytes() + (scaled() ? kernels::page_entries * sizeof(float) : 0));
  }
  [[nodiscard]] std::size_t sum_floats() const noexcept {
    return heads_ * kernels::page_entries * kernels::attention_width;
  }

  std::size_t heads_;
  HybridConfig config_;
  std::size_t size_ = 0;
  std::vector<Buffer<std::byte, dynamic>> pages_;
  std::vector<Buffer<float, dynamic>> sums_;  // of the keys of a chunk; laid out as keys of a page
  Buffer<float, dynamic> votes_;
  Buffer<float, dynamic> scratch_;  // for one softmax per head; not part of the value
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#include <rwkv/cached_head.hpp>
