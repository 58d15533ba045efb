// SPDX-License-Identifier: Apache-2.0
// The parts of the library that rwkv.wasm has: RWKV-7 models in safetensors and GGUF files, which may
// be quantised to q8_0 and q4_0 as they are loaded. (The searches for the other types' scales would
// be a quarter of the program.)
// clang-format off
#include <rwkv/compiled/part.hpp>  // first
// clang-format on
#include <rwkv/core/decimal.hpp>
#include <rwkv/core/error.ipp>
#include <rwkv/generate.ipp>
#include <rwkv/io/deep_embed.hpp>
#include <rwkv/io/describe.ipp>
#include <rwkv/io/dimensions.ipp>
#include <rwkv/io/json_events.ipp>
#include <rwkv/io/model_settings.ipp>
#include <rwkv/io/read.ipp>
#include <rwkv/io/safetensors_writer.ipp>
#include <rwkv/io/stored_weights.ipp>
#include <rwkv/io/vocabulary_file.ipp>
#include <rwkv/io/weight_arena.ipp>
#include <rwkv/model.hpp>
#include <rwkv/quant/q4_0.hpp>
#include <rwkv/quant/q8_0.hpp>
#include <rwkv/quant/rows.ipp>
#include <rwkv/sampler.ipp>
#include <rwkv/shape_difference.ipp>
#include <rwkv/tokenizer.ipp>

#include <cstring>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail {

template void run(const io::StoredWeights&, std::span<const Slot<>>, Logits, const Outputs&,
                  Workspace<>&, ExecutorRef);

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

/// quant/quantise.hpp for these two; what cannot be held was refused before.
std::vector<std::byte> quantise(std::span<const float> matrix, std::size_t, std::size_t cols,
                                DType type, const QuantiseOptions&, ExecutorRef) {
  if (type != DType::q8_0 && type != DType::q4_0)
    fail_with(ErrorCategory::unsupported, "rwkv.wasm quantises to q8_0 and q4_0, not to ",
              std::string(name_of(type)), "; convert the model before");
  const std::size_t block = block_elements(type);
  if (cols % block != 0)
    fail_with(ErrorCategory::shape, "rows of ", cols, " numbers are no whole blocks of ", block);
  std::vector<std::byte> out(bytes_of(type, matrix.size()));
  for (std::size_t i = 0; i < matrix.size(); i += block) {
    std::byte* const to = &out[bytes_of(type, i)];
    type == DType::q8_0 ? Q8_0::encode(&matrix[i], nullptr, to)
                        : Q4_0::encode(&matrix[i], nullptr, to);
  }
  return out;
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// io/deep_embed.hpp: `rwkv convert` makes one part of two.
const Tensor& deep_residual_of(const Checkpoint& c, const Dimensions&, std::size_t) {
  fail_with(ErrorCategory::unsupported, c.source,
            ": rwkv.wasm reads no tables of DeepEmbed in two parts; convert the model before");
}
void refuse_changed_residual(const Checkpoint&, const Dimensions&, const WeightChanges*) {}
void add_deep_residual(const Checkpoint& c, const Dimensions& d, const NormWeights&,
                       std::size_t layer, std::span<float>, ExecutorRef,
                       const std::function<void()>&) {
  (void)deep_residual_of(c, d, layer);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

// What the standard libraries would print before they end the program nobody would read; and the JSON
// parser reads numbers with strtod, and shows a character that does not belong with snprintf: with
// the general functions, the program is a tenth larger.
extern "C" {
[[noreturn]] void abort_message(const char*, ...) { __builtin_trap(); }
int snprintf(char* text, std::size_t size, const char*, ...) {
  if (size > 0) *text = 0;
  return 0;
}
double strtod(const char* text, char** end) {
  const std::size_t size = std::strspn(text, "0123456789+-.eE");
  if (end != nullptr) *end = const_cast<char*>(text) + size;
  return rwkv::internal::read_decimal({text, size}).value_or(0);
}
float strtof(const char* text, char** end) { return static_cast<float>(strtod(text, end)); }
long double strtold(const char* text, char** end) { return strtod(text, end); }
}
namespace std::inline _LIBCPP_ABI_NAMESPACE {
[[noreturn]] void __libcpp_verbose_abort(const char*, ...) { __builtin_trap(); }
}  // namespace std::inline _LIBCPP_ABI_NAMESPACE
