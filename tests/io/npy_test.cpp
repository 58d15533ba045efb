// SPDX-License-Identifier: Apache-2.0
#include "../support/temporary_directory.hpp"
#include <rwkv/io/npy.hpp>

#include <doctest/doctest.h>

#include <cstring>

using rwkv::Error;
using rwkv::io::NpyWriter;

TEST_CASE("rows arrive in a file of NumPy's format") {
  const test::TemporaryDirectory directory;
  const std::vector<float> rows{1, 2, 3, 4, 5, 6};
  NpyWriter out(directory / "m.npy", 2, 3);
  out.append(std::span(rows).first(3));
  out.append(std::span(rows).subspan(3, 1));
  out.append(std::span(rows).subspan(4));
  out.commit();

  const std::string file = test::read_file(directory / "m.npy");
  REQUIRE(file.size() == 128 + sizeof(float) * rows.size());
  CHECK(file.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  CHECK(static_cast<unsigned char>(file[8]) + 256 * static_cast<unsigned char>(file[9]) == 118);
  const std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  CHECK(file.substr(10, dictionary.size()) == dictionary);
  CHECK(file[127] == '\n');
  CHECK(std::memcmp(file.data() + 128, rows.data(), sizeof(float) * rows.size()) == 0);
}

TEST_CASE("an empty matrix is a file without data") {
  const test::TemporaryDirectory directory;
  NpyWriter out(directory / "m.npy", 0, 65536);
  out.commit();
  CHECK(std::filesystem::file_size(directory / "m.npy") == 128);
}

TEST_CASE("too few or too many values are refused, and no file appears") {
  const test::TemporaryDirectory directory;
  const std::vector<float> row{1, 2, 3};
  {
    NpyWriter out(directory / "m.npy", 2, 3);
    out.append(row);
    CHECK_THROWS_WITH_AS(out.commit(), doctest::Contains("3 values for a matrix of 6"), Error);
    out.append(row);
    CHECK_THROWS_WITH_AS(out.append(row), doctest::Contains("9 values for a matrix of 6"), Error);
  }
  CHECK(directory.entries().empty());
}
