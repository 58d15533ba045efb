// SPDX-License-Identifier: Apache-2.0
// The paper's semantics against a naive reference in double, which keeps every query and decides
// everything at the last moment.
#include "support/sample_hybrid.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/hybrid.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/sparse_attention.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace {

using rwkv::HybridConfig;
using Vec = std::vector<double>;

struct Entry {
  Vec q, k, v;  // of one head
};

double dot(const Vec& a, const Vec& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

Vec softmax(Vec scores) {
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s - most);
  for (double& s : scores) s /= sum;
  return scores;
}

/// One head, in the paper's semantics. `margin` becomes the smallest distance between a choice that
/// was made and one that was not, relative to the numbers compared.
class NaiveHead {
 public:
  explicit NaiveHead(const HybridConfig& config) : config_(config) {}

  Vec token(const Entry& entry) {
    if (config_.max_cache > 0 && entries_.size() == config_.max_cache) thin_out();
    entries_.push_back(entry);
    const std::size_t own = (entries_.size() - 1) / config_.chunk;
    std::vector<bool> read(own + 1, true);
    if (config_.mode == rwkv::AttentionMode::sparse && own >= config_.top_k) {
      Vec scores;
      for (std::size_t m = 0; m < own; ++m) {
        Vec mean(64, 0.0);
        for (std::size_t e = m * config_.chunk; e < (m + 1) * config_.chunk; ++e)
          for (std::size_t c = 0; c < 64; ++c)
            mean[c] += entries_[e].k[c] / static_cast<double>(config_.chunk);
        scores.push_back(dot(entry.q, mean));
      }
      for (const std::size_t m : worst(scores, own - (config_.top_k - 1))) read[m] = false;
    }
    Vec scores;
    std::vector<const Entry*> seen;
    for (std::size_t e = 0; e < entries_.size(); ++e)
      if (read[e / config_.chunk]) {
        seen.push_back(&entries_[e]);
        scores.push_back(dot(entry.q, entries_[e].k) / 8);
      }
    const Vec p = softmax(scores);
    Vec y(64, 0.0);
    for (std::size_t i = 0; i < p.size(); ++i)
      for (std::size_t c = 0; c < 64; ++c) y[c] += p[i] * seen[i]->v[c];
    return y;
  }

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  double margin = HUGE_VAL;

 private:
  void thin_out() {
    const std::size_t past = entries_.size() - config_.window;
    Vec votes(past, 0.0);
    for (std::size_t i = past; i < entries_.size(); ++i) {
      Vec scores;
      for (std::size_t e = 0; e < past; ++e)
        scores.push_back(dot(entries_[i].q, entries_[e].k) / 8);
      const Vec p = softmax(scores);
      for (std::size_t e = 0; e < past; ++e) votes[e] += p[e];
    }
    const auto out = worst(votes, entries_.size() - config_.min_cache);
    std::vector<Entry> kept;
    for (std::size_t e = 0; e < entries_.size(); ++e)
      if (std::find(out.begin(), out.end(), e) == out.end()) kept.push_back(entries_[e]);
    entries_ = kept;
  }

  std::vector<std::size_t> worst(const Vec& scores, std::size_t count) {
    std::vector<std::size_t> order(scores.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
    if (count < order.size()) {
      const double out = scores[order[count - 1]];
      const double in = scores[order[count]];
      margin = std::min(margin, (in - out) / (std::abs(in) + std::abs(out)));
    }
    order.resize(count);
    return order;
  }

  HybridConfig config_;
  std::vector<Entry> entries_;
};

constexpr std::size_t channels = 128;

std::vector<Vec> random_inputs(std::size_t tokens, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<Vec> u(tokens, Vec(channels));
  for (Vec& row : u)
    for (double& x : row) x = static_cast<float>(normal(random));
  return u;
}

Vec product(const Vec& w, const Vec& x) {
  Vec y(w.size() / x.size());
  const double* row = w.data();
  for (double& sum : y)
    for (const double in : x) sum += *row++ * in;
  return y;
}

/// What the stage adds to x, in passes of at most `rows` rows.
std::vector<float> stage(const rwkv::HybridModel& model, rwkv::HybridState& state,
                         const std::vector<Vec>& u, std::size_t rows) {
  using Work = rwkv::HybridWorkspace;
  Work work(model.shape(), rows);
  rwkv::Serial exec;
  std::vector<float> out;
  for (std::size_t done = 0; done < u.size();) {
    const std::size_t n = std::min(rows, u.size() - done);
    state.reserve(n);
    work.segments()[0] = {&state, nullptr, 0, n};
    for (std::size_t m = 0; m < n; ++m)
      for (std::size_t c = 0; c < channels; ++c) {
        work.row(Work::normed, m)[c] = static_cast<float>(u[done + m][c]);
        work.row(Work::x, m)[c] = 0.0f;
      }
    rwkv::sparse_attention<rwkv::simd::Chosen>(model.weights().sparse_block(0).att, 0,
                                               rwkv::detail::Pass{n, 1}, work, exec);
    for (std::size_t m = 0; m < n; ++m)
      out.insert(out.end(), work.row(Work::x, m), work.row(Work::x, m) + channels);
    done += n;
  }
  return out;
}

struct Reference {
  std::vector<double> out;
  std::size_t entries;
  double margin;
};

Reference reference(const rwkv::io::Checkpoint& c, const HybridConfig& config,
                    const std::vector<Vec>& u) {
  std::vector<NaiveHead> heads(channels / 64, NaiveHead(config));
  const auto weights = [&](const std::string& name) {
    return c.get("moba.0.att." + name + ".weight").values<double>();
  };
  const Vec w_q = weights("receptance"), w_k = weights("key"), w_v = weights("value"),
            w_o = weights("output");
  Reference r;
  for (const Vec& row : u) {
    const Vec q = product(w_q, row);
    const Vec k = product(w_k, row);
    const Vec v = product(w_v, row);
    Vec y;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      const auto part = [&](const Vec& of) {
        const auto first = of.begin() + static_cast<std::ptrdiff_t>(64 * h);
        return Vec(first, first + 64);
      };
      const Vec mine = heads[h].token({part(q), part(k), part(v)});
      y.insert(y.end(), mine.begin(), mine.end());
    }
    const Vec out = product(w_o, y);
    r.out.insert(r.out.end(), out.begin(), out.end());
  }
  r.entries = heads[0].size();
  r.margin = HUGE_VAL;
  for (const NaiveHead& head : heads) r.margin = std::min(r.margin, head.margin);
  return r;
}

double distance(const std::vector<float>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(got[i] - want[i]));
  return worst;
}

}  // namespace

TEST_CASE("the stage agrees with the naive reference") {
  const auto checkpoint = test::sample_hybrid(1);
  const auto u = random_inputs(220, 3);
  const auto config = [](rwkv::AttentionMode mode, std::size_t chunk, std::size_t top_k,
                         std::size_t max, std::size_t min, std::size_t window) {
    HybridConfig c;
    c.mode = mode;
    c.chunk = chunk;
    c.top_k = top_k;
    c.max_cache = max;
    c.min_cache = min;
    c.window = window;
    return c;
  };
  using Mode = rwkv::AttentionMode;
  test::Thinned configurations(5);  // one of each mode
  for (const HybridConfig& c :
       {config(Mode::sparse, 8, 2, 0, 0, 0), config(Mode::sparse, 8, 3, 64, 40, 8),
        config(Mode::sparse, 5, 4, 90, 70, 13), config(Mode::sparse, 16, 1, 50, 30, 20),
        config(Mode::sparse, 1, 6, 33, 20, 1), config(Mode::full, 16, 2, 100, 60, 30),
        config(Mode::full, 7, 2, 0, 0, 0), config(Mode::sparse, 100, 64, 300, 200, 100)}) {
    if (configurations.leaves_out()) continue;
    CAPTURE(c.chunk);
    CAPTURE(c.top_k);
    CAPTURE(c.max_cache);
    const rwkv::HybridModel model(checkpoint, c);
    rwkv::HybridState state(model.shape());
    const auto want = reference(checkpoint, c, u);
    CAPTURE(want.margin);
    REQUIRE(want.margin > 1e-5);  // no choice that rounding could turn
    const auto got = stage(model, state, u, 50);
    CHECK(distance(got, want.out) <= 2e-5);
    CHECK(state.cache(0).size() == want.entries);
    for (const std::size_t rows : {1u, 7u, 220u}) {
      rwkv::HybridState other(model.shape());
      CHECK(stage(model, other, u, rows) == got);
      CHECK(other.cache(0) == state.cache(0));
    }
  }
}

TEST_CASE("smaller storage changes little and costs less") {
  const auto checkpoint = test::sample_hybrid(1);
  const auto u = random_inputs(180, 4);
  HybridConfig c;
  c.chunk = 200;
  const auto want = reference(checkpoint, c, u);
  std::size_t bytes = 0;
  for (const auto& [type, tolerance] :
       {std::pair{rwkv::CacheType::f32, 2e-5}, std::pair{rwkv::CacheType::f16, 3e-3},
        std::pair{rwkv::CacheType::int8, 6e-2}}) {
    c.cache_type = type;
    const rwkv::HybridModel model(checkpoint, c);
    rwkv::HybridState state(model.shape());
    const double error = distance(stage(model, state, u, 64), want.out);
    MESSAGE("error " << error << " with " << state.cache(0).bytes() << " bytes");
    CHECK(error <= tolerance);
    if (bytes > 0) CHECK(state.cache(0).bytes() < bytes);
    bytes = state.cache(0).bytes();
  }
}

TEST_CASE("while everything fits the window, sparse is plain causal attention, to the bit") {
  const auto checkpoint = test::sample_hybrid(1);
  const auto u = random_inputs(100, 5);
  HybridConfig sparse;
  sparse.chunk = 16;
  sparse.top_k = 4;
  HybridConfig full = sparse;
  full.mode = rwkv::AttentionMode::full;
  const rwkv::HybridModel sparse_model(checkpoint, sparse);
  const rwkv::HybridModel full_model(checkpoint, full);
  rwkv::HybridState a(sparse_model.shape());
  rwkv::HybridState b(full_model.shape());
  const auto chosen = stage(sparse_model, a, u, 100);
  const auto all = stage(full_model, b, u, 100);
  const auto window = static_cast<std::ptrdiff_t>(16 * 4 * channels);
  CHECK(std::equal(chosen.begin(), chosen.begin() + window, all.begin()));
  CHECK_FALSE(std::equal(chosen.begin() + window, chosen.end(), all.begin() + window));
}

TEST_CASE("a cache with NaN in it neither crashes nor hides it") {
  const auto checkpoint = test::sample_hybrid(1);
  auto u = random_inputs(150, 6);
  u[20][3] = std::nan("");
  for (const auto type : {rwkv::CacheType::f32, rwkv::CacheType::f16, rwkv::CacheType::int8}) {
    HybridConfig c;
    c.chunk = 8;
    c.max_cache = 64;
    c.min_cache = 40;
    c.window = 8;
    c.cache_type = type;
    const rwkv::HybridModel model(checkpoint, c);
    rwkv::HybridState state(model.shape());
    const auto out = stage(model, state, u, 30);
    CHECK(std::isfinite(out[19 * channels]));
    CHECK(std::isnan(out[20 * channels]));
  }
}
