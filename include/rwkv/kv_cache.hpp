// SPDX-License-Identifier: Apache-2.0
// The keys and values that a sparse-attention block has not forgotten, for one sequence. They lie
// in pages that are allocated one by one and never moved, so that growing copies nothing; a capped
// cache stops growing. Every head has its own entries in its own part of the pages (after thinning
// out, heads keep different tokens), and heads may be written at the same time.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/hybrid_shape.hpp>
#include <rwkv/kernels/attention.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
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
    while (pages_.size() < pages_for(entries)) pages_.emplace_back(page_bytes());
    while (sums_.size() < sums_for(entries)) sums_.emplace_back(sum_floats());
    if (needs_votes(entries) && votes_.size() == 0) {
      Buffer<float, dynamic> votes(heads_ * past());
      scratch_ = Buffer<float, dynamic>(heads_ * past());
      votes_ = std::move(votes);
    }
  }

  /// What `bytes` says of an empty cache with room for so many tokens.
  [[nodiscard]] static std::size_t bytes_for(std::size_t heads, const HybridConfig& config,
                                             std::size_t tokens) {
    const KvCache cache(heads, config);
    const std::size_t entries = cache.entries_after(tokens);
    return cache.pages_for(entries) * cache.page_bytes() +
           (cache.sums_for(entries) * cache.sum_floats() +
            (cache.needs_votes(entries) ? 2 * heads * cache.past() : 0)) *
               sizeof(float);
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

/// One head of a cache whose storage type is known. A view with a size of its own: see
/// KvCache::commit.
template <class T>
class CachedHead {
 public:
  CachedHead(KvCache& cache, std::size_t head) noexcept
      : cache_(&cache), head_(head), size_(cache.size_) {}

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] const HybridConfig& config() const noexcept { return cache_->config_; }

  /// Adds an entry. Precondition: reserved.
  void append(const float* key, const float* value) noexcept {
    RWKV_ASSERT(size_ < cache_->pages_.size() * kernels::page_entries);
    const auto page = page_of(size_);
    const std::size_t e = size_ % kernels::page_entries;
    encode(key, page.key_scale == nullptr ? nullptr : page.key_scale + e,
           [&](std::size_t c) -> T& { return page.key(e, c); });
    encode(value, page.value_scale == nullptr ? nullptr : page.value_scale + e,
           [&](std::size_t c) -> T& { return page.value(e, c); });
    ++size_;
    add_to_sum(size_ - 1);
  }

  /// An entry's key or value as numbers [attention_width].
  void read_key(std::size_t entry, float* out) const noexcept {
    const auto page = page_of(entry);
    const std::size_t e = entry % kernels::page_entries;
    const float scale = page.key_scale == nullptr ? 1.0f : page.key_scale[e];
    for (std::size_t c = 0; c < kernels::attention_width; ++c)
      out[c] = decode(page.key(e, c), scale);
  }
  void read_value(std::size_t entry, float* out) const noexcept {
    const auto page = page_of(entry);
    const std::size_t e = entry % kernels::page_entries;
    const float scale = page.value_scale == nullptr ? 1.0f : page.value_scale[e];
    for (std::size_t c = 0; c < kernels::attention_width; ++c)
      out[c] = decode(page.value(e, c), scale);
  }

  /// Softmax attention to a range of entries; `q` is scaled.
  template <class L>
  void attend(Range entries, const float* q, kernels::RunningSoftmax& softmax) const noexcept {
    RWKV_ASSERT(entries.end <= size_);
    for_pages(entries, [&](std::size_t page, Range within) {
      kernels::attend<L>(page_of(page * kernels::page_entries), within, q, softmax);
    });
  }

  /// f(m, q . sum of the keys of chunk m) for complete chunks m < count, in order.
  template <class L, class F>
  void score_chunks(std::size_t count, const float* q, F&& f) const noexcept {
    for_pages({0, count}, [&](std::size_t page, Range within) {
      alignas(alignment) float scores[kernels::page_entries];
      kernels::key_scores<L>(sum_page(page * kernels::page_entries), within, q, scores);
      for (std::size_t m = within.begin; m < within.end; ++m)
        f(page * kernels::page_entries + m, scores[m]);
    });
  }

  /// scores[e] = q . key e for entries e < count.
  template <class L>
  void score_entries(std::size_t count, const float* q, float* scores) const noexcept {
    for_pages({0, count}, [&](std::size_t page, Range within) {
      alignas(alignment) float block[kernels::page_entries];
      kernels::key_scores<L>(page_of(page * kernels::page_entries), within, q, block);
      std::memcpy(scores + page * kernels::page_entries, block, within.end * sizeof(float));
    });
  }

  /// One query's vote: the softmax of its scores over the `past` oldest entries is added to
  /// `votes`. `scratch` has room for `past` numbers.
  template <class L>
  void vote(std::size_t past, const float* q, float* scratch, float* votes) const noexcept {
    score_entries<L>(past, q, scratch);
    const float most =
        kernels::largest<L>(scratch, {0, past}, -std::numeric_limits<float>::infinity());
    const float scale = 1.0f / kernels::exp_sum<L>(scratch, {0, past}, most);
    kernels::map<L>({0, past}, [=]<class V>(std::size_t i) {
      fma(V::load(scratch + i), V::broadcast(scale), V::load(votes + i)).store(votes + i);
    });
  }

  /// The paper's observation window: the queries of the last `window` entries before the cache is
  /// full vote on all entries before the window. Call it after `append`.
  template <class L>
  void observe(const float* q) noexcept {
    const std::size_t past = cache_->past();
    if (size_ <= past) return;
    if (size_ == past + 1) std::fill_n(votes(), past, 0.0f);
    vote<L>(past, q, scratch(), votes());
  }

  /// Keeps the window and, in time order, the entries before it that have the most votes (of equals
  /// the oldest), `min_cache` in all. Precondition: the cache is full.
  void thin_out() noexcept {
    const std::size_t past = cache_->past();
    const std::size_t kept = config().min_cache - config().window;
    float* const sorted = scratch();
    const auto ballot =
        [this](std::size_t e) {  // NaN, which a broken model may produce, is no order
          return votes()[e] >= 0.0f ? votes()[e] : -1.0f;
        };
    for (std::size_t e = 0; e < past; ++e) sorted[e] = ballot(e);
    std::nth_element(sorted, sorted + (kept - 1), sorted + past, std::greater<>());
    const float least = sorted[kept - 1];
    std::size_t equals = kept;  // how many with exactly `least` there is room for
    for (std::size_t e = 0; e < past; ++e) equals -= ballot(e) > least ? 1 : 0;
    std::size_t to = 0;
    for (std::size_t e = 0; e < past; ++e) {
      if (ballot(e) < least) continue;
      if (!(ballot(e) > least)) {
        if (equals == 0) continue;
        --equals;
      }
      move_entry(e, to++);
    }
    for (std::size_t e = past; e < size_; ++e) move_entry(e, to++);
    size_ = to;
    for (std::size_t e = 0; e < size_; ++e) add_to_sum(e);
  }

  /// The entries become those at `order`, in that order. Allocates.
  void rearrange(const std::vector<std::size_t>& order) {
    constexpr std::size_t width = kernels::attention_width;
    std::vector<T> numbers(order.size() * 2 * width);
    std::vector<float> scales(order.size() * 2);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const auto page = page_of(order[i]);
      const std::size_t e = order[i] % kernels::page_entries;
      for (std::size_t c = 0; c < width; ++c) {
        numbers[2 * i * width + c] = page.key(e, c);
        numbers[(2 * i + 1) * width + c] = page.value(e, c);
      }
      if (page.key_scale != nullptr) {
        scales[2 * i] = page.key_scale[e];
        scales[2 * i + 1] = page.value_scale[e];
      }
    }
    size_ = order.size();
    for (std::size_t i = 0; i < size_; ++i) {
      const auto page = page_of(i);
      const std::size_t e = i % kernels::page_entries;
      for (std::size_t c = 0; c < width; ++c) {
        page.key(e, c) = numbers[2 * i * width + c];
        page.value(e, c) = numbers[(2 * i + 1) * width + c];
      }
      if (page.key_scale != nullptr) {
        page.key_scale[e] = scales[2 * i];
        page.value_scale[e] = scales[2 * i + 1];
      }
      add_to_sum(i);
    }
  }

 private:
  [[nodiscard]] float* votes() const noexcept {
    return cache_->votes_.data() + head_ * cache_->past();
  }
  [[nodiscard]] float* scratch() const noexcept {
    return cache_->scratch_.data() + head_ * cache_->past();
  }

  [[nodiscard]] kernels::HeadPage<T> page_of(std::size_t entry) const noexcept {
    constexpr std::size_t numbers = kernels::page_entries * kernels::attention_width;
    std::byte* const page = cache_->pages_[entry / kernels::page_entries].data();
    T* const keys = reinterpret_cast<T*>(page) + head_ * 2 * numbers;
    if constexpr (!std::is_same_v<T, std::int8_t>) return {keys, keys + numbers, nullptr, nullptr};
    auto* const scales = reinterpret_cast<float*>(page + cache_->heads_ * 2 * numbers * sizeof(T)) +
                         head_ * 2 * kernels::page_entries;
    return {keys, keys + numbers, scales, scales + kernels::page_entries};
  }
  [[nodiscard]] kernels::HeadPage<float> sum_page(std::size_t chunk) const noexcept {
    return {cache_->sums_[chunk / kernels::page_entries].data() +
                head_ * kernels::page_entries * kernels::attention_width,
            nullptr, nullptr, nullptr};
  }

  /// f(page, entries within it) for the pages that a range touches.
  template <class F>
  static void for_pages(Range entries, F&& f) noexcept {
    for (std::size_t e = entries.begin; e < entries.end;) {
      const std::size_t page = e / kernels::page_entries;
      const std::size_t first = page * kernels::page_entries;
      const std::size_t end = (std::min)(entries.end, first + kernels::page_entries);
      f(page, Range{e - first, end - first});
      e = end;
    }
  }

  /// The scale has few enough digits for 127 of it to be exact: reading and storing again changes
  /// nothing.
  template <class Element>
  static void encode(const float* x, [[maybe_unused]] float* scale_out,
                     Element&& element) noexcept {
    [[maybe_unused]] float scale = 1.0f;
    if constexpr (std::is_same_v<T, std::int8_t>) {
      float most = 0.0f;
      bool usable = true;
      for (std::size_t c = 0; c < kernels::attention_width; ++c) {
        const float size = std::abs(x[c]);
        usable = usable && size < 0x1p120f;  // no NaN either
        most = (std::max)(most, size);
      }
      scale = std::bit_cast<float>((std::bit_cast<std::uint32_t>(most / 127.0f) + 0xffu) & ~0xffu);
      if (most < 0x1p-100f) scale = 0.0f;
      *scale_out = usable ? scale : std::numeric_limits<float>::quiet_NaN();
    }
    for (std::size_t c = 0; c < kernels::attention_width; ++c) {
      if constexpr (std::is_same_v<T, std::int8_t>) {
        const float code = scale == 0.0f ? 0.0f : std::nearbyint(x[c] / scale);
        element(c) = static_cast<std::int8_t>(code > 127.0f     ? 127.0f
                                              : code >= -127.0f ? code
                                                                : -127.0f);
      } else if constexpr (std::is_same_v<T, half>) {
        element(c) = to_half(x[c]);
      } else {
        element(c) = x[c];
      }
    }
  }
  static float decode(T stored, [[maybe_unused]] float scale) noexcept {
    if constexpr (std::is_same_v<T, std::int8_t>)
      return static_cast<float>(stored) * scale;
    else
      return to_float(stored);
  }

  /// Chunk sums add up the keys as they are stored, in order: they follow from the entries.
  void add_to_sum(std::size_t entry) noexcept {
    const std::size_t chunk = entry / config().chunk;
    const bool first = entry % config().chunk == 0;
    const auto sums = sum_page(chunk);
    const auto page = page_of(entry);
    const std::size_t e = entry % kernels::page_entries;
    const float scale = page.key_scale == nullptr ? 1.0f : page.key_scale[e];
    for (std::size_t c = 0; c < kernels::attention_width; ++c) {
      float& sum = sums.key(chunk % kernels::page_entries, c);
      sum = (first ? 0.0f : sum) + decode(page.key(e, c), scale);
    }
  }

  void move_entry(std::size_t from, std::size_t to) noexcept {
    if (from == to) return;
    const auto source = page_of(from);
    const auto target = page_of(to);
    const std::size_t s = from % kernels::page_entries;
    const std::size_t t = to % kernels::page_entries;
    for (std::size_t c = 0; c < kernels::attention_width; ++c) target.key(t, c) = source.key(s, c);
    std::memcpy(&target.value(t, 0), &source.value(s, 0), kernels::attention_width * sizeof(T));
    if (source.key_scale == nullptr) return;
    target.key_scale[t] = source.key_scale[s];
    target.value_scale[t] = source.value_scale[s];
  }

  KvCache* cache_;
  std::size_t head_;
  std::size_t size_;
};

template <class F>
void KvCache::visit_head(std::size_t head, F&& f) {
  switch (config_.cache_type) {
    case CacheType::f32:
      return f(CachedHead<float>(*this, head));
    case CacheType::f16:
      return f(CachedHead<half>(*this, head));
    case CacheType::int8:
      return f(CachedHead<std::int8_t>(*this, head));
  }
}

inline bool operator==(const KvCache& a, const KvCache& b) noexcept {
  if (a.heads_ != b.heads_ || !(a.config_ == b.config_) || a.size_ != b.size_) return false;
  if (a.observing() &&
      std::memcmp(a.votes_.data(), b.votes_.data(), a.votes_.size() * sizeof(float)) != 0)
    return false;
  for (std::size_t head = 0; head < a.heads_; ++head)
    for (std::size_t e = 0; e < a.size_; ++e) {
      // Equal numbers are equal bits: an int8 scale follows from the largest number.
      float rows[4][kernels::attention_width];
      a.visit_head(
          head, [&](const auto& view) { view.read_key(e, rows[0]), view.read_value(e, rows[1]); });
      b.visit_head(
          head, [&](const auto& view) { view.read_key(e, rows[2]), view.read_value(e, rows[3]); });
      if (std::memcmp(rows[0], rows[2], sizeof rows / 2) != 0) return false;
    }
  return true;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
