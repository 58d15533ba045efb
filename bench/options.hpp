// SPDX-License-Identifier: Apache-2.0
// Options of the benchmarks: "--name value" and "--flag", each with a default.
#pragma once

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace bench {

/// What stands on the command line. Anything that was never asked for ends the program with its
/// usage, so that a misspelt option is not silently a default.
class Options {
 public:
  Options(int argc, char** argv, const char* usage) : usage_(usage) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view word = argv[i];
      if (!word.starts_with("--")) refuse(argv[i]);
      const bool last = i + 1 == argc || std::string_view(argv[i + 1]).starts_with("--");
      given_[std::string(word.substr(2))] = last ? "" : argv[++i];
    }
  }

  [[nodiscard]] std::string text(const std::string& name, std::string otherwise) {
    asked_.insert(name);
    const auto it = given_.find(name);
    if (it != given_.end() && it->second.empty()) refuse("--" + name + " without a value");
    return it == given_.end() ? std::move(otherwise) : it->second;
  }

  template <class T>
  [[nodiscard]] T number(const std::string& name, T otherwise) {
    const std::string word = text(name, "");
    if (word.empty()) return otherwise;
    T value{};
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc{} || end != word.data() + word.size()) refuse("--" + name + " " + word);
    return value;
  }

  [[nodiscard]] bool flag(const std::string& name) {
    asked_.insert(name);
    const auto it = given_.find(name);
    if (it != given_.end() && !it->second.empty()) refuse(it->second);
    return it != given_.end();
  }

  /// After everything has been asked for.
  void finish() const {
    for (const auto& [name, value] : given_)
      if (!asked_.contains(name)) refuse("--" + name);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    std::fprintf(stderr, "cannot use: %s\nusage: %s\n", what.c_str(), usage_);
    std::exit(2);
  }

  const char* usage_;
  std::map<std::string, std::string> given_;
  std::set<std::string> asked_;
};

}  // namespace bench
