// SPDX-License-Identifier: Apache-2.0
// What a state in 16 bits costs: bits per byte of a text by `tales`, in one sequence, with the state
// in floats, in each kind of rwkv::CompactState, and in integers (rwkv::FixedState, which wants f32,
// f16, bf16 or q8_0).
//
//   compact_state examples/models/tales/tales.safetensors TEXT [BYTES] [TYPE]
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/model.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/simd/chosen.hpp>
#include <rwkv/static_blob.hpp>
#include <rwkv/static_compact_state.hpp>
#include <rwkv/static_fixed_state.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

namespace {

using Shape = rwkv::Shape<6, 128, 32, 544, 256, 16, 16, 16, 32>;
using Weights = rwkv::StaticBlob<Shape, rwkv::DType::f32, rwkv::DType::f16, rwkv::DType::bf16,
                                 rwkv::DType::q8_0>;
using Model = rwkv::StaticModel<Weights, rwkv::simd::Chosen>;

template <class State, class Work>
void measure(const char* name, const Model& model, const std::string& text) {
  const auto state = std::make_unique<State>();
  const auto work = std::make_unique<Work>();
  double bits = 0;
  rwkv::Token token = 0;
  for (const char c : text) {
    const auto logits = model.forward(*state, std::span(&token, 1), *work);
    const double largest = static_cast<double>(logits[rwkv::argmax(logits)]);
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x) - largest);
    token = static_cast<unsigned char>(c);
    bits += (std::log(sum) + largest - static_cast<double>(logits[token])) / std::log(2.0);
  }
  std::printf("%-24s %7zu bytes  %.5f bits per byte\n", name, sizeof(State),
              bits / static_cast<double>(text.size()));
  std::fflush(stdout);
}

template <class T, rwkv::Rounding rounding>
void measure(const char* name, const Model& model, const std::string& text) {
  measure<rwkv::CompactState<Shape, T, rounding>, rwkv::CompactWorkspace<Shape>>(name, model, text);
}

void run(int argc, char** argv) {
  if (argc < 3) throw std::invalid_argument("usage: compact_state MODEL TEXT [BYTES] [TYPE]");
  rwkv::LoadOptions options;
  if (argc > 4)
    if (const auto type = rwkv::type_named(argv[4])) options = rwkv::quantised(*type);
  const auto loaded = rwkv::load(argv[1], options);
  std::ifstream file(argv[2], std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.empty()) throw std::invalid_argument("there is no text to read");
  if (argc > 3) text.resize(std::min(text.size(), std::size_t{std::stoul(argv[3])}));

  const auto blob = rwkv::io::static_blob(loaded.weights());
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines(blob.core.size() / 64 + 1);
  std::memcpy(lines.data(), blob.core.data(), blob.core.size());
  const char* why = nullptr;
  const auto weights = Weights::from(std::as_bytes(std::span(lines)), &why);
  if (!weights) throw std::invalid_argument(why);
  const Model model(*weights);
  using rwkv::Rounding;
  measure<rwkv::State<Shape>, rwkv::Workspace<Shape, 1>>("float", model, text);
  measure<rwkv::half, Rounding::nearest>("half, nearest", model, text);
  measure<rwkv::half, Rounding::stochastic>("half, stochastic", model, text);
  measure<rwkv::bfloat16, Rounding::nearest>("bfloat16, nearest", model, text);
  measure<rwkv::bfloat16, Rounding::stochastic>("bfloat16, stochastic", model, text);
  measure<rwkv::FixedState<Shape>, rwkv::FixedWorkspace<Shape>>("integers", model, text);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
