// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/automata/static_spelling.hpp>
#include <rwkv/io/atomic_file.hpp>
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/io/static_source.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/text/static_vocabulary_writer.hpp>

#include <filesystem>

namespace tool {

namespace {

void write(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  rwkv::io::AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace

void run(const Export& options) {
  using rwkv::ErrorCategory;
  const bool blob = options.format == "blob";
  const bool quads = options.order == "quads";
  if (!options.vocab.empty() && options.vocabulary.empty())
    rwkv::fail(ErrorCategory::argument, "--vocab is for --vocabulary, which is missing");
  if (options.model.empty() && !options.vocab.empty() && options.out.empty()) {
    if (blob || quads || !options.type.empty() || !options.blob.empty() ||
        !options.tables.empty() || !options.adapters.empty())
      rwkv::fail(ErrorCategory::argument,
                 "--format, --order, --type, --blob, --tables and --adapter are for a MODEL");
    require_apart({{"--vocab", options.vocab}, {"--vocabulary", options.vocabulary}});
    write(options.vocabulary,
          rwkv::static_vocabulary(rwkv::Tokenizer::from_vocab_file(options.vocab)));
    return;
  }
  if (options.model.empty() || options.out.empty())
    rwkv::fail(ErrorCategory::argument,
               "a MODEL needs --out, and the other way round; without both, --vocab and "
               "--vocabulary say what to write");
  if (!blob && (quads || !options.blob.empty() || !options.tables.empty()))
    rwkv::fail(ErrorCategory::argument, "--blob, --tables and --order are for --format blob");
  const auto type = rwkv::type_named(options.type);
  if (!blob && type && is_block(*type))
    rwkv::fail_with(ErrorCategory::argument, "matrices of ", options.type,
                    " need --format blob: source has one type of numbers");
  std::filesystem::path blob_path = options.blob;
  if (blob && blob_path.empty())
    blob_path = std::filesystem::path(options.out).replace_extension(".bin");
  if (!blob) blob_path.clear();
  require_apart({{"the model", options.model},
                 {"--out", options.out},
                 {"the blob", blob_path},
                 {"--tables", options.tables},
                 {"--vocab", options.vocab},
                 {"--vocabulary", options.vocabulary}});
  check_writable(options.out);
  if (std::error_code none; blob && options.blob.empty() &&
                            std::filesystem::exists(options.out, none) &&
                            !std::filesystem::is_regular_file(options.out, none))
    rwkv::fail_with(ErrorCategory::argument, options.out,
                    " is no file with a place beside it for the blob: --blob names one");
  if (blob) check_writable(blob_path.string());
  if (!options.tables.empty()) check_writable(options.tables);
  if (!options.vocabulary.empty()) check_writable(options.vocabulary);

  rwkv::LoadOptions load_options;
  if (type && is_block(*type)) {
    load_options = rwkv::quantised(*type);
  } else if (type) {
    load_options.matrix_type = type;
    load_options.table_type = type;
  }
  load_options.adapters = read_adapters(options.adapters);
  rwkv::ThreadPool pool;
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  if (rwkv::io::sparse_blocks_of(checkpoint) > 0)
    rwkv::fail_with(ErrorCategory::unsupported, options.model,
                    ": static models have no sparse-attention blocks, and this is an RWKV-X model");
  const auto model = load(checkpoint, pool, load_options);
  std::string source;
  rwkv::io::StaticBlobs blobs;
  if (blob) {
    blobs = rwkv::io::static_blob(model.weights(),
                                  {.tables_apart = !options.tables.empty(), .quads = quads});
    source = rwkv::io::static_blob_header(model.weights(), blobs, options.name);
  } else {
    source = rwkv::io::static_source(model.weights(), options.name);
  }
  if (checkpoint.metadata.contains("rwkv.automaton"))
    source +=
        rwkv::automata::static_spelling(rwkv::automata::Spelling::read(checkpoint), options.name);
  std::vector<std::byte> vocabulary;
  if (!options.vocabulary.empty())
    vocabulary =
        rwkv::static_vocabulary(tokenizer_for(options.vocab, checkpoint, model.shape().vocab()));

  if (!options.vocabulary.empty()) write(options.vocabulary, vocabulary);
  if (blob) write(blob_path, blobs.core);
  if (!options.tables.empty()) write(options.tables, blobs.tables);
  write(options.out, std::as_bytes(std::span(source)));
}

}  // namespace tool
