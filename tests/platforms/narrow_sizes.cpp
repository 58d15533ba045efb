// SPDX-License-Identifier: Apache-2.0
// For targets whose std::size_t has 32 bits: numbers that overflow it before the memory is full.
#include <rwkv/exec/serial.hpp>
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/kernels/lanes.hpp>
#include <rwkv/kernels/product.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/workspace.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <string>
#include <vector>

namespace {

int failures = 0;

void expect(bool right, const char* what) {
  std::printf("%-6s %s\n", right ? "ok" : "FAILED", what);
  failures += right ? 0 : 1;
}

/// As many workers, one after the other.
struct InTurns {
  std::size_t workers;
  [[nodiscard]] std::size_t concurrency() const noexcept { return workers; }
  template <class F>
  void parallel(std::size_t n, F&& f) const {
    for (std::size_t i = 0; i < n; ++i) f(i);
  }
};

/// Whether every output of a matrix of zeros is written.
bool all_written(std::size_t rows, std::size_t cols, std::size_t workers) {
  using Matrix = rwkv::kernels::PanelMatrix<rwkv::bfloat16>;
  // Of calloc: pages that are only read take no memory.
  auto* const zeros = static_cast<rwkv::bfloat16*>(std::calloc(rows * cols, 2));
  if (zeros == nullptr) return false;
  const std::vector<float> x(cols, 1.0f);
  std::vector<float> y(rows, 7.0f);
  InTurns exec{workers};
  const rwkv::kernels::Product<Matrix> product[] = {
      {Matrix{zeros, rows, cols}, x.data(), cols, y.data(), rows}};
  rwkv::kernels::run<rwkv::simd::Native>(product, 1, {}, exec);
  std::free(zeros);
  return std::all_of(y.begin(), y.end(), [](float v) { return v == 0.0f; });
}

template <class F>
bool refused(F f) {
  try {
    f();
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

std::string message(const char* path) {
  try {
    rwkv::io::MappedFile file(path);
  } catch (const rwkv::Error& error) {
    return error.what();
  }
  return "opened";
}

}  // namespace

int main() {
  static_assert(sizeof(std::size_t) == 4, "a test of 32-bit targets");
  expect(all_written(65536, 768, 4), "a product of four workers");
  expect(all_written(65536, 2048, 1), "a product of one worker");

  const rwkv::DynamicShape shape({.layers = 1, .embed = 2048, .ffn = 8192, .vocab = 65536});
  expect(refused([&] { rwkv::Workspace<>(shape, 1u << 20); }), "a workspace of too many rows");

  const char* const huge = "narrow_sizes.tmp";
  std::ofstream(huge).close();
  std::filesystem::resize_file(huge, (std::uintmax_t{1} << 32) + 4096);
  const std::string what = message(huge);
  std::filesystem::remove(huge);
  std::printf("%s\n", what.c_str());
  expect(what.find("do not fit the address space") != std::string::npos, "a file of 4 GiB");
  return failures;
}
