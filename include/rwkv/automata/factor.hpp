// SPDX-License-Identifier: Apache-2.0
// What a symbol does to the states, x -> f(x), as a short sequence of moves of which each touches
// two or four states; and each move as micro-steps, which are what one token of RWKV-7 can do.
//
// The state of the automaton is a one-hot row p, and a token multiplies it by the transition
// G = diag(w) - kappa_hat^T (a . kappa_hat). With w = 1 and a in {0, 1, 2} everything here uses
// kappa_hat of four entries +-1/2, or of a single 1: all products are dyadic, so that p stays
// one-hot to the last bit for ever. Two channels u, v that are zero between moves make this
// possible:
//
//   kappa_hat = (x - y + u - v) / 2,  a = 2                a reflection; exchanging u and v gives
//                                                          another, and both in a row swap x and y
//   kappa_hat = (x - y + z - w) / 2, then with z and w     swap x, y and swap z, w
//      exchanged
//   kappa_hat = x,  a = 1                                  erase x
//   p_x + p_y = 1:  (x - y + u - v) / 2,  a = 2 on x, y    average:  x, y = 1/2, 1/2
//                   (x + y - u + v) / 2,  a = 2 on u, v    grow:     u, v = 1/2, -1/2
//                   (x - y + u - v) / 2,  a = 2            reflect:  x, y, u, v = 0, 1, 0, 0
//      in a row move all of x to y, on top of what is there (merge)
//
// A merge takes three: averaging loses length, one step gives it back, and one carries it to y.
#pragma once

#include <rwkv/core/config.hpp>

#include <array>
#include <compare>
#include <span>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// Something done to two or four states at once.
struct Move {
  enum class Kind : std::uint8_t {
    erase,      ///< x becomes empty
    merge,      ///< all of x goes to y
    swap,       ///< x <-> y
    swap_both,  ///< x <-> y and z <-> w
  };
  Kind kind;
  std::size_t x, y = 0, z = 0, w = 0;
};

/// f(x) of a state whose content vanishes.
inline constexpr std::size_t vanished = static_cast<std::size_t>(-1);

namespace detail {

using Swap = std::pair<std::size_t, std::size_t>;

/// `target` as two sets of disjoint swaps, the first to be done first. A cycle of k states is a
/// rotation of a k-gon, and a rotation is two reflections: i -> -i, then i -> 1 - i.
[[nodiscard]] inline std::array<std::vector<Swap>, 2> two_involutions(
    std::span<const std::size_t> target) {
  std::array<std::vector<Swap>, 2> involutions;
  std::vector<bool> done(target.size(), false);
  for (std::size_t x = 0; x < target.size(); ++x) {
    std::vector<std::size_t> cycle;
    for (std::size_t i = x; !done[i]; i = target[i]) {
      done[i] = true;
      cycle.push_back(i);
    }
    const std::size_t k = cycle.size();
    for (std::size_t turn = 0; turn < 2; ++turn)
      for (std::size_t i = 0; i < k; ++i)
        if (const std::size_t j = (k + turn - i) % k; i < j)
          involutions[turn].emplace_back(cycle[i], cycle[j]);
  }
  return involutions;
}

}  // namespace detail

/// Moves that take the content of every state x to f(x), the first to be done first; f(x) may be
/// `vanished`. At most f.size() of them, and at most 3 f.size() micro-steps.
[[nodiscard]] inline std::vector<Move> factor(std::span<const std::size_t> f) {
  const std::size_t n = f.size();
  std::vector<Move> moves;

  // States with the same goal are merged into one of them, preferably into the goal itself.
  std::vector<std::size_t> carrier(n, vanished);
  for (std::size_t x = 0; x < n; ++x)
    if (f[x] != vanished && (carrier[f[x]] == vanished || f[x] == x)) carrier[f[x]] = x;
  std::vector<std::size_t> target(n, vanished);
  for (std::size_t x = 0; x < n; ++x) {
    if (f[x] == vanished)
      moves.push_back({Move::Kind::erase, x});
    else if (carrier[f[x]] != x)
      moves.push_back({Move::Kind::merge, x, carrier[f[x]]});
    else
      target[x] = f[x];
  }

  // The other states are empty and may go anywhere: closing every chain of carriers into a cycle
  // makes `target` a permutation.
  std::vector<std::size_t> source(n, vanished);
  for (std::size_t x = 0; x < n; ++x)
    if (target[x] != vanished) source[target[x]] = x;
  for (std::size_t x = 0; x < n; ++x) {
    if (target[x] != vanished) continue;
    std::size_t first = x;
    while (source[first] != vanished) first = source[first];
    target[x] = first;
    source[first] = x;
  }

  for (const auto& swaps : detail::two_involutions(target)) {
    std::size_t i = 0;
    for (; i + 2 <= swaps.size(); i += 2)
      moves.push_back({Move::Kind::swap_both, swaps[i].first, swaps[i].second, swaps[i + 1].first,
                       swaps[i + 1].second});
    if (i < swaps.size()) moves.push_back({Move::Kind::swap, swaps[i].first, swaps[i].second});
  }
  return moves;
}

/// What one token does. Channels: the states, then u and v.
struct MicroStep {
  enum class Kind : std::uint8_t {
    reflect,  ///< channels c: kappa_hat = (c0 - c1 + c2 - c3) / 2, a = 2
    average,  ///< the same kappa_hat; a = 2 on states, 0 on u and v
    grow,     ///< kappa_hat = (c0 + c1 - c2 + c3) / 2; a = 0 on states, 2 on u and v
    erase,    ///< kappa_hat = c0, a = 1; the other channels mean nothing
  };
  Kind kind;
  std::array<std::size_t, 4> channels;

  friend auto operator<=>(const MicroStep&, const MicroStep&) = default;
};

/// The micro-steps of a move, the first to be done first. u and v are empty before and after.
[[nodiscard]] inline std::vector<MicroStep> micro_steps(const Move& m, std::size_t u,
                                                        std::size_t v) {
  using Kind = MicroStep::Kind;
  switch (m.kind) {
    case Move::Kind::erase:
      return {{Kind::erase, {m.x, m.x, m.x, m.x}}};
    case Move::Kind::merge:
      return {{Kind::average, {m.x, m.y, u, v}},
              {Kind::grow, {m.x, m.y, u, v}},
              {Kind::reflect, {m.x, m.y, u, v}}};
    case Move::Kind::swap:
      return {{Kind::reflect, {m.x, m.y, u, v}}, {Kind::reflect, {m.x, m.y, v, u}}};
    default:
      return {{Kind::reflect, {m.x, m.y, m.z, m.w}}, {Kind::reflect, {m.x, m.y, m.w, m.z}}};
  }
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
