// SPDX-License-Identifier: Apache-2.0
// make_source <model.safetensors> <golden.safetensors> <directory> [type [quads]]
// Writes weights.hpp and golden.hpp, which main.cpp includes. With a type the model is quantised and
// becomes a blob, whose results are compared with those of this program.
#include "support/golden.hpp"
#include <rwkv/core/argmax.hpp>
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/io/static_source.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/simd/level.hpp>

#include <cstdio>
#include <fstream>
#include <iomanip>

namespace {

template <class T>
void array(std::ostream& out, const char* type, const char* name, const std::vector<T>& values) {
  const char* const suffix = std::is_same_v<T, float> ? "F" : "";
  out << "inline constexpr " << type << " " << name << "[] = {";
  for (const T& value : values) out << value << suffix << ", ";
  out << "};\n";
}

void make(const std::string& model, const std::string& golden_file,
          const std::filesystem::path& directory, std::optional<rwkv::DType> type, bool quads) {
  rwkv::LoadOptions options;
  if (type) options = rwkv::quantised(*type);
  const rwkv::Model<> loaded(golden::read(model), options);
  const std::size_t vocab = loaded.shape().vocab();
  std::ofstream weights(directory / "weights.hpp");
  const auto want = golden::read(golden_file);
  const auto tokens = golden::tokens(want, "tokens");
  auto argmax = golden::tokens(want, "argmax");
  auto logits = want.get("logits").values<float>();
  float tolerance = 1e-4f;
  if (!type) {
    weights << rwkv::io::static_source(loaded.weights(), "firmware");
  } else {
    const auto blobs = rwkv::io::static_blob(loaded.weights(), {.quads = quads});
    std::ofstream blob(directory / "weights.bin", std::ios::binary);
    blob.write(reinterpret_cast<const char*>(blobs.core.data()),
               static_cast<std::streamsize>(blobs.core.size()));
    if (!blob.flush()) throw std::runtime_error("cannot write the blob");
    weights << rwkv::io::static_blob_header(loaded.weights(), blobs, "firmware")
            << "\n#define FIRMWARE_BLOB\nRWKV_EMBED(firmware_blob, \""
            << (directory / "weights.bin").string() << "\");\n";
    rwkv::State state(loaded.shape());
    rwkv::Workspace work(loaded.shape());
    const rwkv::Slot<> slot{&state, tokens};
    loaded.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
    for (std::size_t t = 0; t < tokens.size(); ++t)
      argmax[t] = rwkv::argmax(std::span<const float>(logits).subspan(t * vocab, vocab));
    // The same bits where both sides have a fused multiply-add. One rounding more can change a
    // rounded input by a step.
    tolerance = rwkv::simd::level() == rwkv::simd::Level::compiled ? 1e-2f : 0;
  }
  logits.erase(logits.begin(), logits.end() - static_cast<long>(vocab));
  std::ofstream golden(directory / "golden.hpp");
  golden << std::showpoint << std::setprecision(9);
  golden << "// Written by make_source.\n#pragma once\n\n#include <rwkv/core/config.hpp>\n\n"
            "namespace firmware {\n\n";
  array(golden, "rwkv::Token", "tokens", tokens);
  array(golden, "rwkv::Token", "argmax", argmax);
  array(golden, "float", "last_logits", logits);
  golden << "#if defined(__FMA__) || defined(__FP_FAST_FMAF) || defined(__ARM_FEATURE_FMA)\n"
         << "inline constexpr float tolerance = " << tolerance << "F;\n#else\n"
         << "inline constexpr float tolerance = " << (type ? 1e-2f : tolerance)
         << "F;\n#endif\n\n}  // namespace firmware\n";
  if (!weights.flush() || !golden.flush()) throw std::runtime_error("cannot write the source");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 4 || argc > 6)
      throw std::invalid_argument("usage: make_source MODEL GOLDEN DIRECTORY [TYPE [quads]]");
    make(argv[1], argv[2], argv[3], argc > 4 ? rwkv::type_named(argv[4]) : std::nullopt, argc > 5);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
