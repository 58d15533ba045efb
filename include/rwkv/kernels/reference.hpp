// SPDX-License-Identifier: Apache-2.0
// The kernels once more, naively, in double precision and in the order of the equations: what every
// other kernel is tested against, and the shortest way to read what they compute. Not used by the
// library itself.
#pragma once

#include <rwkv/core/config.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace rwkv::inline RWKV_ABI::reference::inline RWKV_ISA {

using Vec = std::vector<double>;

inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

/// y = W x with W [rows][cols]
inline Vec matvec(const Vec& w, const Vec& x) {
  Vec y(w.size() / x.size(), 0.0);
  for (std::size_t o = 0; o < y.size(); ++o)
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += w[o * x.size() + i] * x[i];
  return y;
}

/// (x - mean) / sqrt(variance + epsilon) * weight + bias
inline Vec normalise(const Vec& x, const Vec& weight, const Vec& bias, double epsilon) {
  const auto n = static_cast<double>(x.size());
  double mean = 0.0;
  for (const double v : x) mean += v / n;
  double variance = 0.0;
  for (const double v : x) variance += (v - mean) * (v - mean) / n;
  Vec y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = (x[i] - mean) / std::sqrt(variance + epsilon) * weight[i] + bias[i];
  return y;
}

/// x / max(|x|, 1e-12)
inline Vec unit_length(const Vec& x) {
  double squares = 0.0;
  for (const double v : x) squares += v * v;
  Vec y(x);
  for (double& v : y) v /= (std::max)(std::sqrt(squares), 1e-12);
  return y;
}

/// One step of the recurrence on S [value][key]; returns y = S r.
inline Vec wkv_step(Vec& s, const Vec& r, const Vec& w, const Vec& k, const Vec& v, const Vec& a,
                    const Vec& b) {
  const std::size_t n = r.size();
  const Vec sa = matvec(s, a);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j)
      s[i * n + j] = s[i * n + j] * w[j] + sa[i] * b[j] + v[i] * k[j];
  return matvec(s, r);
}

}  // namespace rwkv::inline RWKV_ABI::reference::inline RWKV_ISA
