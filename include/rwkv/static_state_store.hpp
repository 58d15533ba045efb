// SPDX-License-Identifier: Apache-2.0
// The state of a static model as bytes, and in flash: saved so that a power cut at any moment leaves
// the state that was saved before, or the new one.
//
//   static rwkv::State<tiny::Shape> state;
//   static std::byte bytes[rwkv::saved_bytes<decltype(state)>];
//   rwkv::save_state(state, model.weights().fingerprint(), bytes);
//   const char* why = rwkv::load_state(state, model.weights().fingerprint(), bytes);  // null: loaded
//
// Freestanding: no heap, no exceptions.
#pragma once

#include <rwkv/core/half.hpp>
#include <rwkv/static_blob_format.hpp>

#include <concepts>
#include <type_traits>

namespace rwkv::inline RWKV_ABI {

/// What a saved state begins with; then come the numbers of `values()` of State, CompactState or
/// FixedState. Little-endian.
struct SavedStateHeader {
  static constexpr char right_magic[8] = {'R', 'W', 'K', 'V', 's', 't', 'a', 't'};

  char magic[8];
  std::uint32_t version;      ///< 1
  std::uint32_t number_type;  ///< as in GGUF: 0 float, 1 half, 25 int16, 30 bfloat16
  std::uint64_t fingerprint;  ///< of the weights
  std::uint64_t numbers;      ///< how many there are
  std::uint64_t save;         ///< 1 for the first save of a store, and so on
  std::uint64_t checksum;     ///< of everything but itself
};
static_assert(sizeof(SavedStateHeader) == 48);

/// Something that holds numbers as `values()`, without pointers: State of a static shape,
/// CompactState, or FixedState.
template <class S>
concept StaticState = requires(S& s, const S& c) {
  s.values().data();
  c.values().size_bytes();
};

/// Bytes that a state is saved in. (A state of type S is that large at least.)
template <StaticState S>
inline constexpr std::size_t saved_bytes = sizeof(SavedStateHeader) + sizeof(S);

namespace internal {

[[nodiscard]] inline std::span<const std::byte> bytes_of_header(
    const SavedStateHeader& h) noexcept {
  return std::as_bytes(std::span(&h, 1));
}

template <class S>
[[nodiscard]] constexpr std::uint32_t number_type(const S& state) noexcept {
  using Number = std::remove_cvref_t<decltype(state.values()[0])>;
  constexpr bool integers = std::is_same_v<Number, std::int16_t>;
  static_assert(std::is_same_v<Number, float> || std::is_same_v<Number, half> ||
                std::is_same_v<Number, bfloat16> || integers);
  return std::is_same_v<Number, float> ? 0 : std::is_same_v<Number, half> ? 1 : integers ? 25 : 30;
}

template <class S>
[[nodiscard]] SavedStateHeader saved_header(const S& state, std::uint64_t fingerprint,
                                            std::uint64_t save) noexcept {
  SavedStateHeader h{};
  for (std::size_t i = 0; i < sizeof h.magic; ++i) h.magic[i] = h.right_magic[i];
  h.version = 1;
  h.number_type = number_type(state);
  h.fingerprint = fingerprint;
  h.numbers = state.values().size();
  h.save = save;
  h.checksum = blob_checksum(std::as_bytes(state.values()), blob_checksum(bytes_of_header(h)));
  return h;
}

/// What keeps a header from being that of a state of type S for these weights; null: nothing.
template <class S>
[[nodiscard]] const char* problem_with(const SavedStateHeader& h, const S& state,
                                       std::uint64_t fingerprint) noexcept {
  for (std::size_t i = 0; i < sizeof h.magic; ++i)
    if (h.magic[i] != SavedStateHeader::right_magic[i]) return "there is no saved state";
  if (h.version != 1) return "the state was saved by another version of rwkv";
  if (h.number_type != number_type(state) || h.numbers != state.values().size())
    return "the saved state is of another shape, or its numbers of another type";
  if (h.fingerprint != fingerprint) return "the saved state belongs to other weights";
  return nullptr;
}

}  // namespace internal

/// Where states are saved: two areas of at least `saved_bytes` that can be erased apart from each
/// other (pages of flash). `erase(area)` prepares one for writing, `write(area, offset, bytes)` puts
/// bytes there, each place once after an erase and in no fixed sizes, `read(area, offset, bytes)`
/// fetches them. The first two return false where the hardware says so.
template <class F>
concept StateFlash = requires(F& flash, unsigned area, std::size_t offset,
                              std::span<const std::byte> from, std::span<std::byte> to) {
  { flash.erase(area) } -> std::convertible_to<bool>;
  { flash.write(area, offset, from) } -> std::convertible_to<bool>;
  flash.read(area, offset, to);
};

namespace internal {

/// The header of the state in an area, if it is whole. Reads all of it.
template <class S, class Flash>
[[nodiscard]] const char* whole(Flash& flash, unsigned area, const S& state,
                                std::uint64_t fingerprint, SavedStateHeader& h) noexcept {
  flash.read(area, 0, std::as_writable_bytes(std::span(&h, 1)));
  if (const char* const problem = problem_with(h, state, fingerprint)) return problem;
  SavedStateHeader blank = h;
  blank.checksum = 0;
  std::uint64_t sum = blob_checksum(bytes_of_header(blank));
  std::byte piece[64];
  const std::size_t bytes = state.values().size_bytes();
  for (std::size_t at = 0; at < bytes; at += sizeof piece) {
    const std::size_t n = bytes - at < sizeof piece ? bytes - at : sizeof piece;
    flash.read(area, sizeof h + at, std::span(piece, n));
    sum = blob_checksum(std::span<const std::byte>(piece, n), sum);
  }
  return sum == h.checksum ? nullptr : "the saved state is damaged";
}

}  // namespace internal

/// Saves into the area that does not hold the newest whole state: header last, so that what is cut
/// off is none. False if the flash refused; the state that was there before is still there. Reads
/// both areas.
template <StaticState S, StateFlash Flash>
[[nodiscard]] bool save_state(const S& state, std::uint64_t fingerprint, Flash& flash) noexcept {
  SavedStateHeader h[2];
  std::uint64_t saves[2];
  for (unsigned area = 0; area < 2; ++area)
    saves[area] =
        internal::whole(flash, area, state, fingerprint, h[area]) == nullptr ? h[area].save : 0;
  const unsigned to = saves[0] > saves[1] ? 1 : 0;
  const SavedStateHeader next = internal::saved_header(state, fingerprint, saves[1 - to] + 1);
  return flash.erase(to) && flash.write(to, sizeof next, std::as_bytes(state.values())) &&
         flash.write(to, 0, internal::bytes_of_header(next));
}

/// Loads the newest whole state. Null: it is loaded; else a sentence, and the state is as it was.
template <StaticState S, StateFlash Flash>
[[nodiscard]] const char* load_state(S& state, std::uint64_t fingerprint, Flash& flash) noexcept {
  SavedStateHeader h[2];
  const char* problems[2];
  for (unsigned area = 0; area < 2; ++area)
    problems[area] = internal::whole(flash, area, state, fingerprint, h[area]);
  const bool both = problems[0] == nullptr && problems[1] == nullptr;
  const unsigned from = both ? h[1].save > h[0].save : problems[0] != nullptr;
  if (problems[from] != nullptr) return problems[0];
  flash.read(from, sizeof h[0], std::as_writable_bytes(state.values()));
  return nullptr;
}

namespace internal {
/// Bytes in memory as the only area.
struct StateBytes {
  const std::byte* at;
  void read(unsigned, std::size_t offset, std::span<std::byte> to) const noexcept {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = at[offset + i];
  }
};
}  // namespace internal

/// Writes the state into bytes; how many (`saved_bytes`), or 0 if there is no room.
template <StaticState S>
std::size_t save_state(const S& state, std::uint64_t fingerprint,
                       std::span<std::byte> bytes) noexcept {
  const SavedStateHeader h = internal::saved_header(state, fingerprint, 1);
  const std::size_t size = sizeof h + state.values().size_bytes();
  if (bytes.size() < size) return 0;
  std::byte* to = bytes.data();
  for (const std::byte b : internal::bytes_of_header(h)) *to++ = b;
  for (const std::byte b : std::as_bytes(state.values())) *to++ = b;
  return size;
}

/// Reads it back. Null: it is loaded; else a sentence, and the state is as it was.
template <StaticState S>
[[nodiscard]] const char* load_state(S& state, std::uint64_t fingerprint,
                                     std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < sizeof(SavedStateHeader) + state.values().size_bytes())
    return "the saved state is cut off";
  internal::StateBytes memory{bytes.data()};
  SavedStateHeader h;
  if (const char* const problem = internal::whole(memory, 0, state, fingerprint, h)) return problem;
  memory.read(0, sizeof h, std::as_writable_bytes(state.values()));
  return nullptr;
}

}  // namespace rwkv::inline RWKV_ABI
