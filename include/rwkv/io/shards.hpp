// SPDX-License-Identifier: Apache-2.0
// Hugging Face models that are split into several safetensors files: an index in JSON says which
// file holds which tensor.
//   {"metadata": {...}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
#pragma once

#include <rwkv/io/json_events.hpp>
#include <rwkv/io/untrusted.hpp>

#include <map>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// File name by tensor name.
using ShardIndex = std::map<std::string, std::string, std::less<>>;

/// Collects "weight_map" and passes over everything else.
class ShardIndexEvents final : public JsonEvents {
 public:
  ShardIndex files;

  bool null() override { return ignore(); }
  bool boolean(bool) override { return ignore(); }
  bool number_integer(std::int64_t) override { return ignore(); }
  bool number_unsigned(std::uint64_t) override { return ignore(); }
  bool number_float(double) override { return ignore(); }
  bool start_array() override { return ignore() && ++depth_ > 0; }
  bool end_array() override { return depth_-- > 0; }

  bool start_object() override {
    if (in_map_) return refuse("an object");
    in_map_ = depth_++ == 1 && key_ == "weight_map";
    return true;
  }

  bool end_object() override {
    in_map_ = false;
    return depth_-- > 0;
  }

  bool key(std::string& name) override {
    key_ = name;
    return true;
  }

  bool string(std::string& file) override {
    if (!in_map_) return depth_ > 0;
    if (file.empty() || file.find_first_of("/\\") != std::string::npos || file == "..")
      return stop("places tensor " + printable(key_) + " in " + printable(file) +
                  ", which is no file beside it");
    return files.emplace(key_, file).second || stop("names tensor " + printable(key_) + " twice");
  }

 private:
  bool ignore() { return in_map_ ? refuse("no file name") : true; }

  std::size_t depth_ = 0;
  bool in_map_ = false;
  std::string key_;
};

[[nodiscard]] inline ShardIndex read_shard_index(std::span<const std::byte> bytes,
                                                 const std::string& source) {
  ShardIndexEvents events;
  parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, events, source,
             "the index");
  if (events.files.empty())
    fail_with(ErrorCategory::format, source,
              ": this JSON file has no weight_map, so it is no model");
  return std::move(events.files);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
