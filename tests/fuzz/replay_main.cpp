// SPDX-License-Identifier: Apache-2.0
// replay TARGET PATH...: runs a fuzz target over every file of the directories (or files), so that the
// kept inputs can be replayed with any compiler.
#include "target.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace {
void replay(const fuzz::Target& target, const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  target.run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}
}  // namespace

int main(int count, char** arguments) {
  const fuzz::Target* target = fuzz_targets;
  while (target->name != nullptr && (count < 2 || std::string_view(arguments[1]) != target->name))
    ++target;
  if (target->name == nullptr) {
    std::fputs("error: the first argument is no target's name\n", stderr);
    return 2;
  }
  int files = 0;
  for (int i = 2; i < count; ++i) {
    const std::filesystem::path path(arguments[i]);
    if (!std::filesystem::is_directory(path)) {
      replay(*target, path);
      ++files;
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      if (!entry.is_regular_file()) continue;
      replay(*target, entry.path());
      ++files;
    }
  }
  std::printf("%d inputs\n", files);
  return files > 0 ? 0 : 1;  // a corpus that is not there must not pass
}
