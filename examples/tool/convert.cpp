// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include "random_model.hpp"
#include <rwkv/calibrate.hpp>
#include <rwkv/convert.hpp>

namespace tool {

namespace {

rwkv::FileFormat format_for(const Convert& options) {
  const std::string ending = std::filesystem::path(options.out).extension().string();
  const std::string format = !options.format.empty() ? options.format
                             : ending == ".gguf"     ? "gguf"
                             : ending == ".st"
                                 ? "safetensors"
                                 : ending.substr(std::min<std::size_t>(1, ending.size()));
  if (format == "gguf") return rwkv::FileFormat::gguf;
  if (format == "safetensors") return rwkv::FileFormat::safetensors;
  rwkv::fail_with(rwkv::ErrorCategory::argument, options.out,
                  ": this name ends in neither .gguf nor .safetensors; say which with --format");
}

rwkv::io::Vocabulary vocabulary_in(const std::string& path) {
  const auto tokenizer = rwkv::Tokenizer::from_vocab_file(path);
  rwkv::io::Vocabulary vocabulary;
  for (std::size_t id = 0; id < tokenizer.vocab_size(); ++id)
    vocabulary.emplace_back(tokenizer.token_bytes(static_cast<rwkv::Token>(id)));
  return vocabulary;
}

/// What the columns of the matrices are multiplied with while the model reads a text.
rwkv::Importance importance_for(const Convert& o, const rwkv::io::Checkpoint& checkpoint,
                                rwkv::ThreadPool& pool) {
  if (!rwkv::is_block(rwkv::type_named(o.type).value()))
    rwkv::fail_with(rwkv::ErrorCategory::argument, "--calibrate is for types of blocks, and ",
                    o.type, " is none");
  const auto model = load(checkpoint, pool, {.inputs = rwkv::kernels::Inputs::exact});
  const auto tokenizer = tokenizer_for(o.vocab, checkpoint, model.shape().vocab());
  std::vector<rwkv::Token> text;
  tokenizer.encode(read_all(o.calibrate), text);
  if (text.empty())
    rwkv::fail_with(rwkv::ErrorCategory::argument, o.calibrate, ": there is no text in this file");
  Progress progress("calibrating");
  return rwkv::calibrate(model, text, pool, std::ref(progress));
}

}  // namespace

void run(const Convert& o) {
  rwkv::ConvertOptions options;
  options.format = format_for(o);
  options.type = rwkv::type_named(o.type).value();  // main.cpp lets no other names through
  options.self_test = o.self_test;
  options.keep = o.keep;
  if (!o.vocab.empty()) options.vocabulary = vocabulary_in(o.vocab);
  rwkv::ThreadPool pool(o.threads);
  const auto checkpoint = o.shape.empty() ? rwkv::io::read_checkpoint(o.model)
                                          : random_checkpoint(o.shape, rwkv::DType::f16);
  if (!o.calibrate.empty()) options.importance = importance_for(o, checkpoint, pool);
  Progress progress("converting");
  options.progress = std::ref(progress);
  rwkv::convert(checkpoint, o.out, options, pool);
}

}  // namespace tool
