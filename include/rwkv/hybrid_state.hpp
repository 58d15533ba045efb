// SPDX-License-Identifier: Apache-2.0
// All that one sequence of a hybrid model remembers: the RWKV-7 state, whose size is constant, and
// per sparse block a cache of keys and values and one token-shift row. With a capped cache its size
// is bounded too.
#pragma once

#include <rwkv/kv_cache.hpp>
#include <rwkv/state.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// A regular value type: a copy is a fork, assigning it back a rewind, which needs no memory.
/// Assignment does what it says or, if memory is missing, nothing.
class HybridState {
 public:
  /// The state before the first token.
  explicit HybridState(const HybridShape& shape)
      : shape_(shape),
        rwkv_(shape),
        caches_(shape.sparse_blocks(), KvCache(shape.attention_heads(), shape.config())),
        shifts_(shape.sparse_blocks() * shape.embed()) {}
  HybridState(const HybridState&) = default;
  HybridState(HybridState&&) noexcept = default;
  HybridState& operator=(const HybridState& other) {
    if (this == &other) return *this;
    if (!can_take(other)) return *this = HybridState(other);
    shape_ = other.shape_;
    rwkv_ = other.rwkv_;
    for (std::size_t j = 0; j < caches_.size(); ++j) caches_[j] = other.caches_[j];
    shifts_ = other.shifts_;
    return *this;
  }
  HybridState& operator=(HybridState&&) noexcept = default;
  ~HybridState() = default;

  [[nodiscard]] const HybridShape& shape() const noexcept { return shape_; }
  /// False for a state that was moved away.
  [[nodiscard]] bool intact() const noexcept {
    return rwkv_.intact() && caches_.size() == shape_.sparse_blocks();
  }

  /// The part of the RWKV-7 blocks.
  [[nodiscard]] State<>& rwkv() noexcept { return rwkv_; }
  [[nodiscard]] const State<>& rwkv() const noexcept { return rwkv_; }
  /// The keys and values of sparse block j.
  [[nodiscard]] KvCache& cache(std::size_t j) noexcept { return caches_[j]; }
  [[nodiscard]] const KvCache& cache(std::size_t j) const noexcept { return caches_[j]; }
  /// [C] the previous token's input of sparse block j's channel mix.
  [[nodiscard]] std::span<float> sparse_ffn_x_prev(std::size_t j) noexcept {
    RWKV_ASSERT(j < shape_.sparse_blocks());
    return {shifts_.data() + j * shape_.embed(), shape_.embed()};
  }
  [[nodiscard]] std::span<const float> sparse_ffn_x_prev(std::size_t j) const noexcept {
    RWKV_ASSERT(j < shape_.sparse_blocks());
    return {shifts_.data() + j * shape_.embed(), shape_.embed()};
  }

  // -- as the stages of the forward pass see it: sparse block j is layer `layers + j`
  [[nodiscard]] std::span<float> att_x_prev(std::size_t layer) noexcept {
    return rwkv_.att_x_prev(layer);
  }
  [[nodiscard]] std::span<float> wkv(std::size_t layer) noexcept { return rwkv_.wkv(layer); }
  [[nodiscard]] std::span<float> ffn_x_prev(std::size_t layer) noexcept {
    return layer < shape_.layers() ? rwkv_.ffn_x_prev(layer)
                                   : sparse_ffn_x_prev(layer - shape_.layers());
  }

  /// Memory for so many more tokens, so that feeding them allocates nothing. Throws std::bad_alloc.
  void reserve(std::size_t tokens) {
    for (KvCache& cache : caches_) cache.reserve(tokens);
  }

  /// Back to the beginning of a text; keeps the memory.
  void reset() noexcept {
    rwkv_.reset();
    for (KvCache& cache : caches_) cache.clear();
    std::fill_n(shifts_.data(), shifts_.size(), 0.0f);
  }

  /// Bytes held; constant once the caches are full.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t total = rwkv_.bytes() + shifts_.size() * sizeof(float);
    for (const KvCache& cache : caches_) total += cache.bytes();
    return total;
  }

  /// What `bytes` says of an empty state for which so many tokens were reserved; SIZE_MAX for more
  /// than that.
  [[nodiscard]] static std::size_t bytes_for(const HybridShape& shape, std::size_t tokens) {
    const std::size_t cache = KvCache::bytes_for(shape.attention_heads(), shape.config(), tokens);
    return sum_or_most(
        State<>::bytes_for(shape),
        product_or_most(shape.sparse_blocks(), sum_or_most(shape.embed() * sizeof(float), cache)));
  }

  /// Same shape and the same bits.
  friend bool operator==(const HybridState& a, const HybridState& b) noexcept {
    return a.shape_ == b.shape_ && a.rwkv_ == b.rwkv_ && a.caches_ == b.caches_ &&
           a.shifts_.size() == b.shifts_.size() &&
           (a.shifts_.size() == 0 ||
            std::memcmp(a.shifts_.data(), b.shifts_.data(), a.shifts_.size() * sizeof(float)) == 0);
  }

 private:
  // Whether assigning `other` needs no memory.
  [[nodiscard]] bool can_take(const HybridState& other) const noexcept {
    bool can = rwkv_.bytes() == other.rwkv_.bytes() && caches_.size() == other.caches_.size() &&
               shifts_.size() == other.shifts_.size();
    for (std::size_t j = 0; can && j < caches_.size(); ++j)
      can = caches_[j].can_take(other.caches_[j]);
    return can;
  }

  HybridShape shape_;
  State<> rwkv_;
  std::vector<KvCache> caches_;
  Buffer<float, dynamic> shifts_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
