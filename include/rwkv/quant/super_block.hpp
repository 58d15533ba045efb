// SPDX-License-Identifier: Apache-2.0
// Scales in two storeys: a super-block consists of parts, each with a small integer as its scale,
// and these integers share one half as theirs. The integers are searched for by the error they
// lead to, then the half is adjusted to the integers. Freestanding.
#pragma once

#include <rwkv/quant/fit.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

/// x = d * scales[part] * level
template <std::size_t Parts>
struct TwoScales {
  half d;
  std::array<float, Parts> scales{};  ///< integers
};

/// x = d * scales[part] * level - dmin * mins[part]
template <std::size_t Parts>
struct TwoLines {
  half d;
  half dmin;
  std::array<float, Parts> scales{};  ///< integers
  std::array<float, Parts> mins{};    ///< integers
  float error = 0;
  bool clipped = false;  ///< some part would have liked a positive offset
};

namespace detail {

/// How often integers and halves are adjusted to each other.
inline constexpr int rounds = 2;

inline constexpr ScaleGrid upper_grid{.step = 0.5f, .beyond = 2, .batches = 2};

}  // namespace detail

/// Fits a super-block whose parts have no offset. Scales is the range of the integers.
template <class Levels, class Scales, std::size_t Parts, std::size_t N>
TwoScales<Parts> fit_scales(const Samples<N>& samples, ScaleGrid grid) noexcept {
  constexpr std::size_t size = N / Parts;
  std::array<float, Parts> wanted;
  std::array<float, Parts> cost;
  for (std::size_t p = 0; p < Parts; ++p) {
    const ScaleFit fit = best_scale<Levels>(part(samples, p * size, size), grid);
    wanted[p] = fit.scale;
    cost[p] = fit.level2;
  }
  TwoScales<Parts> best;
  float best_error = 0;
  float d = best_scale<Scales>({wanted.data(), cost.data(), Parts}, detail::upper_grid).scale;
  for (int round = 0; round < detail::rounds; ++round) {
    TwoScales<Parts> now{to_scale(d), {}};
    const float d_now = to_float(now.d);
    float error = 0;
    float along = 0;   // of the weighted products of x and levels, scaled
    float square = 0;  // of the weighted squares of the levels, scaled
    for (std::size_t p = 0; p < Parts; ++p) {
      const Part s = part(samples, p * size, size);
      const float middle = Scales::nearest(wanted[p] * inverse(d_now));
      Lanes integers;
      Lanes scales;
      for (std::size_t k = 0; k < lanes; ++k) {
        integers[k] = Scales::nearest(middle + static_cast<float>(k) - lanes / 2);
        scales[k] = d_now * integers[k];
      }
      const Lanes e = errors<Levels>(s, scales, Lanes{});
      const std::size_t k = smallest_lane(e);
      const Moments m = moments<Levels>(s, scales[k], 0);
      now.scales[p] = integers[k];
      wanted[p] = scales[k];
      error += e[k];
      along += integers[k] * m.level_x;
      square += integers[k] * integers[k] * m.level2;
    }
    if (round == 0 || error < best_error) {
      best = now;
      best_error = error;
    }
    if (square == 0) break;
    d = along / square;
  }
  return best;
}

namespace detail {

/// A line that a part would like, and the average level on it.
struct WantedLine {
  Line line;
  float level = 0;
};

/// Pairs of integers whose line is near a wanted one.
struct Pairs {
  Lanes integer;
  Lanes min;
  Lanes scale;
  Lanes offset;
};

template <class Scales>
Pairs candidates(const WantedLine& wanted, float d, float dmin) noexcept {
  Pairs pairs;
  const float middle = Scales::nearest(wanted.line.scale * inverse(d));
  for (std::size_t k = 0; k < lanes; ++k) {
    pairs.integer[k] = Scales::nearest(middle + static_cast<float>(k % 4) - 1);
    pairs.scale[k] = d * pairs.integer[k];
    // With another scale, the offset that leaves the average where it is.
    const float offset = wanted.line.offset + (wanted.line.scale - pairs.scale[k]) * wanted.level;
    const float min = -offset * inverse(dmin);
    const float nearest = Scales::nearest(min);
    const float one_level = pairs.scale[k] * inverse(dmin);
    switch (k / 4) {
      case 0:
        pairs.min[k] = nearest;
        break;
      case 1:  // the next nearest
        pairs.min[k] = Scales::nearest(nearest + (min > nearest ? 1.0f : -1.0f));
        break;
      case 2:  // the same line with its levels moved by one
        pairs.min[k] = Scales::nearest(min + one_level);
        break;
      default:
        pairs.min[k] = Scales::nearest(min - one_level);
    }
    pairs.offset[k] = -dmin * pairs.min[k];
  }
  return pairs;
}

template <class Levels, class Scales, std::size_t Parts, std::size_t N>
TwoLines<Parts> fit_lines_downwards(const Samples<N>& samples, LineGrid grid) noexcept {
  constexpr std::size_t size = N / Parts;
  std::array<WantedLine, Parts> wanted;
  std::array<float, Parts> scale;
  std::array<float, Parts> scale_cost;
  std::array<float, Parts> min;
  std::array<float, Parts> min_cost;
  bool clipped = false;
  for (std::size_t p = 0; p < Parts; ++p) {
    const Part s = part(samples, p * size, size);
    Line line = best_line<Levels>(s, grid);
    if (line.offset > 0) {
      line = {
          best_scale<Levels>(s, {.step = Levels::highest / lanes, .beyond = 2, .batches = 1}).scale,
          0};
      clipped = true;
    }
    const Moments m = moments<Levels>(s, line.scale, line.offset);
    wanted[p] = {line, m.level / m.w};
    scale[p] = line.scale;
    scale_cost[p] = m.level2;
    min[p] = -line.offset;
    min_cost[p] = m.w;
  }
  TwoLines<Parts> best;
  float d = best_scale<Scales>({scale.data(), scale_cost.data(), Parts}, upper_grid).scale;
  float dmin = best_scale<Scales>({min.data(), min_cost.data(), Parts}, upper_grid).scale;
  for (int round = 0; round < rounds; ++round) {
    TwoLines<Parts> now{to_scale(d), to_scale(dmin), {}, {}, 0, clipped};
    const float d_now = to_float(now.d);
    const float dmin_now = to_float(now.dmin);
    // The normal equations of d and dmin.
    float dd = 0;
    float dm = 0;
    float mm = 0;
    float dx = 0;
    float mx = 0;
    for (std::size_t p = 0; p < Parts; ++p) {
      const Part s = part(samples, p * size, size);
      const auto pairs = candidates<Scales>(wanted[p], d_now, dmin_now);
      const Lanes e = errors<Levels>(s, pairs.scale, pairs.offset);
      const std::size_t k = smallest_lane(e);
      const Moments m = moments<Levels>(s, pairs.scale[k], pairs.offset[k]);
      now.scales[p] = pairs.integer[k];
      now.mins[p] = pairs.min[k];
      now.error += e[k];
      wanted[p] = {{pairs.scale[k], pairs.offset[k]}, m.level / m.w};
      dd += now.scales[p] * now.scales[p] * m.level2;
      dm += now.scales[p] * now.mins[p] * m.level;
      mm += now.mins[p] * now.mins[p] * m.w;
      dx += now.scales[p] * m.level_x;
      mx += now.mins[p] * m.x;
    }
    if (round == 0 || now.error < best.error) best = now;
    const float determinant = dd * mm - dm * dm;
    if (determinant > 0) {
      d = (dx * mm - dm * mx) / determinant;
      dmin = (dx * dm - dd * mx) / determinant;
    } else if (dd > 0) {
      d = dx / dd;
    }
    if (d <= 0 || dmin < 0) break;
  }
  return best;
}

}  // namespace detail

/// Fits a super-block whose parts have offsets. Scales is the range of both kinds of integers;
/// `grid` is that of `best_line`.
template <class Levels, class Scales, std::size_t Parts, std::size_t N>
TwoLines<Parts> fit_lines(const Samples<N>& samples, LineGrid grid) noexcept {
  const auto fit = detail::fit_lines_downwards<Levels, Scales, Parts>(samples, grid);
  if (!fit.clipped) return fit;
  // The mins are not negative, so with a positive dmin no part can lie above 0. The same numbers
  // below 0 can be fitted, and both halves be given the other sign.
  Samples<N> mirrored = samples;
  for (float& x : mirrored.x) x = -x;
  auto other = detail::fit_lines_downwards<Levels, Scales, Parts>(mirrored, grid);
  if (fit.error <= other.error) return fit;
  other.d.bits ^= 0x8000;
  other.dmin.bits ^= 0x8000;
  return other;
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
