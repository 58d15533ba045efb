// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/verify.hpp>

#include <nlohmann/json.hpp>

namespace tool {

namespace {

rwkv::Verification replay(const rwkv::io::Checkpoint& checkpoint, rwkv::ThreadPool& pool,
                          rwkv::kernels::Inputs inputs) {
  rwkv::Verification result;
  with_model(checkpoint, {}, pool, {.inputs = inputs}, [&](const rwkv::AnyModel& model, auto&&...) {
    result = model.hybrid() != nullptr ? rwkv::verify(*model.hybrid(), checkpoint, pool)
                                       : rwkv::verify(*model.rwkv7(), checkpoint, pool);
  });
  return result;
}

/// What makes this program compute other logits, as far as another run can tell.
std::string likely_cause(const rwkv::io::Checkpoint& checkpoint, rwkv::ThreadPool& pool,
                         const Verify& o, const rwkv::Verification& rounded) {
  using rwkv::kernels::Inputs;
  if (o.inputs == Inputs::exact) return "";
  bool affected = false;
  for (const auto& [name, tensor] : checkpoint.tensors)
    affected |= is_block(tensor.dtype) ||
                (o.inputs == Inputs::fastest && tensor.dtype == rwkv::DType::bf16);
  if (!affected) return "";
  const auto exact = replay(checkpoint, pool, Inputs::exact);
  char numbers[80];
  std::snprintf(numbers, sizeof numbers, " (relative error %.3g, not %.3g)", exact.relative_error(),
                rounded.relative_error());
  if (exact.passed())
    return std::string(
               "; the likely cause is rounding of inputs, as with --exact-inputs it passes") +
           numbers;
  return std::string("; rounding of inputs is not the cause: so it does with --exact-inputs") +
         numbers;
}

}  // namespace

void run(const Verify& o) {
  rwkv::ThreadPool pool(o.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(o.model);
  const auto result = replay(checkpoint, pool, o.inputs);
  if (o.json) {
    const nlohmann::ordered_json j = {{"passed", result.passed()},
                                      {"tokens", result.tokens},
                                      {"same_top", result.same_top},
                                      {"largest_error", result.largest_error},
                                      {"relative_error", result.relative_error()},
                                      {"tolerance", result.tolerance}};
    std::printf("%s\n", j.dump(2).c_str());
  } else {
    std::printf(
        "tokens          %zu\nsame top        %zu\nlargest error   %.3g\nrelative error  %.3g\n"
        "tolerance       %.3g\n",
        result.tokens, result.same_top, result.largest_error, result.relative_error(),
        result.tolerance);
  }
  if (!result.passed())
    rwkv::fail_with(rwkv::ErrorCategory::numeric, o.model,
                    ": this program computes other logits than the one that wrote the file",
                    likely_cause(checkpoint, pool, o, result));
}

}  // namespace tool
