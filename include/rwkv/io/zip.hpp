// SPDX-License-Identifier: Apache-2.0
// ZIP archives as torch.save writes them: entries stored without compression, ZIP64 or not. The
// central directory says what there is; local headers only say where the data of an entry begins.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/untrusted.hpp>

#include <algorithm>
#include <map>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// Entry data by name, as views of the archive.
using ZipEntries = std::map<std::string, std::span<const std::byte>, std::less<>>;

/// Finds the central directory and reads it entry by entry.
class ZipReader {
 public:
  ZipReader(std::span<const std::byte> bytes, const std::string& source)
      : bytes_(bytes), source_(source) {}

  [[nodiscard]] ZipEntries read() {
    const Directory directory = find_directory();
    constexpr std::uint64_t smallest_record = 46;
    if (directory.offset > bytes_.size() || directory.size > bytes_.size() - directory.offset ||
        directory.entries > directory.size / smallest_record)
      refuse("the ZIP directory of ", directory.entries, " entries does not fit the file");
    data_end_ = directory.offset;
    Cursor in(bytes_.subspan(static_cast<std::size_t>(directory.offset),
                             static_cast<std::size_t>(directory.size)),
              source_);
    for (std::uint64_t i = 0; i < directory.entries; ++i) read_entry(in);
    refuse_overlaps();
    return std::move(entries_);
  }

 private:
  struct Directory {
    std::uint64_t entries = 0;
    std::uint64_t size = 0;
    std::uint64_t offset = 0;
  };

  template <class... Why>
  [[noreturn]] void refuse(const Why&... why) const {
    fail_with(ErrorCategory::format, source_, ": ", why...);
  }

  // The record at the very end, behind it at most a comment of 65535 bytes.
  Directory find_directory() const {
    constexpr std::size_t length = 22;
    constexpr std::size_t longest_comment = 65535;
    for (std::size_t comment = 0; comment <= longest_comment && comment + length <= bytes_.size();
         ++comment) {
      const std::size_t at = bytes_.size() - length - comment;
      if (std::memcmp(bytes_.data() + at, "PK\5\6", 4) != 0) continue;
      Cursor in(bytes_.subspan(at), source_);
      in.take(4, "the ZIP end record");
      const auto disk = in.get<std::uint16_t>("the ZIP end record");
      const auto directory_disk = in.get<std::uint16_t>("the ZIP end record");
      const auto entries_here = in.get<std::uint16_t>("the ZIP end record");
      Directory directory;
      directory.entries = in.get<std::uint16_t>("the ZIP end record");
      directory.size = in.get<std::uint32_t>("the ZIP end record");
      directory.offset = in.get<std::uint32_t>("the ZIP end record");
      if (in.get<std::uint16_t>("the ZIP end record") != comment) continue;
      if (disk != directory_disk || entries_here != directory.entries)
        refuse("the ZIP archive is split into several files");
      return zip64_directory(at).value_or(directory);
    }
    refuse("the ZIP archive has no directory; the file is cut off or damaged");
  }

  // ZIP64: a locator right before the end record points to a record with 64-bit fields.
  std::optional<Directory> zip64_directory(std::size_t end_record) const {
    constexpr std::size_t locator_length = 20;
    if (end_record < locator_length) return std::nullopt;
    Cursor locator(bytes_.subspan(end_record - locator_length, locator_length), source_);
    if (locator.text(4, "the ZIP64 locator") != "PK\6\7") return std::nullopt;
    locator.take(4, "the ZIP64 locator");  // number of the disk
    const auto at = locator.get<std::uint64_t>("the ZIP64 locator");
    if (at > end_record) refuse("the ZIP64 end record lies at ", at, ", past the end");
    Cursor in(bytes_.subspan(static_cast<std::size_t>(at)), source_);
    if (in.text(4, "the ZIP64 end record") != "PK\6\6")
      refuse("there is no ZIP64 end record at ", at);
    in.take(28, "the ZIP64 end record");  // sizes, versions, disks, entries on this disk
    Directory directory;
    directory.entries = in.get<std::uint64_t>("the ZIP64 end record");
    directory.size = in.get<std::uint64_t>("the ZIP64 end record");
    directory.offset = in.get<std::uint64_t>("the ZIP64 end record");
    return directory;
  }

  void read_entry(Cursor& in) {
    if (in.text(4, "the ZIP directory") != "PK\1\2")
      refuse("the ZIP directory is damaged at entry ", entries_.size());
    in.take(4, "the ZIP directory");  // versions
    const auto flags = in.get<std::uint16_t>("the ZIP directory");
    const auto method = in.get<std::uint16_t>("the ZIP directory");
    in.take(8, "the ZIP directory");  // time, date, checksum
    std::uint64_t packed = in.get<std::uint32_t>("the ZIP directory");
    std::uint64_t size = in.get<std::uint32_t>("the ZIP directory");
    const auto name_length = in.get<std::uint16_t>("the ZIP directory");
    const auto extra_length = in.get<std::uint16_t>("the ZIP directory");
    const auto comment_length = in.get<std::uint16_t>("the ZIP directory");
    in.take(8, "the ZIP directory");  // disk, attributes
    std::uint64_t offset = in.get<std::uint32_t>("the ZIP directory");
    const std::string name(in.text(name_length, "the ZIP directory"));
    Cursor extra(in.take(extra_length, "the ZIP directory"), source_);
    widen(extra, size, packed, offset);
    in.take(comment_length, "the ZIP directory");

    if ((flags & 1) != 0) refuse("the ZIP entry ", printable(name), " is encrypted");
    if (method != 0)
      fail_with(ErrorCategory::unsupported, source_, ": the ZIP entry ", printable(name),
                " is compressed; torch.save stores entries uncompressed");
    if (packed != size)
      refuse("the ZIP entry ", printable(name), " is stored in ", packed, " bytes but has ", size);
    const auto data = locate(name, offset, size);
    if (!entries_.emplace(name, data).second)
      refuse("the ZIP entry ", printable(name), " occurs twice");
  }

  // Fields that do not fit 32 bits are all ones and follow, in this order, in extra field 1.
  void widen(Cursor& extra, std::uint64_t& size, std::uint64_t& packed, std::uint64_t& offset) {
    constexpr std::uint64_t see_extra = 0xffffffff;
    while (extra.remaining() >= 4) {
      const auto id = extra.get<std::uint16_t>("a ZIP extra field");
      const auto length = extra.get<std::uint16_t>("a ZIP extra field");
      Cursor field(extra.take(length, "a ZIP extra field"), source_);
      if (id != 1) continue;
      for (std::uint64_t* value : {&size, &packed, &offset})
        if (*value == see_extra) *value = field.get<std::uint64_t>("a ZIP64 extra field");
    }
  }

  std::span<const std::byte> locate(const std::string& name, std::uint64_t offset,
                                    std::uint64_t size) {
    if (offset > data_end_)
      refuse("the ZIP entry ", printable(name), " begins at ", offset, ", past the data");
    const auto begin = static_cast<std::size_t>(offset);
    Cursor in(bytes_.subspan(begin, static_cast<std::size_t>(data_end_) - begin), source_);
    if (in.text(4, "a ZIP entry") != "PK\3\4")
      refuse("there is no ZIP entry ", printable(name), " at ", offset);
    in.take(22, "a ZIP entry");
    const auto name_length = in.get<std::uint16_t>("a ZIP entry");
    const auto extra_length = in.get<std::uint16_t>("a ZIP entry");
    if (in.text(name_length, "a ZIP entry") != name)
      refuse("the ZIP entry at ", offset, " is not the ", printable(name), " of the directory");
    in.take(extra_length, "a ZIP entry");
    const auto data = in.take(size, "a ZIP entry");
    extents_.emplace_back(begin, begin + in.position());
    return data;
  }

  void refuse_overlaps() {
    std::sort(extents_.begin(), extents_.end());
    for (std::size_t i = 1; i < extents_.size(); ++i)
      if (extents_[i].first < extents_[i - 1].second)
        refuse("ZIP entries overlap at ", extents_[i].first);
  }

  std::span<const std::byte> bytes_;
  const std::string& source_;
  std::uint64_t data_end_ = 0;  // entries lie before the directory
  ZipEntries entries_;
  std::vector<std::pair<std::size_t, std::size_t>> extents_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
