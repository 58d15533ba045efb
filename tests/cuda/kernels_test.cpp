// SPDX-License-Identifier: Apache-2.0
// The kernels' own promises: functions of one number, sums in one order, offsets past 2^31, and
// what the emulator finds.
#define RWKV_CUDA_EMULATED
#include "support/numbers.hpp"
#include <rwkv/cuda/channels.cuh>

#include <doctest/doctest.h>

#include <cmath>
#include <sys/mman.h>

namespace {

namespace device = rwkv::cuda::device;

/// Memory of which only what is touched exists.
class Vast {
 public:
  explicit Vast(std::size_t bytes)
      : bytes_(bytes),
        data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  Vast(const Vast&) = delete;
  Vast& operator=(const Vast&) = delete;
  ~Vast() {
    if (there()) munmap(data_, bytes_);
  }
  [[nodiscard]] bool there() const { return data_ != MAP_FAILED; }
  [[nodiscard]] float* floats() const { return static_cast<float*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

}  // namespace

TEST_CASE("exp, sigmoid and tanh of the device are exact to some ulp") {
  double worst_exp = 0;
  double worst_tanh = 0;
  double worst_sigmoid = 0;
  for (float x = -86; x < 88; x += 0.0137f) {
    worst_exp = std::max(worst_exp, std::abs(device::exp(x) / std::exp(double{x}) - 1));
    worst_tanh = std::max(worst_tanh, std::abs(device::tanh(x) / std::tanh(double{x}) - 1));
    worst_sigmoid =
        std::max(worst_sigmoid, std::abs(device::sigmoid(x) * (1 + std::exp(-double{x})) - 1));
  }
  CHECK(worst_exp < 3e-7);
  CHECK(worst_tanh < 4e-7);
  CHECK(worst_sigmoid < 5e-7);
  CHECK(device::exp(-1000.0f) == 0);
  CHECK(std::isfinite(device::exp(1000.0f)));
  CHECK(std::isnan(device::exp(NAN)));
  CHECK(std::isnan(device::tanh(NAN)));
  CHECK(std::isnan(device::relu_squared(NAN)));
  CHECK(device::tanh(0.0f) == 0);
  CHECK(device::tanh(100.0f) == 1);
  CHECK(device::relu_squared(-3.0f) == 0);
  CHECK(device::relu_squared(3.0f) == 9);
}

TEST_CASE("a product past 2^31 elements and 65535 blocks writes where it should") {
  constexpr std::uint64_t stride = 4096;
  constexpr unsigned rows = 700'001;  // the last tile has one row
  constexpr unsigned width = 40;
  const Vast x(std::size_t{rows} * stride * sizeof(float));
  const Vast out(std::size_t{rows} * stride * sizeof(float));
  if (!x.there() || !out.there()) {
    MESSAGE("skipped: no address space");
    return;
  }
  const std::uint64_t last = (rows - 1) * stride;
  REQUIRE(last > (std::uint64_t{1} << 31));
  std::vector<float> weights(2 * 32 * 8);
  for (unsigned i = 0; i < width; ++i) weights[i * 8 + 3] = static_cast<float>(i);
  for (unsigned i = 0; i < width; ++i) x.floats()[last + i] = 1;
  device::Products p{};
  p.count = 1;
  p.tiles = 1;
  p.rows = rows;
  p.row_tiles = (rows + 7) / 8;
  p.inputs.x = x.floats();
  p.inputs.stride = stride;
  device::Product& product = p.list[0];
  product.data = reinterpret_cast<const unsigned char*>(weights.data());
  product.out = out.floats();
  product.out_stride = stride;
  product.panel_bytes = weights.size() * sizeof(float);
  product.panels = 1;
  product.outputs = 8;
  product.steps = 2;
  product.width = width;
  REQUIRE(p.row_tiles > 65535);
  emulator::run_one(p.row_tiles - 1, p.row_tiles, device::block_threads,
                    device::product_shared_bytes,
                    [&] { device::multiply<8, 4>(p, device::block()); });
  for (unsigned o = 0; o < 8; ++o) {
    CAPTURE(o);
    CHECK(out.floats()[last + o] == (o == 3 ? width * (width - 1) / 2 : 0));
  }
}

TEST_CASE("a sum over a block has one order, and the emulator another order of threads each time") {
  test::Random random(1);
  std::vector<float> numbers(device::block_threads);
  for (float& number : numbers) number = random();
  std::vector<unsigned> order;
  std::vector<unsigned> first_order;
  float first = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    emulator::set_seed(seed);
    order.clear();
    float result = 0;
    emulator::run(1, device::block_threads, 256, [&] {
      order.push_back(device::thread());
      float sums[1] = {numbers[device::thread()]};
      device::block_sums(sums, reinterpret_cast<float*>(device::shared()));
      if (device::thread() == 17) result = sums[0];
    });
    if (seed == 0) {
      first = result;
      first_order = order;
    }
    CHECK(test::bits(result) == test::bits(first));
    CHECK((order == first_order) == (seed == 0));
  }
}

TEST_CASE("the emulator finds a missing barrier") {
  std::size_t wrong = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    emulator::set_seed(seed);
    bool right = true;
    emulator::run(1, 64, 64 * sizeof(unsigned), [&] {
      auto* const numbers = reinterpret_cast<unsigned*>(device::shared());
      numbers[device::thread()] = device::thread();
      // Here it is missing.
      right = right && numbers[(device::thread() + 1) % 64] == (device::thread() + 1) % 64;
    });
    wrong += right ? 0 : 1;
  }
  CHECK(wrong == 8);
}

TEST_CASE("the last block of several is one, whoever comes first") {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    emulator::set_seed(seed);
    unsigned counter = 0;
    unsigned last = 0;
    unsigned arrived = 0;
    emulator::run(5, 32, 64, [&] {
      if (device::thread() == 0) ++arrived;
      if (device::last_of(&counter, 5) && device::thread() == 0) {
        ++last;
        CHECK(arrived == 5);
      }
    });
    CHECK(last == 1);
    CHECK(counter == 0);
  }
}
