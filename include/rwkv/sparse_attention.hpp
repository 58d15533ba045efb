// SPDX-License-Identifier: Apache-2.0
// The mixer of RWKV-X's sparse blocks, with the signature of time_mix. For each row, u being the
// output of ln1 and per head of 64 channels:
//
//   q = Wr u,  k = Wk u,  v = Wv u                          (no positions, no token shift)
//   y = sum_e softmax_e(q . k_e / 8) v_e                    over some entries e of the cache
//   out = Wo y
//
// Which entries a row reads, and which the cache forgets, is what the two semantics differ in; see
// hybrid.hpp. Heads are independent of each other but for the package's choice of chunks.
#pragma once

#include <rwkv/hybrid_workspace.hpp>
#include <rwkv/pass.hpp>
#include <rwkv/simd/native.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// The `wanted` chunks with the largest scores (of equals the oldest), offered one by one in order.
class BestChunks {
 public:
  explicit BestChunks(std::size_t wanted) noexcept : wanted_(wanted) {}

  void offer(std::size_t chunk, float score) noexcept {
    std::size_t at = count_;
    while (at > 0 && score > scores_[at - 1]) --at;
    if (at == wanted_) return;
    if (count_ < wanted_) ++count_;
    for (std::size_t i = count_ - 1; i > at; --i) {
      scores_[i] = scores_[i - 1];
      chunks_[i] = chunks_[i - 1];
    }
    scores_[at] = score;
    chunks_[at] = chunk;
  }

  /// Ascending. Ends the selection.
  [[nodiscard]] std::span<const std::size_t> sorted() noexcept {
    std::sort(chunks_, chunks_ + count_);
    return {chunks_, count_};
  }

 private:
  std::size_t wanted_;
  std::size_t count_ = 0;
  float scores_[HybridConfig::largest_top_k];
  std::size_t chunks_[HybridConfig::largest_top_k];
};

/// Attends to whole chunks, neighbours together, and to the entries [rest, end) behind them.
template <class T>
void attend_chunks(const CachedHead<T>& head, std::span<const std::size_t> chunks, std::size_t rest,
                   std::size_t end, const float* q, kernels::RunningSoftmax& softmax) noexcept {
  const std::size_t size = head.config().chunk;
  Range run{rest, rest};
  if (!chunks.empty()) run = {chunks[0] * size, chunks[0] * size};
  for (const std::size_t chunk : chunks) {
    if (chunk * size != run.end) {
      head.attend(run, q, softmax);
      run.begin = chunk * size;
    }
    run.end = (chunk + 1) * size;
  }
  if (run.end != rest) {
    head.attend(run, q, softmax);
    run.begin = rest;
  }
  head.attend({run.begin, end}, q, softmax);
}

/// The paper: the newest entry reads its own chunk up to itself and the top_k - 1 others whose mean
/// key suits its query best.
template <class T>
void attend_newest(const CachedHead<T>& head, const float* q,
                   kernels::RunningSoftmax& softmax) noexcept {
  const HybridConfig& config = head.config();
  const std::size_t own = (head.size() - 1) / config.chunk;
  if (config.mode == AttentionMode::full || own < config.top_k)
    return head.attend({0, head.size()}, q, softmax);
  BestChunks best(config.top_k - 1);  // sums rank as means do: all chunks have the same length
  if (config.top_k > 1)
    head.score_chunks(own, q, [&](std::size_t m, float score) { best.offer(m, score); });
  attend_chunks(head, best.sorted(), own * config.chunk, head.size(), q, softmax);
}

/// The package: row `m` of a call, whose entry is the newest.
template <class T>
void attend_as_package(const CachedHead<T>& head, const PackageCall& call, std::size_t m,
                       const float* q, kernels::RunningSoftmax& softmax) noexcept {
  const std::size_t chunk = head.config().chunk;
  switch (call.reads) {
    case PackageCall::Reads::everything:
      return head.attend({0, head.size()}, q, softmax);
    case PackageCall::Reads::chunks:
      return attend_chunks(head, {call.chosen.data(), call.chosen_count},
                           call.cached / chunk * chunk, head.size(), q, softmax);
    case PackageCall::Reads::piece:
      return head.attend({call.cached + m / chunk * chunk, head.size()}, q, softmax);
  }
}

/// The package's compression: per head, the past entries with the most votes, in order of votes,
/// and then the window. `queries` is [rows][ld], not scaled.
inline void compress_as_package(KvCache& cache, const float* queries, std::size_t rows,
                                std::size_t ld) {
  using L = simd::Scalar;
  const HybridConfig& config = cache.config();
  const std::size_t past = cache.size() - config.window;
  const std::size_t kept = config.min_cache - config.window;
  std::vector<float> scratch(past);
  for (std::size_t h = 0; h < cache.heads(); ++h)
    cache.visit_head(h, [&](auto head) {
      std::vector<float> votes(past, 0.0f);
      for (std::size_t m = 0; m < rows; ++m) {
        alignas(alignment) float q[kernels::attention_width];
        for (std::size_t c = 0; c < kernels::attention_width; ++c)
          q[c] = queries[m * ld + h * kernels::attention_width + c] * 0.125f;
        head.template vote<L>(past, q, scratch.data(), votes.data());
      }
      for (float& vote : votes) vote = vote >= 0.0f ? vote : -1.0f;  // NaN is no order
      std::vector<std::size_t> order(past);
      for (std::size_t e = 0; e < past; ++e) order[e] = e;
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return votes[a] > votes[b]; });
      order.resize(kept);
      for (std::size_t e = past; e < past + config.window; ++e) order.push_back(e);
      head.rearrange(order);
    });
  cache.commit(config.min_cache);
}

/// Before a call of the package: compression, and which path the call takes. `u` and `q` are the
/// call's rows [rows][ld] before and after the projection.
template <class L>
PackageCall begin_package_call(KvCache& cache, const float* u, const float* q, std::size_t rows,
                               std::size_t ld) {
  const HybridConfig& config = cache.config();
  const bool decode = rows == 1;
  if (config.max_cache > 0 && cache.size() > config.max_cache && cache.size() > config.min_cache)
    compress_as_package(cache, decode ? q : u, rows, ld);  // prefill votes with u: a quirk to keep

  PackageCall call{PackageCall::Reads::everything, cache.size(), 0, {}};
  const std::size_t window = config.chunk * config.top_k;
  if (decode && call.cached > window && config.mode == AttentionMode::sparse) {
    call.reads = PackageCall::Reads::chunks;
    const std::size_t chunks = call.cached / config.chunk;
    std::vector<float> scores(chunks, 0.0f);  // one choice for all heads
    for (std::size_t h = 0; h < cache.heads(); ++h)
      cache.visit_head(h, [&](const auto& head) {
        head.score_chunks(chunks, q + h * kernels::attention_width,
                          [&](std::size_t m, float score) { scores[m] += score; });
      });
    BestChunks best(config.top_k);
    for (std::size_t m = 0; m < chunks; ++m) best.offer(m, scores[m]);
    const auto chosen = best.sorted();
    call.chosen_count = chosen.size();
    std::copy(chosen.begin(), chosen.end(), call.chosen.begin());
  } else if (!decode && rows + call.cached > window) {  // whatever the mode: another quirk
    call.reads = PackageCall::Reads::piece;
  }
  return call;
}

}  // namespace detail

/// Adds the sparse attention of `normed` to `x`; extends the caches of the pass's sequences in
/// sparse block `index`, which have room for it (HybridState::reserve).
template <class L, class Matrix, class Work, class Exec>
void sparse_attention(const SparseAttentionWeights<Matrix>& p, std::size_t index,
                      const detail::Pass& pass, Work& work, Exec& exec) {
  using W = Work;
  using Lanes = typename simd::CompiledFor<L>::Lanes;
  const HybridConfig& config = work.shape().config();
  const bool package = config.semantics == HybridSemantics::package;
  const bool capped = !package && config.max_cache > 0;
  const std::size_t channels = work.shape().embed();
  const std::size_t heads = work.shape().attention_heads();
  const std::size_t ld = work.stride();

  kernels::run<L, Matrix>({{p.receptance, work[W::normed], ld, work[W::r], ld},
                           {p.key, work[W::normed], ld, work[W::k], ld},
                           {p.value, work[W::normed], ld, work[W::v], ld}},
                          pass.rows, {work.quantised_activations(), work[W::xr], ld}, exec);

  if (package)
    for (std::size_t s = 0; s < pass.segments; ++s) {
      const auto& segment = work.segments()[s];
      work.calls()[s] = detail::begin_package_call<Lanes>(
          segment.state->cache(index), work.row(W::normed, segment.first_row),
          work.row(W::r, segment.first_row), segment.rows, ld);
    }

  std::size_t reads = 0;  // entries, roughly
  for (std::size_t s = 0; s < pass.segments; ++s) {
    const auto& segment = work.segments()[s];
    const std::size_t entries = segment.state->cache(index).size() + segment.rows / 2 + 1;
    reads += segment.rows * (config.mode == AttentionMode::full
                                 ? entries
                                 : (std::min)(entries, config.chunk * config.top_k));
  }
  const std::size_t cost = 2 * kernels::attention_width * reads / pass.segments;
  kernels::for_each(pass.segments * heads, cost, exec, [&](std::size_t task) {
    const std::size_t s = task / heads;
    const auto& segment = work.segments()[s];
    const std::size_t channel = task % heads * kernels::attention_width;
    segment.state->cache(index).visit_head(task % heads, [&](auto head) {
      for (std::size_t m = 0; m < segment.rows; ++m) {
        const std::size_t row = segment.first_row + m;
        if (capped && head.size() == config.max_cache) head.thin_out();
        head.append(work.row(W::k, row) + channel, work.row(W::v, row) + channel);
        alignas(alignment) float q[kernels::attention_width];
        for (std::size_t c = 0; c < kernels::attention_width; ++c)
          q[c] = work.row(W::r, row)[channel + c] * 0.125f;  // 1 / sqrt(64)
        kernels::RunningSoftmax softmax;
        if (package) {
          detail::attend_as_package(head, work.calls()[s], m, q, softmax);
        } else {
          if (capped) head.template observe<Lanes>(q);
          detail::attend_newest(head, q, softmax);
        }
        kernels::finish<Lanes>(softmax, work.row(W::normed, row) + channel);
      }
    });
  });
  for (std::size_t s = 0; s < pass.segments; ++s) {
    const auto& segment = work.segments()[s];
    KvCache& cache = segment.state->cache(index);
    cache.commit(cache.size_after(segment.rows));
  }

  kernels::run<L, Matrix>({{p.output, work[W::normed], ld, work[W::xr], ld}}, pass.rows,
                          {work.quantised_activations(), work[W::r], ld}, exec);
  kernels::for_each(pass.rows, channels, exec, [&](std::size_t m) {
    kernels::add<L>(work.row(W::xr, m), work.row(W::x, m), channels);
  });
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
