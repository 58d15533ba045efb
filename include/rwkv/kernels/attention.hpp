// SPDX-License-Identifier: Apache-2.0
// Softmax attention of one query over one head's cached keys and values, page by page. Keys lie in
// panels of 16 entries, channel after channel, as the rows of a packed matrix do: a vector register
// holds the scores of 16 entries, and the sum over channels runs in sequence. Values lie entry
// after entry: there a register holds channels, and the sum over entries runs in sequence. So the
// bits of a result depend on the entries alone. Freestanding.
#pragma once

#include <rwkv/core/config.hpp>
#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/panels.hpp>

#include <limits>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Channels per attention head of RWKV-X.
inline constexpr std::size_t attention_width = 64;
/// Entries per page: a key and a value each, per head.
inline constexpr std::size_t page_entries = 64;

/// One head's part of a page. T is float, half or std::int8_t; only int8 has scales, one per entry.
template <class T>
struct HeadPage {
  T* keys;             ///< [entry / 16][channel][entry % 16]
  T* values;           ///< [entry][channel]
  float* key_scale;    ///< [entry], or null
  float* value_scale;  ///< [entry], or null

  [[nodiscard]] T& key(std::size_t entry, std::size_t channel) const noexcept {
    return keys[(entry / panel_rows * attention_width + channel) * panel_rows + entry % panel_rows];
  }
  [[nodiscard]] T& value(std::size_t entry, std::size_t channel) const noexcept {
    return values[entry * attention_width + channel];
  }
};

/// A softmax-weighted mean of values whose scores arrive page by page.
struct RunningSoftmax {
  float largest = -std::numeric_limits<float>::infinity();
  float weight = 0.0f;                                  ///< sum of exp(score - largest)
  alignas(alignment) float mean[attention_width] = {};  ///< times `weight`
};

/// scores[e] = q . key e for the entries [entries.begin, entries.end) of the page; other elements
/// of their panels are written too. scores has room for the page. On the best level's lanes.
template <class T>
void key_scores(const HeadPage<T>& page, Range entries, const float* q, float* scores) noexcept;

/// Adds entries of a page. `q` is scaled already. On the best level's lanes.
template <class T>
void attend(const HeadPage<T>& page, Range entries, const float* q,
            RunningSoftmax& softmax) noexcept;

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
