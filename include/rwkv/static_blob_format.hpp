// SPDX-License-Identifier: Apache-2.0
// How a blob of a static model (static_blob.hpp) begins, and how it is linked in. Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

#include <cstddef>
#include <span>

/// Links a file into the program, as an array of bytes at a multiple of 64 (GNU assemblers, ELF).
/// At namespace scope, in one translation unit; `path` is what the assembler finds.
#define RWKV_EMBED(symbol, path)                                                       \
  asm(".pushsection .rodata." #symbol ",\"a\",%progbits\n.balign 64\n.global " #symbol \
      "\n" #symbol ":\n.incbin \"" path "\"\n.global " #symbol "_end\n" #symbol        \
      "_end:\n.byte 0\n.popsection\n");                                                \
  extern "C" const std::byte symbol[];                                                 \
  extern "C" const std::byte symbol##_end[]
/// What RWKV_EMBED has linked in, as a span of bytes.
#define RWKV_EMBEDDED(symbol) std::span<const std::byte>(symbol, symbol##_end)

namespace rwkv::inline RWKV_ABI {

/// What a blob begins with; then come `tensors` entries, then the tensors. Numbers are
/// little-endian.
struct StaticBlobHeader {
  static constexpr char right_magic[8] = {'R', 'W', 'K', 'V', 'b', 'l', 'o', 'b'};
  static constexpr std::uint32_t right_version = 1;
  /// `flags`
  static constexpr std::uint32_t extended_eigenvalues = 1;
  static constexpr std::uint32_t normalised_table = 2;
  static constexpr std::uint32_t known_flags = 3;

  char magic[8];
  std::uint32_t version;
  std::uint32_t layout;         ///< kernels::panel_layout
  std::uint64_t bytes;          ///< of the whole blob
  std::uint64_t table_bytes;    ///< of the second blob, with the tables and the head; 0: none
  std::uint64_t fingerprint;    ///< of the weights: the same as the host's model has
  std::uint64_t checksum;       ///< of everything but itself: see blob_checksum
  std::uint32_t dimensions[9];  ///< L, C, N, F, V and the ranks of decay, icl, value and gate
  float layer_norm_epsilon;
  float group_norm_epsilon;
  std::uint32_t flags;
  std::uint32_t tensors;
  std::uint32_t deep_rank;  ///< of DeepEmbed; 0: none
  std::byte reserved[24];
};
static_assert(sizeof(StaticBlobHeader) == 128);

/// Where a tensor lies. Tensors are in the order of tensors.hpp: those outside the blocks, then
/// block after block.
struct StaticBlobEntry {
  static constexpr std::uint32_t absent = 0xffffffffu;
  static constexpr std::uint32_t in_tables = 0x80000000u;  ///< in the second blob
  static constexpr std::uint32_t in_quads = 0x40000000u;   ///< ordered as in kernels/quads.hpp

  std::uint32_t type;  ///< number of the type in GGUF files
  std::uint32_t line;  ///< offset / 64
};

namespace internal {

inline constexpr std::size_t blob_line = 64;

/// FNV-1a over bytes, continued from `hash`.
[[nodiscard]] constexpr std::uint64_t blob_checksum(
    std::span<const std::byte> bytes, std::uint64_t hash = 0xcbf29ce484222325u) noexcept {
  for (const std::byte b : bytes)
    hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3u;
  return hash;
}

/// Of the header but for its checksum, what follows it in the first blob, and the second blob.
[[nodiscard]] inline std::uint64_t blob_checksum(StaticBlobHeader header,
                                                 std::span<const std::byte> rest,
                                                 std::span<const std::byte> tables) noexcept {
  header.checksum = 0;
  return blob_checksum(tables,
                       blob_checksum(rest, blob_checksum(std::as_bytes(std::span(&header, 1)))));
}

}  // namespace internal

}  // namespace rwkv::inline RWKV_ABI
