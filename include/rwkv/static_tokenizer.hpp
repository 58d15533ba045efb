// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back on a microcontroller: bytes, and any vocabulary as a constant piece of
// memory, in flash or linked in (`rwkv export --format vocabulary`).
//
//   const char* why = nullptr;
//   const auto world = rwkv::StaticTokenizer::from(RWKV_EMBEDDED(world_vocabulary), &why);
//   const auto [length, next] = world->longest_prefix("Hello world");   // and so on behind it
//
// Freestanding: no heap, no exceptions.
#pragma once

#include <rwkv/core/conventions.hpp>
#include <rwkv/static_blob_format.hpp>

#include <concepts>
#include <optional>

namespace rwkv::inline RWKV_ABI {

/// What a text begins with: a token, and how many bytes it is.
struct TokenMatch {
  std::size_t length = 0;  ///< 0: no token is a prefix of the text
  Token token = 0;
};

/// What static_generate.hpp reads and writes text with.
template <class T>
concept AnyStaticTokenizer = requires(const T& t, std::string_view text, Token token) {
  { t.vocab_size() } -> std::convertible_to<std::size_t>;
  { t.longest_prefix(text) } -> std::convertible_to<TokenMatch>;
  { t.token_bytes(token) } -> std::convertible_to<std::string_view>;
};

namespace internal {
inline constexpr auto all_bytes = [] {
  struct {
    char of[256];
  } bytes{};
  for (int i = 0; i < 256; ++i) bytes.of[i] = static_cast<char>(i);
  return bytes;
}();
}  // namespace internal

/// One token per byte: 256 ids, id = byte.
struct ByteTokenizer {
  [[nodiscard]] static constexpr std::size_t vocab_size() noexcept { return 256; }
  [[nodiscard]] static constexpr TokenMatch longest_prefix(std::string_view text) noexcept {
    if (text.empty()) return {};
    return {1, static_cast<unsigned char>(text[0])};
  }
  /// Nothing for an id past the vocabulary.
  [[nodiscard]] static constexpr std::string_view token_bytes(Token token) noexcept {
    return token < 256 ? std::string_view(internal::all_bytes.of + token, 1) : std::string_view();
  }
};

/// What a vocabulary begins with. Then come, each right behind the other and without gaps:
///   u32 [257]               the rank of the first token that begins with this byte or a later one
///   u16 or u32 [tokens]     ids in the order of their bytes: u16 if there are at most 2^16 ids
///   u32 [ids / 32 + 1]      where the bytes of id 32 i begin ...
///   u16 [ids + 1]           ... and how much later those of an id do
///   the bytes of all tokens by id
/// Numbers are little-endian, at any address.
struct StaticVocabularyHeader {
  static constexpr char right_magic[8] = {'R', 'W', 'K', 'V', 'v', 'o', 'c', 'a'};
  static constexpr std::uint32_t right_version = 1;

  char magic[8];
  std::uint32_t version;
  std::uint32_t ids;         ///< the highest id plus 1
  std::uint32_t tokens;      ///< ids that have bytes
  std::uint32_t text_bytes;  ///< of all tokens together
  std::uint64_t bytes;       ///< of everything
  std::uint64_t checksum;    ///< of everything but itself
};
static_assert(sizeof(StaticVocabularyHeader) == 40);

namespace internal {
/// Where the parts of a vocabulary begin, and where it ends.
struct VocabularyLayout {
  std::uint64_t order, bases, nears, text, end;
  unsigned order_width;

  constexpr explicit VocabularyLayout(const StaticVocabularyHeader& h) noexcept
      : order(sizeof h + 257 * 4),
        bases(order + std::uint64_t{h.tokens} * (h.ids <= 0x10000 ? 2 : 4)),
        nears(bases + (std::uint64_t{h.ids} / 32 + 1) * 4),
        text(nears + (std::uint64_t{h.ids} + 1) * 2),
        end(text + h.text_bytes),
        order_width(h.ids <= 0x10000 ? 2 : 4) {}
};
}  // namespace internal

/// A vocabulary of any number of tokens, found by halving: some hundred reads for a token of the
/// World vocabulary. A checked view, freely shared; what it looks at must outlive it. It reads
/// nothing outside, even where the bytes were changed after the check.
class StaticTokenizer {
 public:
  /// The vocabulary in `bytes` (at any address), or nothing if it is none; `why` then gets a
  /// sentence. Reads the header: `intact` reads the rest.
  [[nodiscard]] static std::optional<StaticTokenizer> from(std::span<const std::byte> bytes,
                                                           const char** why = nullptr) noexcept {
    const StaticTokenizer view(bytes);
    const char* const problem = view.problem();
    if (problem == nullptr) return view;
    if (why != nullptr) *why = problem;
    return std::nullopt;
  }

  /// Whether all bytes are what they were when the vocabulary was written. Reads all of it.
  [[nodiscard]] bool intact() const noexcept {
    StaticVocabularyHeader h = header_;
    h.checksum = 0;
    return header_.checksum ==
           internal::blob_checksum({at_ + sizeof h, static_cast<std::size_t>(h.bytes) - sizeof h},
                                   internal::blob_checksum(std::as_bytes(std::span(&h, 1))));
  }

  /// Number of ids: the highest one plus 1.
  [[nodiscard]] std::size_t vocab_size() const noexcept { return header_.ids; }

  /// The longest token that `text` begins with. O(length * log tokens).
  [[nodiscard]] TokenMatch longest_prefix(std::string_view text) const noexcept {
    TokenMatch match;
    if (text.empty()) return match;
    const auto first = static_cast<unsigned char>(text[0]);
    std::uint32_t begin = number<4>(sizeof header_ + first * 4u);
    std::uint32_t end = number<4>(sizeof header_ + first * 4u + 4);
    if (end > header_.tokens) end = header_.tokens;
    // Tokens [begin, end) begin with the first `depth` bytes of the text, the shortest in front.
    for (std::size_t depth = 1; begin < end; ++depth) {
      const Token token = ranked(begin);
      if (token_bytes(token).size() == depth) {
        match = {depth, token};
        ++begin;
      }
      if (depth == text.size()) break;
      const unsigned byte = static_cast<unsigned char>(text[depth]);
      begin = first_from(byte, depth, begin, end);
      end = first_from(byte + 1, depth, begin, end);
    }
    return match;
  }

  /// The bytes of a token; nothing for an id past the vocabulary.
  [[nodiscard]] std::string_view token_bytes(Token token) const noexcept {
    if (token >= header_.ids) return {};
    const std::uint32_t begin = begin_of(token);
    const std::uint32_t end = begin_of(token + 1);
    if (begin > end || end > header_.text_bytes) return {};
    return {reinterpret_cast<const char*>(at_) + layout().text + begin, end - begin};
  }

 private:
  explicit StaticTokenizer(std::span<const std::byte> bytes) noexcept
      : at_(bytes.data()), size_(bytes.size()) {
    if (size_ < sizeof header_) return;
    for (std::size_t i = 0; i < sizeof header_; ++i)
      reinterpret_cast<std::byte*>(&header_)[i] = at_[i];
  }

  [[nodiscard]] const char* problem() const noexcept {
    if (size_ < sizeof header_) return "the vocabulary is shorter than its header";
    for (std::size_t i = 0; i < sizeof header_.magic; ++i)
      if (header_.magic[i] != StaticVocabularyHeader::right_magic[i])
        return "this is no vocabulary of a static model";
    if (header_.version != StaticVocabularyHeader::right_version)
      return "the vocabulary was written by another version of rwkv: export it again";
    if (header_.bytes > size_) return "the vocabulary is cut off";
    if (header_.tokens > header_.ids || header_.ids > 1u << 18 || layout().end != header_.bytes)
      return "the vocabulary's parts are not as large as it says";
    return nullptr;
  }

  [[nodiscard]] internal::VocabularyLayout layout() const noexcept {
    return internal::VocabularyLayout(header_);
  }

  template <unsigned Bytes>
  [[nodiscard]] std::uint32_t number(std::uint64_t offset) const noexcept {
    const std::byte* const p = at_ + static_cast<std::size_t>(offset);
    std::uint32_t n = 0;
    for (unsigned i = 0; i < Bytes; ++i) n |= std::to_integer<std::uint32_t>(p[i]) << 8 * i;
    return n;
  }

  [[nodiscard]] std::uint32_t begin_of(Token id) const noexcept {
    return number<4>(layout().bases + id / 32 * 4) + number<2>(layout().nears + id * 2);
  }

  /// The token at this place in the order of bytes.
  [[nodiscard]] Token ranked(std::uint32_t rank) const noexcept {
    const internal::VocabularyLayout l = layout();
    return l.order_width == 2 ? number<2>(l.order + rank * 2) : number<4>(l.order + rank * 4);
  }

  /// The first of [begin, end) whose byte at `depth` is at least `byte`.
  [[nodiscard]] std::uint32_t first_from(unsigned byte, std::size_t depth, std::uint32_t begin,
                                         std::uint32_t end) const noexcept {
    while (begin < end) {
      const std::uint32_t middle = begin + (end - begin) / 2;
      const std::string_view bytes = token_bytes(ranked(middle));
      if (depth < bytes.size() && static_cast<unsigned char>(bytes[depth]) < byte)
        begin = middle + 1;
      else
        end = middle;
    }
    return begin;
  }

  const std::byte* at_;
  std::size_t size_;
  StaticVocabularyHeader header_{};
};

}  // namespace rwkv::inline RWKV_ABI
