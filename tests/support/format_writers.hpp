// SPDX-License-Identifier: Apache-2.0
// Writes a sample model the way other programs do: safetensors with the names of fla and web-rwkv,
// .pth, GGUF, rwkv.cpp. Only as much of each format as those programs use.
#pragma once

#include "sample_model.hpp"
#include <rwkv/io/safetensors.hpp>
#include <rwkv/io/safetensors_writer.hpp>

#include <bit>

namespace test {

using Bytes = std::vector<std::byte>;

[[nodiscard]] inline Bytes encode(const std::vector<float>& values, rwkv::DType type) {
  Bytes out;
  if (rwkv::is_block(type)) {
    out.resize(rwkv::bytes_of(type, values.size()));
    rwkv::quant::encode_row(type, values.data(), nullptr, values.size(), out.data());
    return out;
  }
  const auto put = [&](auto value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  for (const float value : values) {
    if (type == rwkv::DType::f16) {
      put(rwkv::to_half(value));
    } else if (type == rwkv::DType::bf16) {
      put(rwkv::to_bfloat16(value));
    } else if (type == rwkv::DType::f64) {
      put(static_cast<double>(value));
    } else {
      put(value);
    }
  }
  return out;
}

/// The numbers in blocks.
[[nodiscard]] inline std::vector<float> decode(const Bytes& blocks, rwkv::DType type) {
  std::vector<float> values(blocks.size() / rwkv::block_bytes(type) * rwkv::block_elements(type));
  rwkv::quant::decode_row(type, blocks.data(), values.size(), values.data());
  return values;
}

/// Numbers that are all different, from -0.5 on in even steps below 1.
[[nodiscard]] inline std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i)
    values[i] = static_cast<float>(i) / static_cast<float>(n) - 0.5f;
  return values;
}

/// Little-endian output.
class Writer {
 public:
  Bytes bytes;

  template <class T>
  Writer& put(T value) {
    const auto view = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), view.begin(), view.end());
    return *this;
  }
  Writer& text(std::string_view value) {
    const auto view = std::as_bytes(std::span(value));
    bytes.insert(bytes.end(), view.begin(), view.end());
    return *this;
  }
  Writer& raw(const Bytes& value) {
    bytes.insert(bytes.end(), value.begin(), value.end());
    return *this;
  }
  Writer& align(std::size_t to) {
    bytes.resize((bytes.size() + to - 1) / to * to);
    return *this;
  }
};

// -- safetensors
// -----------------------------------------------------------------------------------

[[nodiscard]] inline Bytes to_safetensors(const std::vector<SampleTensor>& model,
                                          rwkv::DType type = rwkv::DType::f32,
                                          const rwkv::io::Metadata& metadata = {}) {
  std::vector<Bytes> storage;
  std::vector<rwkv::io::NamedTensor> tensors;
  storage.reserve(model.size());
  for (const SampleTensor& tensor : model) {
    storage.push_back(encode(tensor.values, type));
    tensors.push_back({tensor.name, type, tensor.shape, storage.back()});
  }
  return rwkv::io::serialize_safetensors(tensors, metadata);
}

/// Names and shapes of fla. `fused`: the six x_* of a block as one x_x, as early versions did.
[[nodiscard]] inline std::vector<SampleTensor> with_fla_names(
    const std::vector<SampleTensor>& model, bool fused, const std::string& prefix = "model.") {
  std::vector<SampleTensor> out;
  for (const SampleTensor& tensor : model) {
    SampleTensor fla = low_rank(tensor.name) ? transposed(tensor) : tensor;
    std::string name = tensor.name;
    const auto replace = [&](const std::string& from, const std::string& to) {
      if (const auto at = name.find(from); at != std::string::npos)
        name.replace(at, from.size(), to);
    };
    if (name == "head.weight") {
      fla.name = "lm_head.weight";
      out.push_back(fla);
      continue;
    }
    if (fused && name.find("att.x_") != std::string::npos) {
      if (name.back() != 'r') continue;
      const std::string stem = name.substr(0, name.size() - 1);
      fla.values.clear();
      for (const char x : {'r', 'w', 'k', 'v', 'a', 'g'}) {
        const auto& part = find(model, stem + x).values;
        fla.values.insert(fla.values.end(), part.begin(), part.end());
      }
      fla.shape = {6, tensor.shape[2]};
      name.back() = 'x';
    } else if (name.find("att.k_") != std::string::npos || name.ends_with("0") ||
               name.ends_with("ffn.x_k")) {
      fla.shape = {fla.shape.back()};
    }
    if (name.find(".att.") != std::string::npos) {
      const char letter = name[name.size() - 2];
      if (name.back() == '0')
        name.replace(name.size() - 2, 2, std::string{letter} + "_lora.lora.2.bias");
      if (name.back() == '1')
        name.replace(name.size() - 2, 2, std::string{letter} + "_lora.lora.0.weight");
      if (name.back() == '2')
        name.replace(name.size() - 2, 2, std::string{letter} + "_lora.lora.2.weight");
      replace(".att.receptance", ".att.r_proj");
      replace(".att.key", ".att.k_proj");
      replace(".att.value", ".att.v_proj");
      replace(".att.output", ".att.o_proj");
      replace(".att.ln_x", ".att.g_norm");
      replace(".att.", ".attn.");
    }
    replace("emb.weight", "embeddings.weight");
    replace("ln_out", "norm");
    replace(".ln0", ".pre_norm");
    replace(".ln1", ".attn_norm");
    replace(".ln2", ".ffn_norm");
    replace("blocks.", "layers.");
    fla.name = prefix + name;
    out.push_back(fla);
  }
  return out;
}

/// Official names with every occurrence of the firsts replaced by the seconds, in this order.
[[nodiscard]] inline std::vector<SampleTensor> with_words(
    std::vector<SampleTensor> model,
    std::initializer_list<std::pair<std::string_view, std::string_view>> words) {
  for (SampleTensor& tensor : model)
    for (const auto& [from, to] : words)
      if (const auto at = tensor.name.find(from); at != std::string::npos)
        tensor.name.replace(at, from.size(), to);
  return model;
}

/// The names of rwkv-rs.
[[nodiscard]] inline std::vector<SampleTensor> with_rwkv_rs_names(
    const std::vector<SampleTensor>& model) {
  return with_words(model, {{"blocks.0.ln0", "model.embedding_norm"},
                            {"emb.weight", "model.embed_tokens.weight"},
                            {"ln_out", "model.norm"},
                            {"head.weight", "lm_head.weight"},
                            {"blocks.", "model.layers."},
                            {".ln1", ".input_layernorm"},
                            {".ln2", ".post_attention_layernorm"},
                            {".ffn.key", ".mlp.up_proj"},
                            {".ffn.value", ".mlp.down_proj"},
                            {".ffn.", ".mlp."},
                            {".att.receptance", ".att.r_proj"},
                            {".att.key", ".att.k_proj"},
                            {".att.value", ".att.v_proj"},
                            {".att.output", ".att.o_proj"},
                            {".att.ln_x", ".att.g_norm"},
                            {".att.", ".linear_attn."}});
}

/// Official names behind "model.", low-rank matrices as nn.Linear; `bias`: with w0, a0, v0 as
/// theirs.
[[nodiscard]] inline std::vector<SampleTensor> with_linear_names(
    const std::vector<SampleTensor>& model, bool bias) {
  std::vector<SampleTensor> out;
  for (const SampleTensor& tensor : model) {
    out.push_back(low_rank(tensor.name) ? transposed(tensor) : tensor);
    std::string& name = out.back().name;
    if (low_rank(name)) name += ".weight";
    if (bias && name.ends_with('0') && name.find(".att.") != std::string::npos) {
      name.back() = '2';
      name += ".bias";
      out.back().shape = {tensor.shape.back()};
    }
    name.insert(0, "model.");
  }
  return out;
}

/// web-rwkv: official names, low-rank matrices transposed.
[[nodiscard]] inline std::vector<SampleTensor> with_web_rwkv_layout(
    const std::vector<SampleTensor>& model) {
  std::vector<SampleTensor> out;
  for (const SampleTensor& tensor : model)
    out.push_back(low_rank(tensor.name) || tensor.name.ends_with("time_state") ? transposed(tensor)
                                                                               : tensor);
  return out;
}

// -- .pth
// ------------------------------------------------------------------------------------------

/// A ZIP archive of stored entries.
class ZipWriter {
 public:
  struct Options {
    bool zip64 = true;         // as torch writes: ZIP64 records even for small archives
    std::uint16_t method = 0;  // what the headers claim
  };

  ZipWriter() = default;
  explicit ZipWriter(Options options) : options_(options) {}

  void add(const std::string& name, const Bytes& data) {
    const auto offset = static_cast<std::uint32_t>(out_.bytes.size());
    const auto size = static_cast<std::uint32_t>(data.size());
    out_.text("PK\3\4").put<std::uint16_t>(0).put<std::uint16_t>(0x808).put(options_.method);
    out_.put<std::uint32_t>(0).put<std::uint32_t>(0);  // time, checksum
    out_.put<std::uint32_t>(0).put<std::uint32_t>(0);  // sizes follow in the directory
    out_.put(static_cast<std::uint16_t>(name.size()));
    const std::size_t begin = out_.bytes.size() + 2 + name.size();
    const auto padding = static_cast<std::uint16_t>((64 - begin % 64) % 64);
    out_.put(padding).text(name).text(std::string(padding, 'Z')).raw(data);

    directory_.text("PK\1\2").put<std::uint32_t>(0).put<std::uint16_t>(0x808).put(options_.method);
    directory_.put<std::uint32_t>(0).put<std::uint32_t>(0);
    if (options_.zip64) {  // sizes and offset in the extra field
      directory_.put<std::uint32_t>(0xffffffff).put<std::uint32_t>(0xffffffff);
    } else {
      directory_.put(size).put(size);
    }
    directory_.put(static_cast<std::uint16_t>(name.size()));
    directory_.put<std::uint16_t>(options_.zip64 ? 28 : 0).put<std::uint16_t>(0);
    directory_.put<std::uint64_t>(0);  // disk, attributes
    directory_.put<std::uint32_t>(options_.zip64 ? 0xffffffff : offset).text(name);
    if (options_.zip64)
      directory_.put<std::uint16_t>(1)
          .put<std::uint16_t>(24)
          .put<std::uint64_t>(size)
          .put<std::uint64_t>(size)
          .put<std::uint64_t>(offset);
    ++entries_;
  }

  [[nodiscard]] Bytes finish() {
    const auto at = static_cast<std::uint32_t>(out_.bytes.size());
    const auto size = static_cast<std::uint32_t>(directory_.bytes.size());
    out_.raw(directory_.bytes);
    if (options_.zip64) {
      const std::uint64_t record = out_.bytes.size();
      out_.text("PK\6\6").put<std::uint64_t>(44).put<std::uint32_t>(0).put<std::uint64_t>(0);
      out_.put<std::uint64_t>(entries_).put<std::uint64_t>(entries_);
      out_.put<std::uint64_t>(size).put<std::uint64_t>(at);
      out_.text("PK\6\7").put<std::uint32_t>(0).put(record).put<std::uint32_t>(1);
    }
    out_.text("PK\5\6").put<std::uint32_t>(0).put(entries_).put(entries_);
    out_.put(options_.zip64 ? 0xffffffff : size).put(options_.zip64 ? 0xffffffff : at);
    out_.put<std::uint16_t>(0);
    return std::move(out_.bytes);
  }

 private:
  Options options_;
  Writer out_;
  Writer directory_;
  std::uint16_t entries_ = 0;
};

/// Pickle instructions, protocol 2, without a memo.
class PickleWriter {
 public:
  Writer out;

  PickleWriter() { out.text("\x80\2"); }
  PickleWriter& op(std::string_view instructions) {
    out.text(instructions);
    return *this;
  }
  PickleWriter& text(std::string_view value) {
    out.text("X").put(static_cast<std::uint32_t>(value.size())).text(value);
    return *this;
  }
  PickleWriter& number(std::int64_t value) {
    out.text("\x8a\x08").put(value);
    return *this;
  }
  PickleWriter& global(std::string_view module, std::string_view name) {
    return op("c").op(module).op("\n").op(name).op("\n");
  }
  PickleWriter& tuple(const std::vector<std::size_t>& values) {
    op("(");
    for (const std::size_t value : values) number(static_cast<std::int64_t>(value));
    return op("t");
  }
  /// A storage and a view of it.
  PickleWriter& tensor(std::string_view storage_type, std::string_view key, std::int64_t count,
                       std::int64_t offset, const std::vector<std::size_t>& shape,
                       const std::vector<std::size_t>& stride) {
    global("torch._utils", "_rebuild_tensor_v2").op("((").text("storage");
    global("torch", storage_type).text(key).text("cpu").number(count).op("tQ");
    number(offset).tuple(shape).tuple(stride).op("\x89");
    return global("collections", "OrderedDict").op(")RtR");
  }
  [[nodiscard]] Bytes finish() {
    op(".");
    return std::move(out.bytes);
  }
};

[[nodiscard]] inline std::string_view torch_storage(rwkv::DType type) {
  return type == rwkv::DType::f16    ? "HalfStorage"
         : type == rwkv::DType::bf16 ? "BFloat16Storage"
         : type == rwkv::DType::f64  ? "DoubleStorage"
                                     : "FloatStorage";
}

[[nodiscard]] inline Bytes to_pth(const std::vector<SampleTensor>& model,
                                  rwkv::DType type = rwkv::DType::f32,
                                  ZipWriter::Options options = {},
                                  const std::string& wrapped_in = "") {
  PickleWriter pickle;
  if (!wrapped_in.empty()) pickle.op("}(").text("epoch").number(3).text(wrapped_in);
  pickle.op("}(");
  ZipWriter zip(options);
  for (std::size_t i = 0; i < model.size(); ++i) {
    const SampleTensor& tensor = model[i];
    pickle.text(tensor.name)
        .tensor(torch_storage(type), std::to_string(i),
                static_cast<std::int64_t>(tensor.values.size()), 0, tensor.shape,
                rwkv::io::c_order(tensor.shape));
  }
  pickle.op("u");
  if (!wrapped_in.empty()) pickle.op("u");
  zip.add("archive/data.pkl", pickle.finish());
  for (std::size_t i = 0; i < model.size(); ++i)
    zip.add("archive/data/" + std::to_string(i), encode(model[i].values, type));
  return zip.finish();
}

// -- GGUF
// ------------------------------------------------------------------------------------------

class GgufWriter {
 public:
  void text(const std::string& key, std::string_view value) {
    pair(key, 8).put(std::uint64_t{value.size()}).text(value);
  }
  void number(const std::string& key, std::uint32_t value) { pair(key, 4).put(value); }
  void real(const std::string& key, float value) { pair(key, 6).put(value); }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    pair(key, 9).put<std::uint32_t>(8).put(std::uint64_t{values.size()});
    for (const auto& value : values) pairs_.put(std::uint64_t{value.size()}).text(value);
  }
  void numbers(const std::string& key, const std::vector<std::int32_t>& values) {
    pair(key, 9).put<std::uint32_t>(5).put(std::uint64_t{values.size()});
    for (const auto value : values) pairs_.put(value);
  }
  /// `shape` slowest first; `type` as in the file.
  void tensor(const std::string& name, const std::vector<std::size_t>& shape, std::uint32_t type,
              const Bytes& data) {
    directory_.put(std::uint64_t{name.size()}).text(name);
    directory_.put(static_cast<std::uint32_t>(shape.size()));
    for (auto d = shape.rbegin(); d != shape.rend(); ++d) directory_.put(std::uint64_t{*d});
    directory_.put(type).put(std::uint64_t{data_.bytes.size()});
    data_.raw(data).align(32);
    ++tensors_;
  }
  [[nodiscard]] Bytes finish() {
    Writer out;
    out.text("GGUF").put<std::uint32_t>(3).put(tensors_).put(count_).raw(pairs_.bytes);
    out.raw(directory_.bytes).align(32).raw(data_.bytes);
    return std::move(out.bytes);
  }

 private:
  Writer& pair(const std::string& key, std::uint32_t type) {
    ++count_;
    return pairs_.put(std::uint64_t{key.size()}).text(key).put(type);
  }

  Writer pairs_;
  Writer directory_;
  Writer data_;
  std::uint64_t tensors_ = 0;
  std::uint64_t count_ = 0;
};

/// What llama.cpp's converter writes: norms, vectors and token-shift weights F32, the rest `type`.
[[nodiscard]] inline GgufWriter gguf_of(const std::vector<SampleTensor>& model, rwkv::DType type,
                                        std::size_t head_size) {
  GgufWriter gguf;
  gguf.text("general.architecture", "rwkv7");
  gguf.text("general.name", "sample");
  gguf.number("rwkv7.wkv.head_size", static_cast<std::uint32_t>(head_size));
  gguf.real("rwkv7.attention.layer_norm_epsilon", 1e-5f);
  const auto put = [&](const std::string& name, std::vector<std::size_t> shape,
                       const std::vector<float>& values) {
    const bool wide = shape.size() == 1 || name.find("lerp_fused") != std::string::npos;
    const std::uint32_t number = wide || type == rwkv::DType::f32 ? 0
                                 : type == rwkv::DType::f16       ? 1
                                                                  : 30;
    gguf.tensor(name, shape, number, encode(values, wide ? rwkv::DType::f32 : type));
  };
  for (const SampleTensor& tensor : model) {
    std::string name = tensor.name;
    const auto replace = [&](const std::string& from, const std::string& to) {
      if (const auto at = name.find(from); at != std::string::npos)
        name.replace(at, from.size(), to);
    };
    if (name.find("att.x_") != std::string::npos) {
      if (name.back() != 'r') continue;
      std::vector<float> values;
      for (const char x : {'r', 'w', 'k', 'v', 'a', 'g'}) {
        const auto& part = find(model, name.substr(0, name.size() - 1) + x).values;
        values.insert(values.end(), part.begin(), part.end());
      }
      replace("blocks.", "blk.");
      replace("att.x_r", "time_mix_lerp_fused.weight");
      put(name, {6, 1, 1, tensor.shape[2]}, values);
      continue;
    }
    const bool vector = tensor.shape.size() == 3 || name.ends_with("r_k");
    const SampleTensor stored = low_rank(name) ? transposed(tensor) : tensor;
    if (name == "emb.weight") name = "token_embd.weight";
    if (name == "head.weight") name = "output.weight";
    replace("ln_out", "output_norm");
    replace("blocks.0.ln0", "token_embd_norm");
    replace("blocks.", "blk.");
    replace(".ln1", ".attn_norm");
    replace(".ln2", ".attn_norm_2");
    replace("att.ln_x", "time_mix_ln");
    replace("att.", "time_mix_");
    replace("ffn.x_k", "channel_mix_lerp_k");
    replace("ffn.", "channel_mix_");
    if (!name.ends_with(".weight") && !name.ends_with(".bias")) name += ".weight";
    put(name, vector ? std::vector<std::size_t>{stored.values.size()} : stored.shape,
        stored.values);
  }
  // Placeholders that the format demands in block 0: copies of a0, a1, a2.
  for (const char part : {'0', '1', '2'}) {
    const SampleTensor& tensor = find(model, std::string("blocks.0.att.a") + part);
    const SampleTensor stored = part == '0' ? tensor : transposed(tensor);
    put(std::string("blk.0.time_mix_v") + part + ".weight",
        part == '0' ? std::vector<std::size_t>{stored.values.size()} : stored.shape, stored.values);
  }
  return gguf;
}

// -- rwkv.cpp
// --------------------------------------------------------------------------------------

/// `type` 0 or 1 (F32, F16); vectors stay F32.
[[nodiscard]] inline Bytes to_ggmf(const std::vector<SampleTensor>& model, std::int32_t type = 0) {
  const auto& embedding = find(model, "emb.weight").shape;
  Writer out;
  out.text("fmgg").put<std::int32_t>(101).put(static_cast<std::int32_t>(embedding[0]));
  out.put(static_cast<std::int32_t>(embedding[1])).put<std::int32_t>(0).put(type);
  for (const SampleTensor& tensor : model) {
    SampleTensor stored = low_rank(tensor.name) ? transposed(tensor) : tensor;
    if (tensor.name.find("att.x_") != std::string::npos) {
      if (tensor.name.back() != 'r') continue;
      const std::string stem = tensor.name.substr(0, tensor.name.size() - 1);
      stored.values.clear();
      for (const char x : {'r', 'w', 'k', 'v', 'a', 'g'}) {
        const auto& part = find(model, stem + x).values;
        stored.values.insert(stored.values.end(), part.begin(), part.end());
      }
      stored.name = stem + "rwkvag";
      stored.shape = {6, 1, tensor.shape[2]};
    }
    const std::int32_t stored_type = stored.shape.size() == 2 ? type : 0;
    out.put(static_cast<std::int32_t>(stored.shape.size()));
    out.put(static_cast<std::int32_t>(stored.name.size())).put(stored_type);
    for (auto d = stored.shape.rbegin(); d != stored.shape.rend(); ++d)
      out.put(static_cast<std::int32_t>(*d));
    out.text(stored.name);
    out.raw(encode(stored.values, stored_type == 1 ? rwkv::DType::f16 : rwkv::DType::f32));
  }
  return std::move(out.bytes);
}

}  // namespace test
