// SPDX-License-Identifier: Apache-2.0
// The definitions of adapter.hpp.
#pragma once

#include <rwkv/adapter.hpp>
#include <rwkv/io/adapter_set.hpp>
#include <rwkv/io/json_events.hpp>
#include <rwkv/io/read.hpp>
#include <rwkv/io/untrusted.hpp>

#if !defined(RWKV_NO_FILES)
#include <rwkv/io/mapped_file.hpp>
#endif

#include <charconv>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// {"key": scalar, "alpha_pattern": {"module": number}, "others": {...}, ...}
class AdapterConfigEvents final : public JsonEvents {
 public:
  Metadata settings;

  bool null() override { return outside() || depth_ > 0; }
  bool boolean(bool value) override { return scalar(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) override { return scalar(std::to_string(value)); }
  bool number_unsigned(std::uint64_t value) override { return scalar(std::to_string(value)); }
  bool number_float(double value) override {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value).ptr;
    return scalar({text, end});
  }
  bool string(std::string& value) override { return scalar(std::move(value)); }
  bool start_object() override { return ++depth_ <= deepest || stop("is nested too deeply"); }
  bool end_object() override { return --depth_, true; }
  bool start_array() override {
    if (depth_ == 0) return refuse("a list");
    ++arrays_;
    return ++depth_ <= deepest || stop("is nested too deeply");
  }
  bool end_array() override { return --arrays_, --depth_, true; }
  bool key(std::string& name) override {
    if (depth_ == 1) section_ = name;
    key_ = std::move(name);
    return true;
  }

 private:
  static constexpr std::size_t deepest = 64;

  bool outside() { return depth_ == 0 && refuse("a single value"); }

  bool scalar(std::string value) {
    if (depth_ == 0) return refuse("a single value");
    if (arrays_ > 0) return true;
    if (depth_ == 1) {
      settings.insert_or_assign("peft." + key_, std::move(value));
    } else if (depth_ == 2 && section_ == "alpha_pattern") {
      if (key_.find_first_of("*+?()[]|\\^$") != std::string::npos)
        return stop("has the alpha_pattern " + printable(key_) +
                        ", a regular expression, which is not read here",
                    ErrorCategory::unsupported);
      settings.insert_or_assign("peft.alpha_pattern." + key_, std::move(value));
    }
    return true;
  }

  std::size_t depth_ = 0;
  std::size_t arrays_ = 0;
  std::string section_;
  std::string key_;
};

}  // namespace detail

RWKV_FUNCTION Metadata read_adapter_config(std::span<const std::byte> json,
                                           const std::string& source) {
  detail::AdapterConfigEvents events;
  detail::parse_json({reinterpret_cast<const char*>(json.data()), json.size()}, events, source,
                     "the settings of this adapter");
  return std::move(events.settings);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION Adapter make_adapter(io::Checkpoint checkpoint, float scale) {
  return {std::move(checkpoint), scale,
          [](const io::Checkpoint& model, std::span<const Adapter> adapters) {
            return std::shared_ptr<const io::WeightChanges>(
                std::make_shared<const io::AdapterSet>(model, adapters));
          }};
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION Adapter read_adapter(const std::filesystem::path& path, float scale) {
  std::error_code ignored;
  std::filesystem::path file = path;
  if (std::filesystem::is_directory(path, ignored)) {
    file.clear();
    for (const char* name : {"adapter_model.safetensors", "adapter_model.bin"})
      if (file.empty() && std::filesystem::exists(path / name, ignored)) file = path / name;
    if (file.empty())
      fail_with(ErrorCategory::io, path.string(),
                ": this folder has neither adapter_model.safetensors nor adapter_model.bin");
  }
  io::Checkpoint adapter = io::read_checkpoint(file);
  const auto config = file.parent_path() / "adapter_config.json";
  if (file.stem() == "adapter_model" && std::filesystem::exists(config, ignored)) {
    const io::MappedFile json(config);
    adapter.metadata.merge(io::read_adapter_config(json.bytes(), config.string()));
  }
  return make_adapter(std::move(adapter), scale);
}
#endif

RWKV_FUNCTION io::Checkpoint with_adapters(io::Checkpoint model, std::span<const Adapter> adapters,
                                           ExecutorRef exec) {
  const auto changes = io::changes_to(model, adapters);
  return changes == nullptr ? model : changes->apply(model, true, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
