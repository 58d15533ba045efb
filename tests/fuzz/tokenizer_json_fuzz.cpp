// SPDX-License-Identifier: Apache-2.0
// A Hugging Face tokenizer.json: it is refused with a sentence, or it makes a tokenizer that keeps
// its promises.
#include <rwkv/tokenizer.hpp>

#include <stdexcept>

namespace {

void require(bool promise, const char* what) {
  if (!promise) throw std::logic_error(what);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = rwkv::Tokenizer::from_tokenizer_json(input, "file");
    require(tokenizer.ids_in_use() > 0, "a vocabulary without tokens");
    for (rwkv::Token id = 0; id < tokenizer.vocab_size(); ++id) {
      const std::string_view bytes = tokenizer.token_bytes(id);
      require(bytes.empty() || tokenizer.encode(bytes) == std::vector{id},
              "an entry does not encode to itself");
    }
  } catch (const rwkv::Error& error) {
    require(std::string_view(error.what()).starts_with("file: "), "a sentence without the file");
  }
  return 0;
}
