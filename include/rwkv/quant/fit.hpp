// SPDX-License-Identifier: Apache-2.0
// The search for good scales: numbers x are to be stored as scale * level, or scale * level +
// offset, where levels are a few fixed values, such that the weighted squared error is small. As a
// function of the scale the error has a dip wherever the rounding of all numbers happens to suit,
// so many scales are tried, sixteen at a time: one per lane of an inner loop that compilers turn
// into vector instructions. The results do not depend on the width of those. Freestanding.
#pragma once

#include <rwkv/core/half.hpp>

#include <algorithm>
#include <array>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

/// The largest magnitude that every block format can represent, that of a half.
inline constexpr float largest_value = 65504.0f;

/// What is to be encoded: numbers, and the weight of each one's squared error.
template <std::size_t N>
struct Samples {
  alignas(alignment) float x[N];
  alignas(alignment) float w[N];

  /// `importance` may be null (all equal). Numbers beyond `largest_value` become it.
  Samples(const float* in, const float* importance) noexcept {
    // What every format stores is a multiple of the smallest half, 2^-24, so less than half of that
    // is nearest to 0; and the squares of much smaller numbers would underflow in the sums.
    constexpr float smallest = 0x1p-25f;
    for (std::size_t i = 0; i < N; ++i) {
      float v = in[i];
      v = v > -largest_value ? v : -largest_value;  // also for a NaN
      v = v < largest_value ? v : largest_value;
      x[i] = v < smallest && v > -smallest ? 0.0f : v;
    }
    float most = 0;
    for (std::size_t i = 0; i < N; ++i)
      if (importance != nullptr && importance[i] > most) most = importance[i];
    // No weight is 0, so that every part of a block has a best scale.
    constexpr float least = 0x1p-20f;
    for (std::size_t i = 0; i < N; ++i) {
      const float ratio = most > 0 ? importance[i] / most : 1.0f;
      w[i] = ratio > least ? ratio : least;
    }
  }
};

/// The part of some samples that shares a scale.
struct Part {
  const float* x;
  const float* w;
  std::size_t n;
};

template <std::size_t N>
Part part(const Samples<N>& samples, std::size_t begin, std::size_t n) noexcept {
  return {samples.x + begin, samples.w + begin, n};
}

/// The integers from Lowest to Highest as levels. A levels type offers its ends, and the level that
/// is nearest to a number.
template <int Lowest, int Highest>
struct Integers {
  static constexpr float lowest = Lowest;
  static constexpr float highest = Highest;

  /// Any v; ties go to even.
  static RWKV_INLINE float nearest(float v) noexcept {
    // Added to 1.5 * 2^23, a small number is rounded to an integer in the lowest bits; and the bits
    // keep the order of numbers, so that clamping them also serves large ones. Branches or a
    // conversion to int would keep compilers from using vector instructions.
    constexpr float shift = 0x1.8p23f;
    constexpr auto zero = std::bit_cast<std::int32_t>(shift);
    auto bits = std::bit_cast<std::int32_t>(v + shift);
    bits = bits > zero + Lowest ? bits : zero + Lowest;
    bits = bits < zero + Highest ? bits : zero + Highest;
    return std::bit_cast<float>(bits) - shift;
  }
};

inline constexpr std::size_t lanes = 16;
using Lanes = std::array<float, lanes>;

/// The lane with the smallest number.
inline std::size_t smallest_lane(const Lanes& v) noexcept {
  std::size_t best = 0;
  for (std::size_t k = 1; k < lanes; ++k)
    if (v[k] < v[best]) best = k;
  return best;
}

inline float inverse(float scale) noexcept { return scale != 0 ? 1 / scale : 0; }

/// The weighted squared error of each scale and offset.
template <class Levels>
Lanes errors(Part s, const Lanes& scale, const Lanes& offset) noexcept {
  Lanes inverses;
  for (std::size_t k = 0; k < lanes; ++k) inverses[k] = inverse(scale[k]);
  Lanes sum{};
  for (std::size_t i = 0; i < s.n; ++i)
    for (std::size_t k = 0; k < lanes; ++k) {
      const float from_offset = s.x[i] - offset[k];
      const float error = from_offset - scale[k] * Levels::nearest(from_offset * inverses[k]);
      sum[k] += s.w[i] * (error * error);
    }
  return sum;
}

/// Weighted sums over a part, with the levels that one choice of scale and offset leads to.
struct Moments {
  float w = 0;       ///< of 1
  float x = 0;       ///< of x
  float level = 0;   ///< of the levels
  float level2 = 0;  ///< of their squares
  float level_x = 0;
};

template <class Levels>
Moments moments(Part s, float scale, float offset) noexcept {
  Moments m;
  const float by = inverse(scale);
  for (std::size_t i = 0; i < s.n; ++i) {
    const float level = Levels::nearest((s.x[i] - offset) * by);
    m.w += s.w[i];
    m.x += s.w[i] * s.x[i];
    m.level += s.w[i] * level;
    m.level2 += s.w[i] * level * level;
    m.level_x += s.w[i] * level * s.x[i];
  }
  return m;
}

struct Extremes {
  float low = 0;
  float high = 0;
  friend bool operator==(Extremes, Extremes) = default;
  /// The one that is farther from 0.
  [[nodiscard]] float peak() const noexcept { return high > -low ? high : low; }
};

/// The extremes of x: first of all, then of the numbers with at least average weight. An outlier of
/// little weight must not dictate the scale.
inline std::array<Extremes, 2> extremes(Part s) noexcept {
  float total = 0;
  for (std::size_t i = 0; i < s.n; ++i) total += s.w[i];
  const float average = 0.999f * total / static_cast<float>(s.n);  // of equal weights, all count
  std::array<Extremes, 2> found;
  for (std::size_t pass = 0; pass < 2; ++pass) {
    bool first = true;
    for (std::size_t i = 0; i < s.n; ++i) {
      if (pass == 1 && s.w[i] < average) continue;
      Extremes& e = found[pass];
      e.low = first || s.x[i] < e.low ? s.x[i] : e.low;
      e.high = first || s.x[i] > e.high ? s.x[i] : e.high;
      first = false;
    }
  }
  return found;
}

/// Where `best_scale` looks: the largest number is put at `batches` * lanes places, `step` levels
/// apart, from `beyond` steps beyond an end of the levels inwards. Integers are among the places,
/// so that numbers which are already multiples of a scale find it.
struct ScaleGrid {
  float step;
  int beyond;
  std::size_t batches;
};

/// A scale, and the weighted squares of the levels it leads to: what a change of the scale costs.
struct ScaleFit {
  float scale = 0;
  float level2 = 0;
};

/// The scale of the least error among those that `grid` leads to, each adjusted to the levels it
/// leads to. Of any sign where levels have both signs, else at least 0.
template <class Levels>
ScaleFit best_scale(Part s, ScaleGrid grid) noexcept {
  ScaleFit best;
  float best_gain = 0;  // by how much the error is smaller than with scale 0
  const auto try_end = [&](float peak, float end) {
    const float direction = end < 0 ? -1.0f : 1.0f;
    for (std::size_t batch = 0; batch < grid.batches; ++batch) {
      Lanes inverses;
      for (std::size_t k = 0; k < lanes; ++k) {
        const float inwards =
            grid.step * (static_cast<float>(batch * lanes + k) - static_cast<float>(grid.beyond));
        inverses[k] = (end - direction * inwards) / peak;
      }
      Lanes level_x{};
      Lanes level2{};
      for (std::size_t i = 0; i < s.n; ++i)
        for (std::size_t k = 0; k < lanes; ++k) {
          const float level = Levels::nearest(s.x[i] * inverses[k]);
          const float weighted = s.w[i] * level;
          level_x[k] += weighted * s.x[i];
          level2[k] += weighted * level;
        }
      for (std::size_t k = 0; k < lanes; ++k)
        if (level2[k] > 0 && level_x[k] * level_x[k] > best_gain * level2[k]) {
          const float scale = level_x[k] / level2[k];
          if (Levels::lowest == 0 && scale < 0) continue;
          best = {scale, level2[k]};
          best_gain = level_x[k] * scale;
        }
    }
  };
  const auto ends = extremes(s);
  for (std::size_t pass = 0; pass < 2; ++pass) {
    if (pass == 1 && ends[1] == ends[0]) break;
    const float peak = Levels::lowest == 0 ? ends[pass].high : ends[pass].peak();
    if (peak == 0 || (Levels::lowest == 0 && peak < 0)) continue;
    try_end(peak, Levels::highest);
    if (Levels::lowest < 0 && Levels::lowest != -Levels::highest) try_end(peak, Levels::lowest);
  }
  return best;
}

/// Half-precision neighbours: the finite half `steps` representable magnitudes away from `h`.
inline half neighbour(half h, int steps) noexcept {
  constexpr int largest = 0x7bff;
  int magnitude = (h.bits & 0x7fff) + steps;
  magnitude = magnitude < 0 ? 0 : magnitude;
  magnitude = magnitude < largest ? magnitude : largest;
  return {static_cast<std::uint16_t>((h.bits & 0x8000) | magnitude)};
}

/// `scale` as a finite half that is not 0 unless `scale` is.
inline half to_scale(float scale) noexcept {
  const half h = to_half(scale);
  const bool vanished = (h.bits & 0x7fff) == 0 && scale != 0;
  return neighbour(h, vanished ? 1 : 0);
}

/// The half near `scale` with the least error.
template <class Levels>
half best_half(Part s, float scale) noexcept {
  const auto candidate = [middle = to_scale(scale)](std::size_t lane) {
    return neighbour(middle, static_cast<int>(lane) - static_cast<int>(lanes / 2));
  };
  Lanes scales;
  for (std::size_t k = 0; k < lanes; ++k) scales[k] = to_float(candidate(k));
  return candidate(smallest_lane(errors<Levels>(s, scales, Lanes{})));
}

struct Line {
  float scale = 0;
  float offset = 0;
};

/// Where `best_line` looks: the smallest and the largest number are each put at 8 places, `step`
/// levels apart, from `inside` steps inside the ends of the levels outwards. All 64 combinations
/// are tried, or every second.
struct LineGrid {
  float step;
  int inside;
  bool all = false;
};

/// Where it looks for codes of 4 and 5 bits.
template <unsigned Bits>
inline constexpr LineGrid usual_line_grid =
    Bits == 4 ? LineGrid{.step = 0.25f, .inside = 4}
              : LineGrid{.step = 1.0f / 3, .inside = 3, .all = true};

/// The scale and offset of least error for levels from 0 to Levels::highest among those that `grid`
/// leads to, each adjusted to the levels it leads to.
template <class Levels>
Line best_line(Part s, LineGrid grid) noexcept {
  constexpr std::size_t places = 8;
  const std::size_t stride = grid.all ? 1 : 2;
  const auto inside = static_cast<float>(grid.inside);
  const std::size_t combinations = places * places / stride;
  static_assert(Levels::lowest == 0);
  const Moments plain = moments<Levels>(s, 0, 0);
  const float mean = plain.x / plain.w;
  Line best{0, mean};
  float best_gain = 0;  // by how much the error is smaller than that of the mean
  const auto ends = extremes(s);
  for (std::size_t pass = 0; pass < 2; ++pass) {
    if (ends[pass].low == ends[pass].high || (pass == 1 && ends[1] == ends[0])) break;
    for (std::size_t batch = 0; batch < combinations; batch += lanes) {
      Lanes inverses;
      Lanes start;
      for (std::size_t k = 0; k < lanes; ++k) {
        const std::size_t up = (batch + k) * stride / places;
        const std::size_t down = (batch + k) * stride % places + up % stride;
        const float low = grid.step * (inside - static_cast<float>(down));
        const float high = Levels::highest - grid.step * (inside - static_cast<float>(up));
        inverses[k] = (high - low) / (ends[pass].high - ends[pass].low);
        start[k] = low;
      }
      Lanes level1{};
      Lanes level2{};
      Lanes level_x{};
      for (std::size_t i = 0; i < s.n; ++i) {
        const float above = s.x[i] - ends[pass].low;
        const float from_mean = s.x[i] - mean;
        for (std::size_t k = 0; k < lanes; ++k) {
          const float level = Levels::nearest(above * inverses[k] + start[k]);
          const float weighted = s.w[i] * level;
          level1[k] += weighted;
          level2[k] += weighted * level;
          level_x[k] += weighted * from_mean;
        }
      }
      for (std::size_t k = 0; k < lanes; ++k) {
        const float spread = level2[k] - level1[k] * level1[k] / plain.w;
        if (spread <= 0 || level_x[k] <= 0) continue;
        const float scale = level_x[k] / spread;
        if (level_x[k] * scale <= best_gain) continue;
        best_gain = level_x[k] * scale;
        best = {scale, mean - scale * level1[k] / plain.w};
      }
    }
  }
  return best;
}

struct HalfLine {
  half scale;
  half offset;
};

/// The halves near `line` with the least error. The same line also fits with its levels moved by
/// one or two where they leave room; of these offsets, too, one may be closer to a half.
template <class Levels>
HalfLine best_halves(Part s, Line line) noexcept {
  const auto candidate = [line](std::size_t lane) {
    const float moved = line.offset + line.scale * (static_cast<float>(lane / 4) - 2);
    return HalfLine{neighbour(to_scale(line.scale), static_cast<int>(lane % 4) - 2),
                    to_scale(moved)};
  };
  Lanes scales;
  Lanes offsets;
  for (std::size_t k = 0; k < lanes; ++k) {
    scales[k] = to_float(candidate(k).scale);
    offsets[k] = to_float(candidate(k).offset);
  }
  return candidate(smallest_lane(errors<Levels>(s, scales, offsets)));
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
