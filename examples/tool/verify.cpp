// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/verify.hpp>

#include <nlohmann/json.hpp>

namespace tool {

void run(const Verify& o) {
  rwkv::ThreadPool pool(o.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(o.model);
  const auto model = load(checkpoint, pool, load_options(o));
  const auto result = rwkv::verify(model, checkpoint, pool);
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
                    ": this program computes other logits than the one that wrote the file");
}

}  // namespace tool
