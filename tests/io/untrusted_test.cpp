// SPDX-License-Identifier: Apache-2.0
// The limits that every reader relies on, each at its last allowed value and the next one.
#include <rwkv/io/untrusted.hpp>

#include <doctest/doctest.h>

using namespace rwkv::io::detail;
using rwkv::DType;
using rwkv::Error;

namespace {

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
using Shape = std::vector<std::size_t>;

}  // namespace

TEST_CASE("a product is exact or nothing") {
  CHECK(checked_product(3, 4) == 12);
  CHECK(checked_product(most, 1) == most);
  CHECK(checked_product(1, most) == most);
  CHECK(checked_product(most / 2, 2) == most - 1);
  CHECK(checked_product(most / 3, 3) == most);
  CHECK(checked_product(most / 2 + 1, 2) == std::nullopt);
  CHECK(checked_product(2, most / 2 + 1) == std::nullopt);
  CHECK(checked_product(most, most) == std::nullopt);
  CHECK(checked_product(most, 0) == 0);
  CHECK(checked_product(0, most) == 0);
}

TEST_CASE("elements and bytes of a shape") {
  CHECK(element_count({}) == 1);
  CHECK(element_count({2, 3, 4}) == 24);
  CHECK(element_count({2, 0, 4}) == 0);
  CHECK(element_count({most, 1}) == most);
  CHECK(element_count({most, 2}) == std::nullopt);
  CHECK(element_count({most, 0, 2}) == std::nullopt);  // an order of loops may multiply it
  CHECK(byte_count({3, 2}, DType::f64) == 48);
  CHECK(byte_count({most / 4}, DType::f32) == most / 4 * 4);
  CHECK(byte_count({most / 4 + 1}, DType::f32) == std::nullopt);
  CHECK(byte_count({2, 64}, DType::q4_0) == 4 * 18);
  CHECK(byte_count({most, 2}, DType::u8) == std::nullopt);
}

TEST_CASE("rows of blocks are whole blocks") {
  const auto accepts = [](const Shape& shape, DType type) {
    try {
      require_whole_blocks(shape, type, "file", "x");
    } catch (const Error&) {
      return false;
    }
    return true;
  };
  CHECK(accepts({3, 64}, DType::q4_0));
  CHECK(accepts({3, 0}, DType::q4_0));
  CHECK_FALSE(accepts({64, 3}, DType::q4_0));
  CHECK_FALSE(accepts({32, 33}, DType::q4_0));
  CHECK_FALSE(accepts({}, DType::q4_0));
  CHECK(accepts({}, DType::f32));
}

TEST_CASE("names in messages are quoted, escaped and cut after 120 bytes") {
  CHECK(printable("a b~") == "\"a b~\"");
  CHECK(printable("\x1f\x20\x7e\x7f\"\\") == R"("\x1f ~\x7f\x22\x5c")");
  const std::string full(120, 'n');
  CHECK(printable(full) == '"' + full + '"');
  CHECK(printable(full + 'm') == '"' + full + "...\"");
}

TEST_CASE("UTF-8 at the edges of every length") {
  for (const char* good : {"", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    CHECK(is_utf8(good));
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x7f", "\xc2\xc0", "\xe0\x9f\xbf",
        "\xe0\xa0", "\xe0\xa0\xc0", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf",
        "\xf0\x90\x80", "\xf0\x90\x80\x40", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"})
    CHECK_FALSE(is_utf8(bad));
  CHECK(is_utf8(std::string_view("\0", 1)));
}

TEST_CASE("a cursor reads up to the last byte and refuses one more") {
  const std::vector<std::byte> bytes{std::byte{1}, std::byte{0}, std::byte{2}};
  const std::string source = "file";
  Cursor in(bytes, source);
  CHECK(in.take(0, "nothing").empty());
  CHECK(in.get<std::uint16_t>("a number") == 1);
  CHECK(in.position() == 2);
  CHECK(in.remaining() == 1);
  CHECK_THROWS_WITH_AS(in.get<std::uint16_t>("a number"),
                       "file: ends in the middle of a number: 2 bytes at offset 2 of 3", Error);
  CHECK_THROWS_AS(in.take(~std::uint64_t{0}, "a text"), Error);
  CHECK(in.text(1, "a text") == "\2");
  CHECK(in.take(0, "nothing").empty());
  CHECK_THROWS_AS(in.take(1, "a byte"), Error);
}
