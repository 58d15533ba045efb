// SPDX-License-Identifier: Apache-2.0
// Hugging Face models that are split into several safetensors files: an index in JSON says which
// file holds which tensor.
//   {"metadata": {...}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
#pragma once

#include <rwkv/io/json_events.hpp>
#include <rwkv/io/untrusted.hpp>

#include <map>

namespace rwkv::inline RWKV_ABI::io::detail {

/// File name by tensor name.
using ShardIndex = std::map<std::string, std::string, std::less<>>;

/// Collects "weight_map" and passes over everything else.
class ShardIndexEvents : public JsonEvents {
 public:
  ShardIndex files;

  bool null() { return ignore(); }
  bool boolean(bool) { return ignore(); }
  bool number_integer(number_integer_t) { return ignore(); }
  bool number_unsigned(number_unsigned_t) { return ignore(); }
  bool number_float(number_float_t, const string_t&) { return ignore(); }
  bool start_array(std::size_t) { return ignore() && ++depth_ > 0; }
  bool end_array() { return depth_-- > 0; }

  bool start_object(std::size_t) {
    if (in_map_) return refuse("an object");
    in_map_ = depth_++ == 1 && key_ == "weight_map";
    return true;
  }

  bool end_object() {
    in_map_ = false;
    return depth_-- > 0;
  }

  bool key(string_t& name) {
    key_ = name;
    return true;
  }

  bool string(string_t& file) {
    if (!in_map_) return depth_ > 0;
    if (file.empty() || file.find_first_of("/\\") != string_t::npos || file == "..")
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

}  // namespace rwkv::inline RWKV_ABI::io::detail
