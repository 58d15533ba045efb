// SPDX-License-Identifier: Apache-2.0
// make_source <model.safetensors> <golden.safetensors> <directory>
// Writes weights.hpp and golden.hpp, which main.cpp includes.
#include "support/golden.hpp"
#include <rwkv/io/static_source.hpp>

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
          const std::filesystem::path& directory) {
  const rwkv::Model<> loaded(golden::read(model));
  std::ofstream weights(directory / "weights.hpp");
  weights << rwkv::io::static_source(loaded.weights(), "firmware");

  const auto want = golden::read(golden_file);
  auto logits = want.get("logits").values<float>();
  logits.erase(logits.begin(), logits.end() - static_cast<long>(loaded.shape().vocab()));
  std::ofstream golden(directory / "golden.hpp");
  golden << std::showpoint << std::setprecision(9);
  golden << "// Written by make_source.\n#pragma once\n\n#include <rwkv/core/config.hpp>\n\n"
            "namespace firmware {\n\n";
  array(golden, "rwkv::Token", "tokens", golden::tokens(want, "tokens"));
  array(golden, "rwkv::Token", "argmax", golden::tokens(want, "argmax"));
  array(golden, "float", "last_logits", logits);
  golden << "\n}  // namespace firmware\n";
  if (!weights.flush() || !golden.flush()) throw std::runtime_error("cannot write the source");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::invalid_argument("usage: make_source MODEL GOLDEN DIRECTORY");
    make(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
