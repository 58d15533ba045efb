// SPDX-License-Identifier: Apache-2.0
// For compilers that were allowed to reorder sums and that say so by no macro: clang with
// -funsafe-math-optimizations. What rounds by adding a large number and taking it away again must
// still round.
#include <rwkv/kernels/math.hpp>
#include <rwkv/kernels/quantise_row.hpp>
#include <rwkv/quant/fit.hpp>
#include <rwkv/simd/native.hpp>

#include <cmath>
#include <cstdio>

namespace {

int failures = 0;

void expect(bool right, const char* what, double at) {
  if (right) return;
  if (++failures < 10) std::printf("%s is wrong at %g\n", what, at);
}

template <class L>
void check_exp(const char* what) {
  float x[L::width];
  float y[L::width];
  for (float at = -87.0f; at < 88.0f; at += 0.013f) {
    for (float& v : x) v = at;
    rwkv::kernels::exp(L::load(x)).store(y);
    const double exact = std::exp(double{at});
    for (const float v : y) expect(std::abs(v - exact) < 1e-5 * exact, what, double{at});
  }
}

void check_codes() {
  constexpr std::size_t n = rwkv::kernels::tile_cols;
  alignas(rwkv::alignment) std::byte memory[rwkv::kernels::QuantisedActivations::bytes_for(n)];
  const rwkv::kernels::QuantisedActivations row{memory, sizeof(memory), n};
  float x[n];
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(i) * 8.125f - 127;
  x[0] = -127;
  rwkv::kernels::compiled::row_to_codes(x, row, 0);
  for (std::size_t i = 0; i < n; ++i) {
    const double of_step = double{x[i]} / double{row.steps(0)[0]};
    expect(std::abs(row.codes(0)[i] - of_step) < 0.501, "row_to_codes", of_step);
  }
}

}  // namespace

int main() {
  check_exp<rwkv::simd::Scalar>("exp of a float");
  check_exp<rwkv::simd::Native>("exp of a register");
  check_codes();
  for (float v = -10; v < 10; v += 0.0625f) {
    const double rounded = std::fmin(std::fmax(std::nearbyint(double{v}), -8.0), 7.0);
    expect(double{rwkv::quant::Integers<-8, 7>::nearest(v)} == rounded, "the nearest level",
           double{v});
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
