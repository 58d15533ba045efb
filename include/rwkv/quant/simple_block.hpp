// SPDX-License-Identifier: Apache-2.0
// Blocks of 32 elements that share one scale, or one scale and one offset. Freestanding.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

/// x = d * (code - zero), where zero is in the middle of the codes. d is in bytes 0-1.
template <DType Type, class Codes>
struct ScaledBlock {
  static constexpr DType type = Type;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);
  static constexpr int zero = 1 << (Codes::bits - 1);

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    for (std::size_t i = 0; i < elements; i += 16)
      Codes::template each<16>(block, i, [=, to = out + i](std::size_t k, unsigned code) {
        to[k] = d * static_cast<float>(static_cast<int>(code) - zero);
      });
  }

  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block)};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    return Codes::load_tile(block, t);
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<-zero, zero - 1>;
    const Samples<elements> samples(in, importance);
    const Part s = part(samples, 0, elements);
    const half d = best_half<Levels>(
        s, best_scale<Levels>(s, {.step = 0.25f, .beyond = 2, .batches = 2}).scale);
    const float by = inverse(to_float(d));
    std::fill_n(block, bytes, std::byte{});
    store_half(d, block);
    for (std::size_t i = 0; i < elements; ++i)
      Codes::put(static_cast<unsigned>(Levels::nearest(s.x[i] * by) + zero), block, i);
  }
};

/// x = d * code + m. d is in bytes 0-1, m in bytes 2-3.
template <DType Type, class Codes>
struct LinearBlock {
  static constexpr DType type = Type;
  static constexpr std::size_t elements = block_elements(type);
  static constexpr std::size_t bytes = block_bytes(type);
  static constexpr int zero = 0;

  static constexpr void decode(const std::byte* block, float* out) noexcept {
    const float d = to_float(load_half(block));
    const float m = to_float(load_half(block + 2));
    for (std::size_t i = 0; i < elements; i += 16)
      Codes::template each<16>(block, i, [=, to = out + i](std::size_t k, unsigned code) {
        to[k] = d * static_cast<float>(code) + m;
      });
  }

  static RWKV_INLINE Scales load_scales(const std::byte* block) noexcept {
    return {.d = load_half(block), .dmin = negated(load_half(block + 2))};
  }
  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    return Codes::load_tile(block, t);
  }

  static void encode(const float* in, const float* importance, std::byte* block) noexcept {
    using Levels = Integers<0, (1 << Codes::bits) - 1>;
    const Samples<elements> samples(in, importance);
    const Part s = part(samples, 0, elements);
    const HalfLine line =
        best_halves<Levels>(s, best_line<Levels>(s, usual_line_grid<Codes::bits>));
    const float by = inverse(to_float(line.scale));
    std::fill_n(block, bytes, std::byte{});
    store_half(line.scale, block);
    store_half(line.offset, block + 2);
    for (std::size_t i = 0; i < elements; ++i)
      Codes::put(static_cast<unsigned>(Levels::nearest((s.x[i] - to_float(line.offset)) * by)),
                 block, i);
  }
};

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
