// SPDX-License-Identifier: Apache-2.0
// The kernels of kernels/attention.hpp. Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_ATTENTION_KERNELS) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_ATTENTION_KERNELS

#ifndef RWKV_AGAIN
#include <rwkv/kernels/attention.hpp>
#include <rwkv/kernels/elementwise.hpp>

#include <cstring>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

#if defined(__GNUC__)  // and Clang; GCC widens in steps of two
template <std::size_t Width>
struct Vectors {
  typedef std::int8_t Bytes __attribute__((vector_size(Width)));
  typedef std::int16_t Shorts __attribute__((vector_size(Width * 2)));
  typedef std::int32_t Ints __attribute__((vector_size(Width * sizeof(float))));
  typedef float Floats __attribute__((vector_size(Width * sizeof(float))));
};
#endif

/// `width` stored elements as floats.
template <class L, class T>
RWKV_INLINE L widen(const T* p) noexcept {
  if constexpr (std::is_same_v<T, std::int8_t>) {
    alignas(alignment) float lanes[L::width];
#if defined(__GNUC__)
    if constexpr (L::width > 1) {
      typename Vectors<L::width>::Bytes bytes;
      std::memcpy(&bytes, p, sizeof bytes);
      const auto shorts = __builtin_convertvector(bytes, typename Vectors<L::width>::Shorts);
      const auto ints = __builtin_convertvector(shorts, typename Vectors<L::width>::Ints);
      const auto floats = __builtin_convertvector(ints, typename Vectors<L::width>::Floats);
      std::memcpy(lanes, &floats, sizeof floats);
      return L::load(lanes);
    }
#endif
    for (std::size_t i = 0; i < L::width; ++i) lanes[i] = static_cast<float>(p[i]);
    return L::load(lanes);
  } else {
    return L::load(p);
  }
}

template <class L, std::size_t Panels, class T>
RWKV_INLINE void panel_scores(const HeadPage<T>& page, std::size_t panel, const float* q,
                              float* scores) noexcept {
  constexpr std::size_t per_panel = panel_rows / L::width;
  L sum[Panels * per_panel];
  for (L& s : sum) s = L::broadcast(0.0f);
  const T* keys = page.keys + panel * attention_width * panel_rows;
  for (std::size_t c = 0; c < attention_width; ++c) {
    const L qc = L::broadcast(q[c]);
    RWKV_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) RWKV_UNROLL
    for (std::size_t v = 0; v < per_panel; ++v)
      sum[p * per_panel + v] =
          fma(widen<L>(keys + (p * attention_width + c) * panel_rows + v * L::width), qc,
              sum[p * per_panel + v]);
  }
  for (std::size_t v = 0; v < Panels * per_panel; ++v) {
    const std::size_t entry = panel * panel_rows + v * L::width;
    if constexpr (std::is_same_v<T, std::int8_t>)
      (sum[v] * L::load(page.key_scale + entry)).store(scores + entry);
    else
      sum[v].store(scores + entry);
  }
}

}  // namespace detail

template <class L, class T>
void key_scores(const HeadPage<T>& page, Range entries, const float* q, float* scores) noexcept {
  // Several panels at a time hide the latency of the fma, as far as there are registers.
  constexpr std::size_t together = L::width >= 8 ? 4 : 1;
  std::size_t panel = entries.begin / panel_rows;
  const std::size_t end = panels_for(entries.end);
  for (; panel + together <= end; panel += together)
    detail::panel_scores<L, together>(page, panel, q, scores);
  for (; panel < end; ++panel) detail::panel_scores<L, 1>(page, panel, q, scores);
}

/// max(x[begin], ..., x[end - 1], floor)
template <class L>
float largest(const float* x, Range range, float floor) noexcept {
  std::size_t i = range.begin;
  L most = L::broadcast(floor);
  for (; i + L::width <= range.end; i += L::width) most = greater(most, L::load(x + i));
  alignas(alignment) float lanes[L::width];
  most.store(lanes);
  for (const float lane : lanes) floor = lane > floor ? lane : floor;
  for (; i < range.end; ++i) floor = x[i] > floor ? x[i] : floor;
  return floor;
}

/// x[i] = exp(x[i] - shift) over the range; returns their sum.
template <class L>
float exp_sum(float* x, Range range, float shift) noexcept {
  map<L>(range,
         [=]<class V>(std::size_t i) { exp(V::load(x + i) - V::broadcast(shift)).store(x + i); });
  const float* first = x + range.begin;
  return reduce<L>(range.end - range.begin,
                   [first]<class V>(std::size_t i, V sum) { return sum + V::load(first + i); });
}

template <class L, class T>
void attend(const HeadPage<T>& page, Range entries, const float* q,
            RunningSoftmax& softmax) noexcept {
  alignas(alignment) float p[page_entries];
  key_scores<L>(page, entries, q, p);
  const float most = largest<L>(p, entries, softmax.largest);
  const float fade = exp(simd::Scalar{softmax.largest - most}).v;
  softmax.largest = most;
  softmax.weight = softmax.weight * fade + exp_sum<L>(p, entries, most);
  if constexpr (std::is_same_v<T, std::int8_t>)
    for (std::size_t e = entries.begin; e < entries.end; ++e) p[e] *= page.value_scale[e];

  constexpr std::size_t vectors = L::width >= 4 ? attention_width / L::width : 4;
  for (std::size_t c = 0; c < attention_width; c += vectors * L::width) {
    L sum[vectors];
    RWKV_UNROLL
    for (std::size_t v = 0; v < vectors; ++v)
      sum[v] = L::load(softmax.mean + c + v * L::width) * L::broadcast(fade);
    for (std::size_t e = entries.begin; e < entries.end; ++e) {
      const L weight = L::broadcast(p[e]);
      RWKV_UNROLL
      for (std::size_t v = 0; v < vectors; ++v)
        sum[v] = fma(detail::widen<L>(page.values + e * attention_width + c + v * L::width), weight,
                     sum[v]);
    }
    RWKV_UNROLL
    for (std::size_t v = 0; v < vectors; ++v) sum[v].store(softmax.mean + c + v * L::width);
  }
}

/// y = the mean of the values [attention_width].
template <class L>
void finish(const RunningSoftmax& softmax, float* y) noexcept {
  const float scale = 1.0f / softmax.weight;
  map<L>({0, attention_width}, [&]<class V>(std::size_t i) {
    (V::load(softmax.mean + i) * V::broadcast(scale)).store(y + i);
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#ifndef RWKV_AGAIN
namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {
using compiled::exp_sum;
using compiled::finish;
using compiled::largest;
}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
#endif

#endif
