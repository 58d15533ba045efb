// SPDX-License-Identifier: Apache-2.0
// Golden data: models with float64 logits and states, as tests/data/make_goldens.py writes them.
#pragma once

#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/model.hpp>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

namespace golden {

/// A safetensors file with the names it has in the file.
inline rwkv::io::Checkpoint read(const std::filesystem::path& path) {
  auto file = std::make_shared<rwkv::io::MappedFile>(path);
  auto checkpoint = rwkv::io::read_safetensors(file->bytes(), path.string());
  checkpoint.storage.push_back(std::move(file));
  return checkpoint;
}

struct Case {
  std::string name;
  std::filesystem::path model;
  std::filesystem::path golden;
};

/// Our own cases, and those of a reference directory when there is one.
inline std::vector<Case> cases() {
  const std::filesystem::path own = RWKV_TEST_DATA;
  std::vector<Case> all;
  for (const char* name : {"golden_l2_c32_f32", "golden_l3_c48_bf16", "golden_l2_c32_extended_f16"})
    all.push_back({name, own / (std::string(name) + ".model.safetensors"),
                   own / (std::string(name) + ".golden.safetensors")});
#ifdef RWKV_GOLDENS
  for (const char* name : {"r7_l2_c64", "r7_l3_c128", "r7_l4_c96", "r7_l2_c32"}) {
    const auto folder = std::filesystem::path(RWKV_GOLDENS) / "rwkv7" / name;
    all.push_back({name, folder / "model.safetensors", folder / "golden.safetensors"});
  }
#endif
  return all;
}

inline std::vector<rwkv::Token> tokens(const rwkv::io::Checkpoint& golden,
                                       const std::string& name) {
  return golden.get(name).values<rwkv::Token>();
}

/// A state from `<prefix>att_x_prev` [L,C], `wkv` [L,H,N value,N key], `ffn_x_prev` [L,C].
template <class Shape>
rwkv::State<Shape> state(const rwkv::io::Checkpoint& golden, const std::string& prefix,
                         const Shape& shape) {
  const auto att = golden.get(prefix + "att_x_prev").values();
  const auto wkv = golden.get(prefix + "wkv").values();
  const auto ffn = golden.get(prefix + "ffn_x_prev").values();
  const std::size_t c = shape.embed();
  const std::size_t n = shape.head_size();
  rwkv::State<Shape> s(shape);
  for (std::size_t l = 0; l < shape.layers(); ++l) {
    for (std::size_t i = 0; i < c; ++i) {
      s.att_x_prev(l)[i] = att[l * c + i];
      s.ffn_x_prev(l)[i] = ffn[l * c + i];
    }
    for (std::size_t h = 0; h < shape.heads(); ++h)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
          s.wkv(l)[(h * n + j) * n + i] = wkv[((l * shape.heads() + h) * n + i) * n + j];
  }
  return s;
}

/// A model with DeepEmbed, whose tables are in two parts.
inline Case deep_case() {
  const std::string name = "golden_l2_c32_deep_f32";
  const std::filesystem::path own = RWKV_TEST_DATA;
  return {name, own / (name + ".model.safetensors"), own / (name + ".golden.safetensors")};
}

struct StateError {
  double shift = 0;  ///< largest error of a token-shift row
  double wkv = 0;    ///< largest error of a matrix, divided by max(1, largest entry)
};

template <class Shape>
StateError state_error(const rwkv::State<Shape>& got, const rwkv::State<Shape>& want) {
  StateError e;
  double largest = 1;
  double wkv = 0;
  for (std::size_t l = 0; l < got.shape().layers(); ++l) {
    for (std::size_t i = 0; i < got.shape().embed(); ++i) {
      e.shift = std::max(e.shift, std::abs(double{got.att_x_prev(l)[i]} - want.att_x_prev(l)[i]));
      e.shift = std::max(e.shift, std::abs(double{got.ffn_x_prev(l)[i]} - want.ffn_x_prev(l)[i]));
    }
    for (std::size_t i = 0; i < got.wkv(l).size(); ++i) {
      largest = std::max(largest, std::abs(double{want.wkv(l)[i]}));
      wkv = std::max(wkv, std::abs(double{got.wkv(l)[i]} - want.wkv(l)[i]));
    }
  }
  e.wkv = wkv / largest;
  return e;
}

/// Largest |got - want| over `want.size()` numbers; NaN counts as infinitely wrong.
template <class Got>
double max_error(const Got& got, const std::vector<double>& want) {
  double worst = got.size() == want.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < want.size() && i < got.size(); ++i) {
    const double e = std::abs(double{got[i]} - want[i]);
    worst = e <= worst ? worst : (e > worst ? e : HUGE_VAL);
  }
  return worst;
}

}  // namespace golden
