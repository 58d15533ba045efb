// SPDX-License-Identifier: Apache-2.0
// make_models <examples/models> <directory>
// Writes what the programs of examples/firmware include and link in, as `rwkv export` does.
#include <rwkv/automata/spelling.hpp>
#include <rwkv/automata/static_spelling.hpp>
#include <rwkv/io/read.hpp>
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/io/vocabulary_file.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/text/static_vocabulary_writer.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace {

void write(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

void make(const std::filesystem::path& model, const std::filesystem::path& directory,
          const std::string& name, const std::string& type, bool quads = true) {
  const auto checkpoint = rwkv::io::read_checkpoint(model);
  rwkv::LoadOptions options;
  if (!type.empty()) options = rwkv::quantised(*rwkv::type_named(type));
  const rwkv::io::StoredWeights weights(checkpoint, options);
  const auto blobs = rwkv::io::static_blob(weights, {.quads = quads});
  std::filesystem::create_directories(directory);
  write(directory / (name + ".bin"), blobs.core);
  std::string header = rwkv::io::static_blob_header(weights, blobs, name);
  if (checkpoint.metadata.contains("rwkv.automaton"))
    header += rwkv::automata::static_spelling(rwkv::automata::Spelling::read(checkpoint), name);
  if (const auto vocabulary = rwkv::io::vocabulary_of(checkpoint))
    write(directory / (name + ".vocabulary"),
          rwkv::static_vocabulary(rwkv::Tokenizer(vocabulary->tokens, vocabulary->source)));
  write(directory / (name + ".hpp"), std::as_bytes(std::span(header)));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 3) throw std::invalid_argument("usage: make_models MODELS DIRECTORY");
    const std::filesystem::path models = argv[1], out = argv[2];
    for (const std::string name : {"tales", "reverse"})
      for (const bool quads : {true, false})  // false: for processors with vectors
        make(models / name / (name + ".safetensors"),
             out / (name + (quads ? "_q8_0" : "_q8_0_panels")), name, "q8_0", quads);
    // The same program tells the tales of a smaller model.
    make(models / "fables" / "fables.safetensors", out / "fables_q8_0", "tales", "q8_0");
    make(models / "automata" / "date.safetensors", out / "date_f32", "date", "");
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
