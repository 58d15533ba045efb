// SPDX-License-Identifier: Apache-2.0
// The definitions of convert.hpp.
#pragma once

#include <rwkv/convert.hpp>
#include <rwkv/core/parse.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/io/deep_embed.hpp>
#include <rwkv/io/gguf_model.hpp>
#include <rwkv/io/hybrid_config.hpp>
#include <rwkv/io/keep_open.hpp>
#include <rwkv/io/narrow.hpp>
#include <rwkv/io/read.hpp>
#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/io/vocabulary_text.hpp>
#include <rwkv/verify.hpp>

#include <numeric>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// What to keep, the model's wishes first. Throws Error (argument, format) for a name that is none
/// of a matrix.
[[nodiscard]] inline std::vector<std::string> kept_tensors(const io::Checkpoint& checkpoint,
                                                           std::span<const io::LayoutEntry> layout,
                                                           const ConvertOptions& options) {
  std::vector<std::string> kept;
  const auto add = [&](const std::string& name, ErrorCategory category, std::string_view what) {
    const auto entry = std::find_if(layout.begin(), layout.end(),
                                    [&](const io::LayoutEntry& e) { return e.name == name; });
    if (entry == layout.end() || entry->role == io::Role::vector)
      fail_with(category, checkpoint.source, ": ", std::string(what), " ",
                io::detail::printable(name), ", which is no matrix of this model");
    if (std::find(kept.begin(), kept.end(), name) == kept.end()) kept.push_back(name);
  };
  for (const std::string& name : io::kept_matrices(checkpoint.metadata))
    add(name, ErrorCategory::format, "metadata rwkv.keep names");
  for (const std::string& name : options.keep) add(name, ErrorCategory::argument, "to keep");
  return kept;
}

[[nodiscard]] inline std::optional<io::Vocabulary> vocabulary_for(const io::Checkpoint& checkpoint,
                                                                  const ConvertOptions& options,
                                                                  std::size_t size) {
  auto vocabulary = options.vocabulary ? options.vocabulary : checkpoint.vocabulary;
  if (!vocabulary && size == 256 && options.format == FileFormat::gguf) {
    vocabulary.emplace();
    for (int byte = 0; byte < 256; ++byte) vocabulary->emplace_back(1, static_cast<char>(byte));
  }
  if (vocabulary && vocabulary->size() > size)
    for (std::size_t id = size; id < vocabulary->size(); ++id)
      if (!(*vocabulary)[id].empty())
        fail_with(ErrorCategory::argument, checkpoint.source, ": the vocabulary has token ", id,
                  ", the model only ", size, " tokens");
  return vocabulary;
}

/// The tuned state that a model may have; false if it has none.
[[nodiscard]] inline bool add_initial_state(std::vector<io::LayoutEntry>& layout,
                                            const io::Checkpoint& checkpoint, const Dimensions& d) {
  if (checkpoint.find("blocks.0.att.time_state") == nullptr) return false;
  for (std::size_t i = 0; i < d.layers; ++i)
    layout.push_back({"blocks." + std::to_string(i) + ".att.time_state",
                      {d.embed / d.head_size, d.head_size, d.head_size},
                      io::Role::matrix});
  return true;
}

/// "model" for "folder/model.pth", unless the file has a name for itself.
[[nodiscard]] inline std::string model_name(const io::Checkpoint& checkpoint) {
  const auto name = checkpoint.metadata.find("general.name");
  std::string text = name != checkpoint.metadata.end()
                         ? name->second
                         : std::filesystem::path(checkpoint.source).stem().string();
  return io::detail::is_utf8(text) ? text : "model";
}

/// What this library needs to know about a model besides its tensors, and room for a self-test.
[[nodiscard]] inline io::Metadata own_metadata(const io::Checkpoint& checkpoint,
                                               const ConvertOptions& options,
                                               std::span<const std::string> keep, std::size_t vocab,
                                               const io::NormSettings& norms) {
  io::Metadata metadata;
  if (options.self_test) {
    SelfTest none{some_tokens(vocab), (std::min)(vocab, self_test_top), {}, {}};
    metadata = to_metadata(none);
  }
  if (const auto it = checkpoint.metadata.find("rwkv.eigenvalues");
      it != checkpoint.metadata.end()) {
    if (it->second != "standard" && it->second != "extended")
      fail_with(ErrorCategory::unsupported, checkpoint.source, ": rwkv.eigenvalues is ",
                io::detail::printable(it->second), " (known: standard, extended)");
    metadata.insert(*it);
  }
  io::add_norm_settings(metadata, norms);
  for (auto it = checkpoint.metadata.lower_bound(io::hybrid_metadata);
       it != checkpoint.metadata.end() && it->first.starts_with(io::hybrid_metadata); ++it)
    metadata.insert(*it);
  if (const auto it = checkpoint.metadata.find(chat_template_key); !options.chat_template.empty())
    metadata.emplace(chat_template_key, options.chat_template);
  else if (it != checkpoint.metadata.end())
    metadata.insert(*it);
  std::string names;
  for (const std::string& name : keep) names += (names.empty() ? "" : ",") + name;
  if (!names.empty()) metadata.emplace(keep_key, names);
  return metadata;
}

/// Completes tables of DeepEmbed that the checkpoint has in two parts.
class DeepTables {
 public:
  DeepTables(const io::Checkpoint& c, const Dimensions& d, const io::WeightChanges* changes)
      : c_(c), d_(d), two_parts_(d.deep_rank > 0 && io::has_deep_residual(c)) {
    const io::NormSettings norms = io::norm_settings_of(c);
    if (!two_parts_) return;
    io::refuse_changed_residual(c, d, changes);
    for (std::size_t i = 0; i < d.layers; ++i) (void)io::deep_residual_of(c, d, i);
    if (norms.normalised_table) return;
    weight_ = c.get("blocks.0.ln0.weight").values<float>();
    bias_ = c.get("blocks.0.ln0.bias").values<float>();
    ln0_ = {weight_.data(), bias_.data(), norms.layer_norm_epsilon};
  }
  DeepTables(const DeepTables&) = delete;
  DeepTables& operator=(const DeepTables&) = delete;

  [[nodiscard]] bool changes(std::string_view name) const {
    return two_parts_ && name.ends_with(".ffn.s_emb.weight");
  }
  void complete(std::string_view name, std::span<float> table, ExecutorRef exec) const {
    const auto block = io::detail::split_block(name, "blocks.");
    io::add_deep_residual(c_, d_, ln0_, *internal::parse<std::size_t>(block->first), table, exec);
  }

 private:
  const io::Checkpoint& c_;
  const Dimensions d_;
  bool two_parts_;
  std::vector<float> weight_, bias_;
  NormWeights ln0_;
};

/// Tells how far a conversion is, in bytes read; often, so that whoever is told can throw.
class ConvertProgress {
 public:
  ConvertProgress(std::span<const io::PlannedTensor> plan, const ConvertOptions& options)
      : report_(options.progress), self_test_(options.self_test) {
    for (const auto& tensor : plan)
      for (const auto& part : tensor.parts) total_ += part.bytes.size();
  }
  void add(std::size_t bytes) {
    done_ += bytes;
    report(0);
  }
  /// Within a tensor: so many bytes more will be done soon.
  void report(double bytes) const {
    // Running the self-test takes about as long as a tenth of the conversion.
    const double share = self_test_ ? 0.9 : 1.0;
    if (report_)
      report_(share * (static_cast<double>(done_) + bytes) / static_cast<double>(total_));
  }
  void finish() {
    if (report_) report_(1.0);
  }

 private:
  const std::function<void(double)>& report_;
  bool self_test_;
  std::size_t total_ = 1;
  std::size_t done_ = 0;
};

template <class Writer>
void write_tensor(Writer& out, const io::Checkpoint& checkpoint, const io::PlannedTensor& tensor,
                  const io::WeightChanges* changes, const DeepTables& tables,
                  const ConvertOptions& options, ConvertProgress& progress, ExecutorRef exec) {
  io::NarrowOptions narrow_options{.source = checkpoint.source, .name = tensor.official};
  if (const auto it = options.importance.find(tensor.official); it != options.importance.end())
    narrow_options.importance = it->second;
  for (const io::Tensor& part : tensor.parts) {
    if (checkpoint.check) checkpoint.check();
    const auto write = [&](const io::Tensor& t) {
      const auto all = static_cast<double>(bytes_of(tensor.entry.dtype, t.size()));
      double written = 0;
      io::narrow(t, tensor.entry.dtype, narrow_options, exec,
                 [&](std::span<const std::byte> bytes) {
                   out.append(bytes);
                   written += static_cast<double>(bytes.size());
                   progress.report(static_cast<double>(part.bytes.size()) * written / all);
                 });
    };
    const bool merged = changes != nullptr && changes->touches(tensor.official) &&
                        io::WeightChanges::is_large(tensor.official, part);
    if (merged || tables.changes(tensor.official)) {
      auto values =
          merged ? changes->merged(tensor.official, changes->base(tensor.official, part), exec)
                 : part.values<float>();
      if (tables.changes(tensor.official)) tables.complete(tensor.official, values, exec);
      write({DType::f32, part.shape, io::c_order(part.shape), std::as_bytes(std::span(values))});
    } else {
      write(part);
    }
    if (checkpoint.release) checkpoint.release(part.bytes);
    progress.add(part.bytes.size());
  }
}

/// Runs the model that was just written, with inputs as they are, and puts what it says into the
/// file.
template <class Writer>
void add_self_test(Writer& out, ExecutorRef exec) {
  const auto file = std::make_shared<const io::MappedFile>(out.readable());
  io::Checkpoint written = io::read_checkpoint(io::View{file->bytes()}, "the converted model");
  io::detail::keep_open(written, file);
  const LoadOptions exact{.inputs = kernels::Inputs::exact};
  const SelfTest test = io::sparse_blocks_of(written) == 0
                            ? record_self_test(Model<>(written, exact, exec), exec)
                            : record_self_test(HybridModel(written, {}, exact, exec), exec);
  for (const auto& [key, value] : to_metadata(test)) out.replace(key, value);
}

}  // namespace detail

RWKV_FUNCTION void convert(const io::Checkpoint& model, const std::filesystem::path& path,
                           const ConvertOptions& options, ExecutorRef exec) {
  // Large matrices are adapted one by one, when they are written.
  const auto changes = io::changes_to(model, options.adapters);
  const io::Checkpoint adapted =
      changes == nullptr ? io::Checkpoint() : changes->apply(model, false, exec);
  const io::Checkpoint& checkpoint = changes == nullptr ? model : adapted;
  const DType type = options.type;
  const bool gguf = options.format == FileFormat::gguf;
  if (!(is_float(type) && type != DType::f64) && !(gguf && is_block(type)))
    fail_with(ErrorCategory::argument, gguf ? "GGUF" : "safetensors", " models are not written as ",
              std::string(name_of(type)));
  const Dimensions dimensions = io::dimensions_of(checkpoint);
  const io::NormSettings norms = io::norm_settings_of(checkpoint);
  std::vector<io::LayoutEntry> layout = io::layout_of(dimensions, norms.normalised_table);
  const bool hybrid = io::sparse_blocks_of(checkpoint) > 0;
  if (hybrid && gguf)
    fail_with(ErrorCategory::unsupported, checkpoint.source,
              ": GGUF has no architecture for RWKV-X models, which have sparse-attention blocks; "
              "write safetensors");
  io::add_sparse_blocks(layout, checkpoint, dimensions.embed);
  if (const bool tuned = detail::add_initial_state(layout, checkpoint, dimensions); tuned && gguf)
    fail_with(ErrorCategory::unsupported, checkpoint.source,
              ": this model has an initial state of its own (blocks.0.att.time_state), for which "
              "GGUF has no place; write safetensors");
  io::check_layout(checkpoint, layout);
  auto vocabulary = detail::vocabulary_for(checkpoint, options, dimensions.vocab);
  const std::vector<std::string> keep = detail::kept_tensors(checkpoint, layout, options);
  io::Metadata metadata = detail::own_metadata(checkpoint, options, keep, dimensions.vocab, norms);

  auto plan = gguf ? io::plan_gguf(checkpoint, layout, type, keep)
                   : io::plan_official(checkpoint, layout, type);
  if (hybrid)  // as such models are published
    for (auto& tensor : plan)
      if (!tensor.entry.name.starts_with("moba.")) tensor.entry.name.insert(0, "rwkv.");
  for (io::PlannedTensor& tensor : plan) {
    if (!tensor.entry.name.ends_with(".att.time_state")) continue;
    tensor.entry.dtype = DType::f32;  // a state is
    const io::Tensor heads = std::exchange(tensor.parts, {})[0];
    for (std::size_t h = 0; h < heads.shape[0]; ++h)
      tensor.parts.push_back(io::detail::part_of(heads, h));
  }
  std::vector<io::TensorEntry> entries;
  for (const auto& tensor : plan) entries.push_back(tensor.entry);
  detail::ConvertProgress progress(plan, options);
  const detail::DeepTables tables(checkpoint, dimensions, changes.get());
  const auto write = [&](auto& out, auto order) {
    if (options.self_test) (void)out.readable();  // or refuse now: a pipe is read by others
    for (const std::size_t i : order)
      detail::write_tensor(out, checkpoint, plan[i], changes.get(), tables, options, progress,
                           exec);
    if (options.self_test) detail::add_self_test(out, exec);
    out.commit();
    progress.finish();
  };

  if (gguf) {
    const auto eigenvalues = metadata.find("rwkv.eigenvalues");
    const bool extended = (eigenvalues != metadata.end() && eigenvalues->second == "extended") ||
                          norms.normalised_table || dimensions.deep_rank > 0 ||
                          norms.group_norm_epsilon != io::NormSettings{}.group_norm_epsilon;
    io::GgufMetadata all = io::gguf_metadata(dimensions, type, detail::model_name(checkpoint),
                                             extended, vocabulary, norms.layer_norm_epsilon);
    if (metadata.contains(chat_template_key))  // not what the vocabulary alone would suggest
      std::erase_if(all, [](const auto& entry) { return entry.first == chat_template_key; });
    for (const auto& [key, value] : metadata) all.emplace_back(key, value);
    io::GgufWriter out(path, all, entries);
    std::vector<std::size_t> order(entries.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    write(out, order);
  } else {
    if (vocabulary) metadata["rwkv.vocabulary"] = io::vocabulary_text(*vocabulary);
    io::SafetensorsWriter out(path, metadata, entries);
    const std::vector<std::size_t> order(out.order().begin(), out.order().end());
    write(out, order);
  }
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
