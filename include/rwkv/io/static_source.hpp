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

  /// Opens and closes braces until those of the member `path` ("att.ln_x.") of a block are open.
  void within(std::string_view path) {
    while (!path.starts_with(path_)) {
      path_.resize(path_.rfind('.', path_.size() - 2) + 1);
      close();
      next();
    }
    while (path_.size() < path.size()) {
      path_ = path.substr(0, path.find('.', path_.size()) + 1);
      open();
    }
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
  std::string path_;
  std::size_t column_ = 0;
};

/// The members of a block that lead to a tensor's own: "att." of att.w1 and att.key.weight, "ln1."
/// of ln1.weight.
[[nodiscard]] constexpr std::string_view members_of(const TensorSpec& spec) noexcept {
  const bool vector = spec.role == TensorRole::vector;
  return spec.name.substr(0, (vector ? spec.name.rfind('.') : spec.name.find('.')) + 1);
}

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
  if (is_block(type))
    fail_with(ErrorCategory::unsupported, "the head is ", std::string(name_of(type)),
              ": source has one type of numbers; models with matrices of blocks become blobs "
              "(rwkv export --format blob), or are widened (--type f16)");
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
  if (d.deep_rank > 0) out += ", " + std::to_string(d.deep_rank);
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
  const auto tensor = [&](const TensorSpec& spec, const auto& values) {
    write.within(detail::members_of(spec));
    if constexpr (std::is_same_v<decltype(values), const AnyMatrix&>)
      if (spec.role == TensorRole::table) {
        if (values.type != type)
          fail_with(ErrorCategory::unsupported, "a table of DeepEmbed is ",
                    std::string(name_of(values.type)), " but the head is ",
                    std::string(name_of(type)), ": static models have one element type");
        return write.array(type, values.data, spec.size(d));
      }
    if constexpr (std::is_same_v<decltype(values), const AnyMatrix&>)
      matrix(values, spec.outputs(d), spec.inputs(d));
    else
      write.array(values, spec.size(d));
  };
  write.array(type, w.emb().data, d.vocab * c);
  write.norm(w.ln0(), c);
  write.open();
  for (std::size_t i = 0; i < d.layers; ++i) {
    const auto& b = w.block(i);
    write.open();
    for_each_block_tensor<false>(tensor, b);
    if (d.deep_rank > 0) for_each_deep_embed_tensor(tensor, b);
    write.within({});
    write.close();
    write.next();
  }
  write.close();
  write.next();
  write.open();
  Dimensions one_rank = d;  // of what a model of one block lacks, as arrays need an element
  one_rank.value_rank = (std::max<std::size_t>)(d.value_rank, 1);
  for (std::size_t i = 1; i < (std::max<std::size_t>)(d.layers, 2); ++i) {
    write.open();
    if (i < d.layers)
      for_each_value_residual_tensor(tensor, w.block(i));
    else
      for_each_value_residual_tensor([&](const TensorSpec& spec) {
        write.within(detail::members_of(spec));
        if (spec.role == TensorRole::vector)
          write.array(DType::f32, nullptr, spec.size(one_rank));
        else
          matrix({}, spec.outputs(one_rank), spec.inputs(one_rank));
      });
    write.within({});
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
