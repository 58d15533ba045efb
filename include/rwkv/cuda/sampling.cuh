// SPDX-License-Identifier: Apache-2.0
// Logits to a token, on the device: what rwkv::Sampler does (sampler.ipp, line by line), one block
// for each sequence. Probabilities are integers there, so that their sums are exact in any order,
// and the tokens the same.
#pragma once

#include <rwkv/cuda/arithmetic.cuh>

namespace rwkv::inline RWKV_ABI::cuda::device {

inline constexpr unsigned draw_threads = 512;
inline constexpr unsigned draw_warps = draw_threads / warp_size;
inline constexpr unsigned draw_bins = 2048;

/// Options and memory of one sequence, at the beginning of a block of memory that also holds the
/// arrays, at these offsets.
struct DrawState {
  float temperature, top_p, presence_penalty, frequency_penalty, penalty_decay, farthest;
  std::uint64_t top_k;
  double weight_scale, tempered_scale;  ///< of FixedExp: for temperature 1 and this one
  std::uint64_t random;                 ///< SplitMix64's counter
  std::uint64_t exp_steps;              ///< [256] FixedExp's table
  std::uint64_t counts;     ///< [V] how often a token has occurred, decayed; below 0: never
  std::uint64_t banned;     ///< bit per token
  std::uint64_t uncounted;  ///< bit per token
  std::uint64_t biases;     ///< [bias_count] {token, amount}, by token
  std::uint32_t bias_count;
  /// The first token whose logit was no number, plus 2; 1 if all were -infinity; 0: none.
  std::uint32_t failed;
};
struct Bias {
  Token token;
  float amount;
};

struct Draw {
  DrawState* const* states;  ///< of each row
  float* logits;             ///< [rows][vocab], which are used up
  unsigned vocab;
  Token* tokens;         ///< [rows] where the next pass takes them from; may be null
  Token* drawn;          ///< [steps][rows]
  std::uint32_t* steps;  ///< [rows] how many have been drawn
  unsigned rows;
};

struct DrawRoom {
  unsigned long long bins[draw_bins];
  unsigned long long warps[draw_warps];
  unsigned long long wanted;
  int largest, magnitude;
  unsigned bin, lowest;
};
inline constexpr unsigned draw_shared_bytes = sizeof(DrawRoom);

/// 2^40 exp(-x), as FixedExp.
RWKV_DEVICE std::uint64_t fixed_exp(float x, double scale, const std::uint32_t* steps) {
  const double octaves = static_cast<double>(x) * scale;
  if (!(octaves < 41 * 4294967296.0)) return 0;
  const auto q = static_cast<std::uint64_t>(static_cast<std::int64_t>(octaves));
  const std::uint64_t whole = q >> 32;
  const std::uint64_t t = (q & 0xffffff) * 0xb17217f8u >> 32;
  const std::uint64_t series = (std::uint64_t{1} << 32) - t + (t * t >> 33);
  return steps[q >> 24 & 255] * series >> (23 + whole);
}

/// Integers in the order of the floats; its own inverse.
RWKV_DEVICE int ordered(int bits) { return bits ^ (bits >> 31 & 0x7fffffff); }

/// Every thread's sum of the numbers of the threads before it; `total` is all of them. By all
/// threads of a block.
RWKV_DEVICE std::uint64_t sum_before(std::uint64_t mine, DrawRoom& room, std::uint64_t& total) {
  std::uint64_t sum = mine;
  for (unsigned distance = 1; distance < warp_size; distance *= 2) {
    const std::uint64_t other = from_lane(sum, lane() >= distance ? lane() - distance : lane());
    if (lane() >= distance) sum += other;
  }
  barrier();
  if (lane() == warp_size - 1) room.warps[warp()] = sum;
  barrier();
  std::uint64_t before = 0;
  total = 0;
  for (unsigned w = 0; w < draw_warps; ++w) {
    if (w == warp()) before = total;
    total += room.warps[w];
  }
  return before + sum - mine;
}

/// Where a running total over the tokens, nearest first, reaches a target.
struct Cut {
  float distance;
  std::uint64_t remainder;
};

template <class Measure, class Target>
RWKV_DEVICE Cut cut(const float* x, unsigned count, DrawRoom& room, const Measure& measure,
                    const Target& target) {
  std::uint32_t known = 0;
  unsigned known_from = 31;  // bits above are known
  std::uint64_t wanted = 0;
  for (unsigned pass = 0; pass < 3; ++pass) {
    const unsigned shift = pass == 0 ? 20 : pass == 1 ? 10 : 0;
    const unsigned width = pass == 0 ? 11 : 10;
    for (unsigned b = thread(); b < draw_bins; b += draw_threads) room.bins[b] = 0;
    barrier();
    for (unsigned i = thread(); i < count; i += draw_threads) {
      const std::uint32_t key = bits_of(x[i]);
      if (pass != 0 && key >> known_from != known) continue;
      if (const std::uint64_t amount = measure(x[i]); amount != 0)
        add_shared(&room.bins[key >> shift & ((1u << width) - 1)], amount);
    }
    barrier();
    // Each thread has some neighbouring bins.
    constexpr unsigned each = draw_bins / draw_threads;
    std::uint64_t mine = 0;
    for (unsigned b = 0; b < each; ++b) mine += room.bins[thread() * each + b];
    std::uint64_t total = 0;
    std::uint64_t before = sum_before(mine, room, total);
    if (pass == 0) wanted = target(total);
    if (before < wanted && wanted <= before + mine) {
      unsigned b = thread() * each;
      while (before + room.bins[b] < wanted) before += room.bins[b++];
      room.bin = b;
      room.wanted = wanted - before;
    }
    barrier();
    known = known << width | room.bin;
    known_from = shift;
    wanted = room.wanted;
    barrier();
  }
  return {float_of(known), wanted};
}

/// Draws the token of a row and counts it.
RWKV_DEVICE void draw(const Draw& p, unsigned row) {
  auto& room = *reinterpret_cast<DrawRoom*>(shared());
  let_next_start();
  wait_for_previous();
  DrawState& state = *p.states[row];
  auto* const memory = reinterpret_cast<unsigned char*>(&state);
  const auto* const exp_steps = reinterpret_cast<const std::uint32_t*>(memory + state.exp_steps);
  auto* const counts = reinterpret_cast<float*>(memory + state.counts);
  const auto* const banned = reinterpret_cast<const std::uint32_t*>(memory + state.banned);
  const auto* const uncounted = reinterpret_cast<const std::uint32_t*>(memory + state.uncounted);
  const auto* const biases = reinterpret_cast<const Bias*>(memory + state.biases);
  float* const x = p.logits + std::uint64_t{row} * p.vocab;
  const float infinity = float_of(0x7f800000u);
  const bool penalties = state.presence_penalty != 0 || state.frequency_penalty != 0;

  // Bans, biases and penalties.
  if (thread() == 0) {
    room.largest = -0x7fffffff - 1;
    room.magnitude = 0;
    room.lowest = 0xffffffffu;
  }
  for (unsigned i = thread(); i < p.vocab; i += draw_threads)
    if ((banned[i / 32] >> i % 32 & 1) != 0) x[i] = -infinity;
  barrier();
  for (unsigned b = thread(); b < state.bias_count; b += draw_threads) {
    if (b != 0 && biases[b - 1].token == biases[b].token) continue;
    const Token token = biases[b].token;
    for (unsigned i = b; i < state.bias_count && biases[i].token == token; ++i)
      if (token < p.vocab) x[token] = add(x[token], biases[i].amount);
  }
  barrier();
  int largest = room.largest;
  int magnitude = 0;
  for (unsigned i = thread(); i < p.vocab; i += draw_threads) {
    if (penalties && counts[i] >= 0) {
      const double penalty = static_cast<double>(state.presence_penalty) +
                             static_cast<double>(counts[i]) * state.frequency_penalty;
      x[i] = static_cast<float>(x[i] - penalty);
    }
    const int bits = static_cast<int>(bits_of(x[i]));
    largest = ordered(bits) > largest ? ordered(bits) : largest;
    magnitude = (bits & 0x7fffffff) > magnitude ? bits & 0x7fffffff : magnitude;
  }
  barrier();
  max_shared(&room.largest, largest);
  max_shared(&room.magnitude, magnitude);
  barrier();
  largest = room.largest;
  const float top = float_of(static_cast<std::uint32_t>(ordered(largest)));

  const int infinite = 0x7f800000;
  const bool no_number = room.magnitude > infinite || largest == infinite;
  if (no_number || top == -infinity) {
    if (no_number)
      for (unsigned i = thread(); i < p.vocab; i += draw_threads) {
        const int bits = static_cast<int>(bits_of(x[i]));
        if ((bits & 0x7fffffff) > infinite || bits == infinite) min_shared(&room.lowest, i);
      }
    barrier();
    if (thread() == 0) {
      if (state.failed == 0) state.failed = no_number ? room.lowest + 2 : 1;
      p.drawn[std::uint64_t{p.steps[row]} * p.rows + row] = 0;
      ++p.steps[row];
    }
    return;
  }

  if (state.temperature == 0) {
    for (unsigned i = thread(); i < p.vocab; i += draw_threads)
      if (x[i] == top) {
        min_shared(&room.lowest, i);
        break;
      }
    barrier();
  } else {
    for (unsigned i = thread(); i < p.vocab; i += draw_threads) x[i] = add(top, -x[i]);
    barrier();
    float limit = float_of(0x7f7fffffu);  // tokens at infinity are out
    if (state.top_p < 1) {
      const float top_p = state.top_p;
      const double scale = state.weight_scale;
      const Cut nucleus = cut(
          x, p.vocab, room, [&](float d) { return fixed_exp(d, scale, exp_steps); },
          [&](std::uint64_t total) {
            // Rounded up.
            const double share = static_cast<double>(top_p) * static_cast<double>(total);
            auto whole = static_cast<std::uint64_t>(share);
            if (static_cast<double>(whole) < share) ++whole;
            return whole < 1 ? std::uint64_t{1} : whole;
          });
      limit = nucleus.distance < limit ? nucleus.distance : limit;
    }
    limit = state.farthest < limit ? state.farthest : limit;
    if (state.top_k > 0 && state.top_k < p.vocab) {
      const std::uint64_t k = state.top_k;
      const Cut nearest = cut(
          x, p.vocab, room,
          [&](float d) { return static_cast<std::uint64_t>(d < infinity ? 1 : 0); },
          [&](std::uint64_t total) { return k < total ? k : total; });
      // Of the tokens at this distance only the first few stay.
      const unsigned each = (p.vocab + draw_threads - 1) / draw_threads;
      const unsigned first = thread() * each < p.vocab ? thread() * each : p.vocab;
      const unsigned end = first + each < p.vocab ? first + each : p.vocab;
      std::uint64_t mine = 0;
      for (unsigned i = first; i < end; ++i) mine += x[i] == nearest.distance ? 1 : 0;
      std::uint64_t total = 0;
      std::uint64_t seen = sum_before(mine, room, total);
      for (unsigned i = first; i < end; ++i)
        if (x[i] == nearest.distance && seen++ >= nearest.remainder) x[i] = infinity;
      limit = nearest.distance < limit ? nearest.distance : limit;
      barrier();
    }

    // Draws among the tokens up to the limit.
    const double scale = state.tempered_scale;
    const auto weight = [&](unsigned i) {
      return x[i] <= limit ? fixed_exp(x[i], scale, exp_steps) : std::uint64_t{0};
    };
    const unsigned each = (p.vocab + draw_threads - 1) / draw_threads;
    const unsigned first = thread() * each < p.vocab ? thread() * each : p.vocab;
    const unsigned end = first + each < p.vocab ? first + each : p.vocab;
    std::uint64_t mine = 0;
    for (unsigned i = first; i < end; ++i) mine += weight(i);
    std::uint64_t total = 0;
    const std::uint64_t before = sum_before(mine, room, total);
    if (thread() == 0) {
      // As SplitMix64::below(total).
      std::uint64_t mask = total - 1;
      for (unsigned distance = 1; distance < 64; distance *= 2) mask |= mask >> distance;
      std::uint64_t counter = state.random;
      std::uint64_t z = 0;
      do {
        z = counter += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z = (z ^ z >> 31) & mask;
      } while (z >= total);
      state.random = counter;
      room.wanted = z;
    }
    barrier();
    const std::uint64_t wanted = room.wanted;
    if (before <= wanted && wanted < before + mine) {
      std::uint64_t left = wanted - before;
      unsigned i = first;
      for (std::uint64_t w; left >= (w = weight(i)); ++i) left -= w;
      room.lowest = i;
    }
    barrier();
  }

  const unsigned token = room.lowest;
  if (penalties) {
    for (unsigned i = thread(); i < p.vocab; i += draw_threads)
      if (counts[i] >= 0)
        counts[i] = static_cast<float>(static_cast<double>(counts[i]) * state.penalty_decay);
    barrier();
    if (thread() == 0) {
      const float before = counts[token] >= 0 ? counts[token] : 0.0f;
      const bool counted = (uncounted[token / 32] >> token % 32 & 1) == 0;
      counts[token] = add(before, counted ? 1.0f : 0.0f);
    }
  }
  if (thread() == 0) {
    p.drawn[std::uint64_t{p.steps[row]} * p.rows + row] = token;
    ++p.steps[row];
    if (p.tokens != nullptr) p.tokens[row] = token;
  }
}

}  // namespace rwkv::inline RWKV_ABI::cuda::device
