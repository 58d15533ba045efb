// SPDX-License-Identifier: Apache-2.0
#include <rwkv/io/folder.hpp>

#include <doctest/doctest.h>

using rwkv::io::detail::part_name;

TEST_CASE("numbered files are recognised, and the names of the others follow") {
  const auto part = part_name("a-1-of-2-00002-of-000163.safetensors");
  REQUIRE(part);
  CHECK(part->number == 2);
  CHECK(part->count == 163);
  CHECK(part->of(1) == "a-1-of-2-00001-of-000163.safetensors");
  CHECK(part->of(163) == "a-1-of-2-00163-of-000163.safetensors");
  CHECK(part_name("m-3-of-12.gguf")->of(12) == "m-12-of-12.gguf");
}

TEST_CASE("other names are those of whole files") {
  for (const char* name : {"",
                           ".",
                           "-of-",
                           "-of-.bin",
                           "model.safetensors",
                           "m-of-3.bin",
                           "1-of-3.bin",
                           "m-1-of-3",
                           "m-1-of-x.bin",
                           "m-x-of-3.bin",
                           "m--of-3.bin",
                           "m-0-of-3.bin",
                           "m-4-of-3.bin",
                           "m-1-of-1.bin",
                           "m-1-of-.bin",
                           "m-1-of-99999999999999999999999.bin",
                           "m-1-of-100001.bin",
                           "m-1-of-3x.bin",
                           "m-+1-of-3.bin",
                           "m.bin-1-of-3"}) {
    CAPTURE(name);
    CHECK_FALSE(part_name(name));
  }
}
