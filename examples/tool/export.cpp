// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/io/atomic_file.hpp>
#include <rwkv/io/static_source.hpp>

namespace tool {

void run(const Export& options) {
  check_writable(options.out);
  rwkv::LoadOptions load_options;
  load_options.adapters = read_adapters(options.adapters);
  if (!options.type.empty()) {
    load_options.matrix_type = options.type == "f16"    ? rwkv::DType::f16
                               : options.type == "bf16" ? rwkv::DType::bf16
                                                        : rwkv::DType::f32;
    load_options.table_type = load_options.matrix_type;
  }
  rwkv::ThreadPool pool;
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  if (rwkv::io::sparse_blocks_of(checkpoint) > 0)
    rwkv::fail_with(rwkv::ErrorCategory::unsupported, options.model,
                    ": static models have no sparse-attention blocks, and this is an RWKV-X model");
  const auto model = load(checkpoint, pool, load_options);
  const std::string source = rwkv::io::static_source(model.weights(), options.name);
  rwkv::io::AtomicFile file(options.out);
  file.write(std::as_bytes(std::span(source)));
  file.commit();
}

}  // namespace tool
