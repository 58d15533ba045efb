// SPDX-License-Identifier: Apache-2.0
// What a head does with its part of a cache of keys and values: entries are appended, read, attended
// to, voted for and thinned out.
#pragma once

#include <rwkv/kernels/attention_kernels.hpp>
#include <rwkv/kv_cache.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

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
  void attend(Range entries, const float* q, kernels::RunningSoftmax& softmax) const noexcept {
    RWKV_ASSERT(entries.end <= size_);
    for_pages(entries, [&](std::size_t page, Range within) {
      kernels::attend(page_of(page * kernels::page_entries), within, q, softmax);
    });
  }

  /// f(m, q . sum of the keys of chunk m) for complete chunks m < count, in order.
  template <class F>
  void score_chunks(std::size_t count, const float* q, F&& f) const noexcept {
    for_pages({0, count}, [&](std::size_t page, Range within) {
      alignas(alignment) float scores[kernels::page_entries];
      kernels::key_scores(sum_page(page * kernels::page_entries), within, q, scores);
      for (std::size_t m = within.begin; m < within.end; ++m)
        f(page * kernels::page_entries + m, scores[m]);
    });
  }

  /// scores[e] = q . key e for entries e < count.
  void score_entries(std::size_t count, const float* q, float* scores) const noexcept {
    for_pages({0, count}, [&](std::size_t page, Range within) {
      alignas(alignment) float block[kernels::page_entries];
      kernels::key_scores(page_of(page * kernels::page_entries), within, q, block);
      std::memcpy(scores + page * kernels::page_entries, block, within.end * sizeof(float));
    });
  }

  /// One query's vote: the softmax of its scores over the `past` oldest entries is added to
  /// `votes`. `scratch` has room for `past` numbers.
  template <class L>
  void vote(std::size_t past, const float* q, float* scratch, float* votes) const noexcept {
    score_entries(past, q, scratch);
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
