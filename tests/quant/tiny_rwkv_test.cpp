// SPDX-License-Identifier: Apache-2.0
// A published model whose matrices are blocks, against float64 goldens of the exactly decoded
// weights.
#include "../support/golden.hpp"
#include <rwkv/io/ggmf.hpp>

#include <doctest/doctest.h>

#ifdef RWKV_GOLDENS

namespace {

// The same checkpoint with all blocks decoded.
rwkv::io::Checkpoint in_floats(rwkv::io::Checkpoint checkpoint) {
  for (auto& [name, tensor] : checkpoint.tensors) {
    if (!rwkv::is_block(tensor.dtype)) continue;
    const auto values = std::make_shared<const std::vector<float>>(tensor.values());
    tensor.dtype = rwkv::DType::f32;
    tensor.stride = rwkv::io::c_order(tensor.shape);
    tensor.bytes = std::as_bytes(std::span(*values));
    checkpoint.storage.push_back(values);
  }
  return checkpoint;
}

}  // namespace

TEST_CASE("a model of decoded blocks computes the golden logits") {
  const auto folder = std::filesystem::path(RWKV_GOLDENS) / "tiny-rwkv";
  const auto want = golden::read(folder / "golden.safetensors");
  const auto tokens = golden::tokens(want, "tokens");
  const auto positions = want.get("positions").values<std::size_t>();
  for (const std::string type : {"Q5_0", "Q5_1"}) {
    CAPTURE(type);
    const rwkv::io::MappedFile file(folder / ("tiny-rwkv-7v0-834K-" + type + ".bin"));
    const auto checkpoint = rwkv::io::read_ggmf(file.bytes(), type);
    CHECK(checkpoint.get("blocks.3.ffn.key.weight").dtype ==
          (type == "Q5_0" ? rwkv::DType::q5_0 : rwkv::DType::q5_1));
    const rwkv::Model<> model(in_floats(checkpoint));
    const std::size_t vocab = model.shape().vocab();
    rwkv::State state(model.shape());
    rwkv::Workspace work(model.shape(), 64);
    std::vector<float> logits(tokens.size() * vocab);
    const rwkv::Slot<> slot{&state, tokens};
    model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
    const auto logits64 = want.get(type + ".logits").values<double>();
    for (std::size_t p = 0; p < positions.size(); ++p)
      CHECK(golden::max_error(std::span(logits).subspan(positions[p] * vocab, vocab),
                              {logits64.begin() + static_cast<std::ptrdiff_t>(p * vocab),
                               logits64.begin() + static_cast<std::ptrdiff_t>((p + 1) * vocab)}) <=
            2e-5);
  }
}

#endif
