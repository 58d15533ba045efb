// SPDX-License-Identifier: Apache-2.0
// Writes a model as C++ source: a Shape and a constant StaticWeights, for static_model.hpp.
#pragma once

#include <rwkv/io/stored_weights.hpp>

#include <cmath>
#include <cstdio>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

class SourceWriter {
 public:
  explicit SourceWriter(std::string& out) : out_(out) {}

  void open() { out_ += "{"; }
  void close() { out_ += "}"; }

  void array(const float* values, std::size_t n) {
    open();
    for (std::size_t i = 0; i < n; ++i) element(values[i]);
    close();
    next();
  }

  /// `n` elements of a packed matrix or of the table; zeros where the model has none.
  void array(DType type, const void* data, std::size_t n) {
    open();
    for (std::size_t i = 0; i < n; ++i) switch (type) {
        case DType::f16:
          element(data ? static_cast<const half*>(data)[i].bits : std::uint16_t{0});
          break;
        case DType::bf16:
          element(data ? static_cast<const bfloat16*>(data)[i].bits : std::uint16_t{0});
          break;
        default:
          element(data ? static_cast<const float*>(data)[i] : 0.0f);
          break;
      }
    close();
    next();
  }

  /// Zeros where there is no norm.
  void norm(const NormWeights& n, std::size_t c) {
    open();
    array(DType::f32, n.weight, c);
    array(DType::f32, n.bias, c);
    close();
    next();
  }

  /// With a comma behind it.
  void number(float value) { element(value); }

  void next() { out_ += ",\n"; }

 private:
  void element(float f) {
    if (!std::isfinite(f))
      fail(ErrorCategory::numeric,
           "a weight is not a finite number and cannot be written as source");
    // An integer times a power of two: exact, and without the decimal point that %a would take from
    // the program's locale.
    int exponent = 0;
    const float fraction = std::frexp(std::abs(f), &exponent);
    char text[32];
    std::snprintf(text, sizeof text, "%s0x%xp%df,", std::signbit(f) ? "-" : "",
                  static_cast<unsigned>(fraction * 0x1p24f), exponent - 24);
    put(text);
  }
  void element(std::uint16_t bits) {
    char text[16];
    std::snprintf(text, sizeof text, "{0x%04x},", static_cast<unsigned>(bits));
    put(text);
  }
  void put(const char* text) {
    out_ += text;
    if (++column_ % 8 == 0) out_ += '\n';
  }

  std::string& out_;
  std::size_t column_ = 0;
};

}  // namespace detail

/// C++ source that defines `Shape` and `constexpr weights` in namespace `name`. All matrices and
/// the embedding table must have one storage type (load with LoadOptions::matrix_type and a table
/// of that type). Throws Error.
[[nodiscard]] inline std::string static_source(const StoredWeights& w, const std::string& name) {
  const Dimensions& d = w.dimensions();
  const DType type = w.head().type;
  if (w.emb().type != type)
    fail_with(ErrorCategory::unsupported, "the embedding table is ",
              std::string(name_of(w.emb().type)), " but the head is ", std::string(name_of(type)),
              ": static models have one element type");
  const char* element = type == DType::f16    ? "rwkv::half"
                        : type == DType::bf16 ? "rwkv::bfloat16"
                                              : "float";

  std::string out =
      "// Written by `rwkv export`. Do not edit.\n#pragma once\n\n#include "
      "<rwkv/static_model.hpp>\n\n";
  out += "static_assert(rwkv::kernels::panel_layout == " + std::to_string(kernels::panel_layout) +
         ", \"written for another version of rwkv: export the model again\");\n\n";
  out += "namespace " + name + " {\n\nusing Shape = rwkv::Shape<";
  const std::size_t dims[] = {d.layers,     d.embed,    d.head_size,  d.ffn,      d.vocab,
                              d.decay_rank, d.icl_rank, d.value_rank, d.gate_rank};
  for (std::size_t i = 0; i < std::size(dims); ++i)
    out += (i ? ", " : "") + std::to_string(dims[i]);
  out += ">;\n\nalignas(64) inline constexpr rwkv::StaticWeights<Shape, ";
  out += element;
  out += "> weights = {\n";

  const std::size_t c = d.embed;
  detail::SourceWriter write(out);
  const auto matrix = [&](const AnyMatrix& m, std::size_t rows, std::size_t cols) {
    if (m.data != nullptr && m.type != type)
      fail_with(ErrorCategory::unsupported, "matrices of types ", std::string(name_of(m.type)),
                " and ", std::string(name_of(type)),
                " in one model: static models have one element type");
    write.array(type, m.data, kernels::panel_elements(rows, cols));
  };
  write.array(type, w.emb().data, d.vocab * c);
  write.norm(w.ln0(), c);
  write.open();
  for (std::size_t i = 0; i < d.layers; ++i) {
    const auto& b = w.block(i);
    write.open();
    write.norm(b.ln1, c);
    for (const float* v : {b.att.x_r, b.att.x_w, b.att.x_k, b.att.x_v, b.att.x_a, b.att.x_g,
                           b.att.w0, b.att.a0, b.att.k_k, b.att.k_a, b.att.r_k})
      write.array(v, c);
    matrix(b.att.w1, d.decay_rank, c);
    matrix(b.att.w2, c, d.decay_rank);
    matrix(b.att.a1, d.icl_rank, c);
    matrix(b.att.a2, c, d.icl_rank);
    matrix(b.att.g1, d.gate_rank, c);
    matrix(b.att.g2, c, d.gate_rank);
    for (const AnyMatrix& m : {b.att.receptance, b.att.key, b.att.value, b.att.output})
      matrix(m, c, c);
    write.norm(b.att.ln_x, c);
    write.norm(b.ln2, c);
    write.array(b.ffn.x_k, c);
    matrix(b.ffn.key, d.ffn, c);
    matrix(b.ffn.value, c, d.ffn);
    write.close();
    write.next();
  }
  write.close();
  write.next();
  write.open();
  const std::size_t rank = (std::max<std::size_t>)(d.value_rank, 1);
  const std::vector<float> zeros(c, 0.0f);
  for (std::size_t i = 1; i < (std::max<std::size_t>)(d.layers, 2); ++i) {
    const bool exists = i < d.layers;
    write.open();
    write.array(exists ? w.block(i).att.v0 : zeros.data(), c);
    matrix(exists ? w.block(i).att.v1 : AnyMatrix{}, rank, c);
    matrix(exists ? w.block(i).att.v2 : AnyMatrix{}, c, rank);
    write.close();
    write.next();
  }
  write.close();
  write.next();
  write.norm(w.ln_out(), c);
  matrix(w.head(), d.vocab, c);
  out += w.eigenvalues() == Eigenvalues::extended ? "rwkv::Eigenvalues::extended"
                                                  : "rwkv::Eigenvalues::standard";
  if (w.norms() != NormSettings{}) {
    out += ",\n";
    write.number(w.norms().layer_norm_epsilon);
    write.number(w.norms().group_norm_epsilon);
    out += w.norms().normalised_table ? "true" : "false";
  }
  out += "};\n\n}  // namespace " + name + "\n";
  return out;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
