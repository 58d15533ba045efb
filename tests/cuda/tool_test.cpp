// SPDX-License-Identifier: Apache-2.0
// What the tool does with --device cuda, on the emulated device.
#include "../../examples/tool/tool.hpp"

#include "support/temporary_directory.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

namespace {

const std::string model = RWKV_TEST_DATA "/golden_l3_c48_bf16.model.safetensors";
const std::string tales = RWKV_MODELS "/tales/tales.safetensors";

template <class Options>
std::string printed(const Options& options) {
  const std::ostringstream out;
  std::streambuf* const before = std::cout.rdbuf(out.rdbuf());
  try {
    tool::run(options);
  } catch (...) {
    std::cout.rdbuf(before);
    throw;
  }
  std::cout.rdbuf(before);
  return out.str();
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("rwkv generate writes on the device what it writes on the CPU") {
  tool::Generate options;
  options.model = tales;
  options.tokens = 3;
  options.prompt = "The king";
  options.sampling.temperature = 0;
  options.threads = 1;
  const std::string on_cpu = printed(options);
  options.device = "cuda";
  CHECK(printed(options) == on_cpu);
}

TEST_CASE("rwkv logits gives the same bits on the device in chunks of any size") {
  const test::TemporaryDirectory folder;
  std::ofstream(folder / "tokens") << "1 5 9 3 30 2 7 7 12 0 4";
  tool::LogitsOptions options;
  options.model = model;
  options.tokens = (folder / "tokens").string();
  options.device = "cuda";
  options.threads = 1;
  std::string first;
  for (const std::size_t chunk : {0u, 1u, 7u, 64u}) {
    CAPTURE(chunk);
    options.chunk = chunk;
    options.out = (folder / std::to_string(chunk)).string();
    options.state_out = options.out + ".state";
    tool::run(options);
    const std::string all = bytes_of(options.out) + bytes_of(options.state_out);
    if (first.empty()) first = all;
    CHECK(all == first);
  }
}
