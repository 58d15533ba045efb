// SPDX-License-Identifier: Apache-2.0
// The definitions of io/hybrid_state_file.hpp.
#pragma once

#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/io/hybrid_state_file.hpp>
#include <rwkv/io/state_file.hpp>
#include <rwkv/io/state_tensors.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

RWKV_FUNCTION std::pair<std::vector<float>, std::vector<float>> cache_values(const KvCache& cache) {
  const std::size_t channels = cache.heads() * kernels::attention_width;
  std::pair<std::vector<float>, std::vector<float>> out;
  out.first.resize(cache.size() * channels);
  out.second.resize(cache.size() * channels);
  for (std::size_t h = 0; h < cache.heads(); ++h)
    cache.visit_head(h, [&](const auto& head) {
      for (std::size_t e = 0; e < cache.size(); ++e) {
        head.read_key(e, out.first.data() + e * channels + h * kernels::attention_width);
        head.read_value(e, out.second.data() + e * channels + h * kernels::attention_width);
      }
    });
  return out;
}

inline std::string sparse_name(std::size_t j, const char* what) {
  return "moba." + std::to_string(j) + "." + what;
}

/// Fills an empty cache. Throws Error (shape, numeric).
inline void fill_cache(KvCache& cache, const Checkpoint& c, std::size_t j) {
  const std::size_t channels = cache.heads() * kernels::attention_width;
  const HybridConfig& config = cache.config();
  const Tensor& stored = c.get(sparse_name(j, "k_cache"));
  const std::size_t entries = stored.shape.empty() ? 0 : stored.shape[0];
  if (cache.thins_itself() && entries > config.max_cache)
    fail_with(ErrorCategory::shape, c.source, ": tensor ", sparse_name(j, "k_cache"), " has shape ",
              to_string(stored.shape), " where at most ", config.max_cache, " entries are cached");
  if (entries > stored.size() || (j > 0 && entries != c.get("moba.0.k_cache").shape[0]))
    fail_with(ErrorCategory::shape, c.source, ": tensor ", sparse_name(j, "k_cache"), " has shape ",
              to_string(stored.shape));
  const auto keys = state_values(c, sparse_name(j, "k_cache"), entries * channels);
  const auto values = state_values(c, sparse_name(j, "v_cache"), entries * channels);
  cache.reserve(entries);
  for (std::size_t h = 0; h < cache.heads(); ++h)
    cache.visit_head(h, [&](auto head) {
      for (std::size_t e = 0; e < entries; ++e) {
        const std::size_t at = e * channels + h * kernels::attention_width;
        head.append(keys.data() + at, values.data() + at);
      }
    });
  cache.commit(entries);
  if (!cache.observing()) return;
  const auto votes = state_values(c, sparse_name(j, "votes"), cache.votes().size());
  std::copy(votes.begin(), votes.end(), cache.votes().begin());
}

}  // namespace detail

namespace detail {

/// Calls f(tensors, metadata) with what the file of a state holds.
template <class F>
auto with_tensors(const HybridState& state, std::uint64_t fingerprint, const Metadata& notes,
                  F&& f) {
  internal::check_state(state.shape(), state, "the state");
  std::vector<std::vector<float>> kept;  // what the tensors view
  std::vector<NamedTensor> tensors = state_tensors(state.rwkv(), kept);
  const std::size_t channels = state.shape().embed();
  std::vector<std::pair<std::vector<float>, std::vector<float>>> caches;
  caches.reserve(state.shape().sparse_blocks());
  for (std::size_t j = 0; j < state.shape().sparse_blocks(); ++j) {
    const KvCache& cache = state.cache(j);
    const auto& [keys, values] = caches.emplace_back(cache_values(cache));
    tensors.push_back(named_tensor(sparse_name(j, "k_cache"), {cache.size(), channels},
                                   std::span<const float>(keys)));
    tensors.push_back(named_tensor(sparse_name(j, "v_cache"), {cache.size(), channels},
                                   std::span<const float>(values)));
    tensors.push_back(
        named_tensor(sparse_name(j, "ffn.x_prev"), {channels}, state.sparse_ffn_x_prev(j)));
    if (cache.observing())
      tensors.push_back(
          named_tensor(sparse_name(j, "votes"), {cache.heads(), cache.past()}, cache.votes()));
  }
  require_finite(tensors);
  Metadata metadata = state_metadata(fingerprint);
  add_hybrid_config(metadata, state.shape().config());
  metadata.insert(notes.begin(), notes.end());
  return f(std::as_const(tensors), std::as_const(metadata));
}

}  // namespace detail

RWKV_FUNCTION std::vector<std::byte> state_to_bytes(const HybridState& state,
                                                    std::uint64_t fingerprint,
                                                    const Metadata& notes) {
  return detail::with_tensors(state, fingerprint, notes,
                              [](std::span<const NamedTensor> tensors, const Metadata& metadata) {
                                return serialize_safetensors(tensors, metadata);
                              });
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION void save_state(const std::filesystem::path& path, const HybridState& state,
                              std::uint64_t fingerprint, const Metadata& notes) {
  detail::with_tensors(state, fingerprint, notes,
                       [&](std::span<const NamedTensor> tensors, const Metadata& metadata) {
                         write_safetensors(path, tensors, metadata);
                       });
}
#endif

RWKV_FUNCTION HybridState hybrid_state_from(const Checkpoint& c, const HybridShape& shape,
                                            std::uint64_t fingerprint,
                                            const StateOptions& options) {
  const HybridConfig made_with = hybrid_config_of(c, shape.config());
  if (!(made_with == shape.config()))
    for (std::size_t i = 0; i < made_with.items().size(); ++i)
      if (const auto theirs = made_with.items()[i], ours = shape.config().items()[i];
          theirs != ours)
        fail_with(ErrorCategory::argument, c.source, ": this state was made with ", theirs.first,
                  " ", theirs.second, ", the model has ", ours.second);
  Checkpoint rwkv = c;
  std::erase_if(rwkv.tensors, [](const auto& entry) { return entry.first.starts_with("moba."); });
  HybridState state(shape);
  state.rwkv() = state_from(rwkv, static_cast<const DynamicShape&>(shape), fingerprint, options);
  if (rwkv.tensors.size() == c.tensors.size()) return state;

  std::size_t expected = rwkv.tensors.size();
  for (std::size_t j = 0; j < shape.sparse_blocks(); ++j) {
    detail::fill_cache(state.cache(j), c, j);
    const auto shift = detail::state_values(c, detail::sparse_name(j, "ffn.x_prev"), shape.embed());
    std::copy(shift.begin(), shift.end(), state.sparse_ffn_x_prev(j).begin());
    expected += state.cache(j).observing() ? 4 : 3;
  }
  if (c.tensors.size() != expected)
    fail_with(ErrorCategory::shape, c.source, ": ", c.tensors.size(), " tensors where a state of ",
              shape.layers(), " + ", shape.sparse_blocks(), " blocks has ", expected);
  return state;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
