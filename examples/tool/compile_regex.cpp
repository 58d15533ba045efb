// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/automata.hpp>

namespace tool {

void run(const CompileRegex& options) {
  const auto dfa = rwkv::automata::from_regex(options.pattern);
  rwkv::automata::save(options.out, rwkv::automata::compile(dfa));
}

}  // namespace tool
