// SPDX-License-Identifier: Apache-2.0
// The model's dimensions. Each is a compile-time constant or `rwkv::dynamic`; code that asks a
// shape for a number cannot tell the difference, and a fully static shape occupies no memory.
//
//   using Tiny = rwkv::Shape<2, 32, 16, 128, 12, 8, 6, 3, 10>;     // for firmware
//   rwkv::DynamicShape any({.layers = 12, .embed = 768});           // for any checkpoint
#pragma once

#include <rwkv/core/config.hpp>

namespace rwkv::inline RWKV_ABI {

/// The numbers of a shape, in the order of `Shape`'s template parameters.
struct Dimensions {
  std::size_t layers = 0;      ///< L, number of blocks
  std::size_t embed = 0;       ///< C, channels; a multiple of head_size
  std::size_t head_size = 64;  ///< N, channels per head
  std::size_t ffn = 0;         ///< F, width of the channel mix
  std::size_t vocab = 0;       ///< V, number of tokens
  std::size_t decay_rank = 0;  ///< Dw, low rank of the decay w
  std::size_t icl_rank = 0;    ///< Da, low rank of the in-context learning rate a
  std::size_t value_rank = 0;  ///< Dv, low rank of the value residual; 0 if only block 0 exists
  std::size_t gate_rank = 0;   ///< Dg, low rank of the gate g
  std::size_t deep_rank = 0;   ///< R, side of the matrix that DeepEmbed has per token; 0: none
  friend constexpr bool operator==(const Dimensions&, const Dimensions&) = default;
};

namespace internal {
/// One dimension: a constant, or a number when `N` is `dynamic`. `Tag` keeps the empty ones
/// distinct types, so that [[no_unique_address]] can fold them all away.
template <std::size_t N, int Tag>
struct Extent {
  constexpr Extent() = default;
  constexpr explicit Extent(std::size_t n) { RWKV_ASSERT(n == N), (void)n; }
  constexpr operator std::size_t() const noexcept { return N; }
};
template <int Tag>
struct Extent<dynamic, Tag> {
  std::size_t value = 0;
  constexpr Extent() = default;
  constexpr explicit Extent(std::size_t n) : value(n) {}
  constexpr operator std::size_t() const noexcept { return value; }
};
}  // namespace internal

/// The dimensions of a model, each static or `dynamic`. Regular, trivially copyable, freestanding.
template <std::size_t Layers, std::size_t Embed, std::size_t HeadSize, std::size_t Ffn,
          std::size_t Vocab, std::size_t DecayRank, std::size_t IclRank, std::size_t ValueRank,
          std::size_t GateRank, std::size_t DeepRank = 0>
class Shape {
  static_assert(Embed == dynamic || HeadSize == dynamic || (HeadSize > 0 && Embed % HeadSize == 0),
                "embed must be a multiple of head_size");

 public:
  /// True if every dimension is a constant.
  static constexpr bool is_static = Layers != dynamic && Embed != dynamic && HeadSize != dynamic &&
                                    Ffn != dynamic && Vocab != dynamic && DecayRank != dynamic &&
                                    IclRank != dynamic && ValueRank != dynamic &&
                                    GateRank != dynamic && DeepRank != dynamic;

  constexpr Shape() = default;
  /// Static dimensions must equal the given numbers (asserted; loaders check before they get here).
  constexpr explicit Shape(const Dimensions& d)
      : layers_(d.layers),
        embed_(d.embed),
        head_size_(d.head_size),
        ffn_(d.ffn),
        vocab_(d.vocab),
        decay_rank_(d.decay_rank),
        icl_rank_(d.icl_rank),
        value_rank_(d.value_rank),
        gate_rank_(d.gate_rank),
        deep_rank_(d.deep_rank) {}

  [[nodiscard]] constexpr std::size_t layers() const noexcept { return layers_; }
  [[nodiscard]] constexpr std::size_t embed() const noexcept { return embed_; }
  [[nodiscard]] constexpr std::size_t head_size() const noexcept { return head_size_; }
  [[nodiscard]] constexpr std::size_t heads() const noexcept { return embed() / head_size(); }
  [[nodiscard]] constexpr std::size_t ffn() const noexcept { return ffn_; }
  [[nodiscard]] constexpr std::size_t vocab() const noexcept { return vocab_; }
  [[nodiscard]] constexpr std::size_t decay_rank() const noexcept { return decay_rank_; }
  [[nodiscard]] constexpr std::size_t icl_rank() const noexcept { return icl_rank_; }
  [[nodiscard]] constexpr std::size_t value_rank() const noexcept { return value_rank_; }
  [[nodiscard]] constexpr std::size_t gate_rank() const noexcept { return gate_rank_; }
  [[nodiscard]] constexpr std::size_t deep_rank() const noexcept { return deep_rank_; }

  [[nodiscard]] constexpr Dimensions dimensions() const noexcept {
    return {layers(),     embed(),    head_size(),  ffn(),       vocab(),
            decay_rank(), icl_rank(), value_rank(), gate_rank(), deep_rank()};
  }

  /// True if this shape type can represent `d`.
  static constexpr bool accepts(const Dimensions& d) noexcept {
    const auto fits = [](std::size_t fixed, std::size_t n) {
      return fixed == dynamic || fixed == n;
    };
    return fits(Layers, d.layers) && fits(Embed, d.embed) && fits(HeadSize, d.head_size) &&
           fits(Ffn, d.ffn) && fits(Vocab, d.vocab) && fits(DecayRank, d.decay_rank) &&
           fits(IclRank, d.icl_rank) && fits(ValueRank, d.value_rank) &&
           fits(GateRank, d.gate_rank) && fits(DeepRank, d.deep_rank);
  }

  friend constexpr bool operator==(const Shape& a, const Shape& b) noexcept {
    return a.dimensions() == b.dimensions();
  }

 private:
  [[no_unique_address]] internal::Extent<Layers, 0> layers_;
  [[no_unique_address]] internal::Extent<Embed, 1> embed_;
  [[no_unique_address]] internal::Extent<HeadSize, 2> head_size_;
  [[no_unique_address]] internal::Extent<Ffn, 3> ffn_;
  [[no_unique_address]] internal::Extent<Vocab, 4> vocab_;
  [[no_unique_address]] internal::Extent<DecayRank, 5> decay_rank_;
  [[no_unique_address]] internal::Extent<IclRank, 6> icl_rank_;
  [[no_unique_address]] internal::Extent<ValueRank, 7> value_rank_;
  [[no_unique_address]] internal::Extent<GateRank, 8> gate_rank_;
  [[no_unique_address]] internal::Extent<DeepRank, 9> deep_rank_;
};

/// A shape known only at run time: fits every checkpoint.
using DynamicShape =
    Shape<dynamic, dynamic, dynamic, dynamic, dynamic, dynamic, dynamic, dynamic, dynamic, dynamic>;

}  // namespace rwkv::inline RWKV_ABI
