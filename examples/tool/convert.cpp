// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include "random_model.hpp"
#include <rwkv/calibrate.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/io/vocabulary_file.hpp>
#include <rwkv/text/chat_template.hpp>

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

/// The vocabulary that the new file will carry. A model does without if need be; `why_none` then
/// says why.
std::optional<rwkv::io::Vocabulary> vocabulary_for(const Convert& o,
                                                   const rwkv::io::Checkpoint& checkpoint,
                                                   std::string& why_none) {
  if (!o.vocab.empty()) return rwkv::io::read_vocabulary(std::filesystem::path(o.vocab));
  if (!o.shape.empty() || checkpoint.vocabulary) return checkpoint.vocabulary;
  why_none = "there is none in the model's file or folder";
  try {
    if (auto found = rwkv::io::vocabulary_of(checkpoint)) {
      why_none.clear();
      return std::move(found->tokens);
    }
  } catch (const rwkv::Error& error) {
    why_none = error.what();
  }
  return {};
}

/// What the columns of the matrices are multiplied with while the model reads a text.
rwkv::Importance importance_for(const Convert& o, const rwkv::io::Checkpoint& checkpoint,
                                rwkv::ThreadPool& pool) {
  if (!rwkv::is_block(rwkv::type_named(o.type).value()))
    rwkv::fail_with(rwkv::ErrorCategory::argument, "--calibrate is for types of blocks, and ",
                    o.type, " is none");
  if (rwkv::io::sparse_blocks_of(checkpoint) > 0)
    rwkv::fail_with(rwkv::ErrorCategory::unsupported, checkpoint.source,
                    ": RWKV-X models are written as safetensors of floats only");
  const auto model =
      load(checkpoint, pool,
           {.inputs = rwkv::kernels::Inputs::exact, .adapters = read_adapters(o.adapters)});
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
  options.adapters = read_adapters(o.adapters);
  if (!o.form.empty())
    options.chat_template = rwkv::chat::jinja_of(rwkv::chat::template_named(o.form));
  rwkv::ThreadPool pool(o.threads);
  const auto checkpoint = o.shape.empty()
                              ? rwkv::io::read_checkpoint(o.model)
                              : random_checkpoint(o.shape, rwkv::DType::f16, o.ffn_zeros);
  std::string why_none;
  options.vocabulary = vocabulary_for(o, checkpoint, why_none);
  check_writable(o.out);
  if (!o.calibrate.empty()) options.importance = importance_for(o, checkpoint, pool);
  if (o.shape.empty() && o.form.empty())
    options.chat_template = rwkv::chat::find_template(o.model, checkpoint.metadata).jinja;
  {
    Progress progress("converting");
    const Interrupt interrupt;
    options.progress = [&](double done) {
      if (Interrupt::requested()) throw Interrupted{};  // the unfinished file goes
      progress(done);
    };
    rwkv::convert(checkpoint, o.out, options, pool);
  }
  if (!why_none.empty())
    std::fprintf(stderr, "note: %s carries no vocabulary: %s; name one with --vocab\n",
                 o.out.c_str(), why_none.c_str());
}

}  // namespace tool
