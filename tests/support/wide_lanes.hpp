// SPDX-License-Identifier: Apache-2.0
// A lanes type of any width, made of scalars: kernels choose their blocking by the width, and so
// every machine can test the blocking of every other. `Fused`: with the one rounding of fma that
// wider instruction sets have, whatever the test is compiled for.
#pragma once

#include <rwkv/simd/pairs.hpp>
#include <rwkv/simd/scalar.hpp>

#include <array>
#include <cmath>

namespace test {

template <std::size_t Width, bool Fused = false>
struct WideLanes {
  using Scalar = rwkv::simd::Scalar;
  static constexpr std::size_t width = Width;
  using Bytes = rwkv::simd::PlainBytes<Width>;
  using Pairs = rwkv::simd::PlainPairs<Width>;
  std::array<Scalar, Width> v;

  static WideLanes broadcast(float f) noexcept {
    return make([f](std::size_t) { return Scalar{f}; });
  }
  template <class T>
  static WideLanes load(const T* p) noexcept {
    return make([p](std::size_t i) { return Scalar::load(p + i); });
  }
  void store(float* p) const noexcept {
    for (std::size_t i = 0; i < Width; ++i) v[i].store(p + i);
  }

  friend WideLanes operator+(WideLanes a, WideLanes b) noexcept {
    return make([&](std::size_t i) { return a.v[i] + b.v[i]; });
  }
  friend WideLanes operator-(WideLanes a, WideLanes b) noexcept {
    return make([&](std::size_t i) { return a.v[i] - b.v[i]; });
  }
  friend WideLanes operator*(WideLanes a, WideLanes b) noexcept {
    return make([&](std::size_t i) { return a.v[i] * b.v[i]; });
  }
  friend WideLanes operator/(WideLanes a, WideLanes b) noexcept {
    return make([&](std::size_t i) { return a.v[i] / b.v[i]; });
  }
  friend WideLanes fma(WideLanes a, WideLanes b, WideLanes c) noexcept {
    return make([&](std::size_t i) {
      if constexpr (Fused)
        return Scalar{std::fma(a.v[i].v, b.v[i].v, c.v[i].v)};
      else
        return fma(a.v[i], b.v[i], c.v[i]);
    });
  }
  friend WideLanes lesser(WideLanes a, WideLanes b) noexcept {
    return make([&](std::size_t i) { return lesser(a.v[i], b.v[i]); });
  }
  friend WideLanes greater(WideLanes a, WideLanes b) noexcept {
    return make([&](std::size_t i) { return greater(a.v[i], b.v[i]); });
  }
  friend WideLanes sqrt(WideLanes a) noexcept {
    return make([&](std::size_t i) { return sqrt(a.v[i]); });
  }
  friend WideLanes select_less(WideLanes a, WideLanes b, WideLanes x, WideLanes y) noexcept {
    return make([&](std::size_t i) { return select_less(a.v[i], b.v[i], x.v[i], y.v[i]); });
  }
  friend WideLanes add_exponent_bias(WideLanes s) noexcept {
    return make([&](std::size_t i) { return add_exponent_bias(s.v[i]); });
  }
  friend WideLanes exp2_of_biased(WideLanes b) noexcept {
    return make([&](std::size_t i) { return exp2_of_biased(b.v[i]); });
  }

 private:
  template <class F>
  static WideLanes make(F f) noexcept {
    WideLanes out;
    for (std::size_t i = 0; i < Width; ++i) out.v[i] = f(i);
    return out;
  }
};

}  // namespace test
