// SPDX-License-Identifier: Apache-2.0
// How models were trained to see a conversation, as data:
//
//   classic   System: ...\n\nUser: ...\n\nAssistant: ...\n\n      World, G1 to G1g
//   native    System✿...✿\nUser✿...✿\nBot✿...✿\n                  G1h and later
//   sections  ### System\n...\n\n### User\n...\n\n### Assistant\n...\n\n
//
// A template added here is known to conversations (rwkv/chat.hpp), to the tool and to the function
// that chooses one by what a model file says.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/sampler.hpp>

#include <array>

#if !defined(RWKV_NO_FILES)
#include <filesystem>
#endif

namespace rwkv::inline RWKV_ABI::chat {

/// Whether and how long a model thinks before it answers.
enum class Think : std::uint8_t {
  unsaid,      ///< the template's plain form
  skip,        ///< empty thoughts, it answers at once
  skip_lines,  ///< the same in the other form that was trained
  open,        ///< it thinks first
  asked,       ///< it thinks first, and the user asks for it
  a_bit,       ///< not for long
  a_lot,       ///< for long
};

/// What surrounds a text.
struct Frame {
  std::string_view before;
  std::string_view after;
};

/// One way to begin an answer.
struct Mode {
  Think think;
  std::string_view name;     ///< on command lines
  std::string_view hint;     ///< behind the user's text
  std::string_view opening;  ///< what the answer begins with; the model writes on from there
  /// Behind the opening of an answer that is to be a function call. Empty: there are none this way,
  /// because the thoughts come first.
  std::string_view fence;
  bool thinks;  ///< the opening leaves the thoughts open
};

/// A conversation is a system turn (or none), and then user's turns and answers in turn.
struct Template {
  std::string_view name;
  std::string_view about;  ///< which models, for people
  Frame system;
  Frame user;  ///< also of what a called function returned
  Frame answer;
  std::span<const Mode> modes;  ///< the first is the default
  bool forgets_thoughts;        ///< earlier answers are shown without theirs
  std::string_view past;  ///< what earlier answers begin with if not with what the model was given
  /// What ends an answer besides token 0. A string that is one token of the vocabulary ends it as
  /// such.
  std::array<std::string_view, 3> stops;
  bool cuts_line_ends;        ///< cleaning removes blanks at the ends of lines
  std::string_view reserved;  ///< cleaning removes it from texts, which could forge turns with it
  /// A template in jinja notation is this one if it contains both strings of one of these (an empty
  /// pair is none).
  std::array<std::array<std::string_view, 2>, 2> known_by;
};

inline constexpr Mode classic_modes[] = {
    {Think::unsaid, "off", "", "", " ```json\n", false},
    {Think::skip, "fast", "", " <think></think", ">\n```json\n", false},
    {Think::skip_lines, "fast-lines", "", " <think>\n</think", ">\n```json\n", false},
    {Think::open, "on", "", " <think", "", true},
    {Think::asked, "asked", " (think)", " <think", "", true},
    {Think::a_bit, "a-bit", " (think a bit)", " <think", "", true},
    {Think::a_lot, "a-lot", " (think a lot)", " <think", "", true},
};

inline constexpr Mode native_modes[] = {
    {Think::unsaid, "off", "", "<think></think>", "```json\n", false},
    {Think::skip, "fast", "", "<think></think>", "```json\n", false},
    {Think::open, "on", "", "<think", "", true},
};

inline constexpr Mode plain_modes[] = {{Think::unsaid, "off", "", "", "```json\n", false}};

/// What ends a function call that the template began with a fence.
inline constexpr std::string_view fence_end = "\n```";

// ✿ is one token of the World vocabulary, 10060.
#define RWKV_FLOWER "\xe2\x9c\xbf"
inline constexpr Template templates[] = {
    {.name = "classic",
     .about = "\"User: ... Assistant: ...\": World, G1 to G1g",
     .system = {"System: ", "\n\n"},
     .user = {"User: ", "\n\n"},
     .answer = {"Assistant:", "\n\n"},
     .modes = classic_modes,
     .forgets_thoughts = false,
     .past = " ",
     .stops = {"\n\nUser:", "\n\nSystem:", "\n\nAssistant:"},
     .cuts_line_ends = false,
     .reserved = "",
     .known_by = {{{"User: ", "Assistant:"}, {"rwkv-world", ""}}}},
    {.name = "native",
     .about = "\"User" RWKV_FLOWER "... Bot" RWKV_FLOWER "...\": G1h and later",
     .system = {"System" RWKV_FLOWER, RWKV_FLOWER "\n"},
     .user = {"User" RWKV_FLOWER, RWKV_FLOWER "\n"},
     .answer = {"Bot" RWKV_FLOWER, RWKV_FLOWER "\n"},
     .modes = native_modes,
     .forgets_thoughts = true,
     .past = "<think></think>",
     .stops = {RWKV_FLOWER, "", ""},
     .cuts_line_ends = true,
     .reserved = RWKV_FLOWER,
     .known_by = {{{RWKV_FLOWER, "Bot"}, {"\\u273", "Bot"}}}},  // \u273f
    {.name = "sections",
     .about = "\"### User ... ### Assistant ...\": models tuned to it",
     .system = {"### System\n", "\n\n"},
     .user = {"### User\n", "\n\n"},
     .answer = {"### Assistant\n", "\n\n"},
     .modes = plain_modes,
     .forgets_thoughts = false,
     .past = "",
     .stops = {"\n\n### User", "\n\n### System", "\n\n### Assistant"},
     .cuts_line_ends = false,
     .reserved = "",
     .known_by = {{{"### User", "### Assistant"}, {}}}},
};
#undef RWKV_FLOWER

inline constexpr const Template& classic = templates[0];
inline constexpr const Template& native = templates[1];
inline constexpr const Template& sections = templates[2];

/// A template in jinja notation, and where it was found: "metadata tokenizer.chat_template" or the
/// path of a file. Both are empty if nothing says anything.
struct Found {
  std::string jinja;
  std::string from;
};

/// A template, and what chose it.
struct Choice {
  const Template* form = &classic;
  std::string from;        ///< as in `Found`
  bool recognised = true;  ///< false: `from` has a template that is none of these
};

}  // namespace rwkv::inline RWKV_ABI::chat

namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA {

/// The template of this name. Throws `Error` (argument) with the names that there are.
[[nodiscard]] RWKV_FUNCTION const Template& template_named(std::string_view name);

/// How answers begin that way. Throws `Error` (argument) with the names of the modes that models
/// with this template were trained for.
[[nodiscard]] RWKV_FUNCTION const Mode& mode_of(const Template& form, Think think);

/// The mode of this name. Throws as above.
[[nodiscard]] RWKV_FUNCTION const Mode& mode_named(const Template& form, std::string_view name);

/// `text` as it may stand in a turn: "\r\n" becomes "\n", blanks at the ends of lines and what the
/// template reserves are removed if it says so, then blank lines, and white space (ASCII) at both
/// ends. Nothing that remains can end a turn.
[[nodiscard]] RWKV_FUNCTION std::string clean(const Template& form, std::string_view text);

/// What the models' makers recommend. Function calls go without penalties.
[[nodiscard]] RWKV_FUNCTION SamplerOptions recommended_sampling(const Mode& mode,
                                                                bool function_calls = false);

/// The system text that offers functions; `tools` is JSON that describes them.
[[nodiscard]] RWKV_FUNCTION std::string system_with_tools(std::string_view system,
                                                          std::string_view tools);

/// The template that this one in jinja notation is, by characteristic strings in it; null if none.
[[nodiscard]] RWKV_FUNCTION const Template* recognise(std::string_view jinja) noexcept;

/// The template in jinja notation, as model files carry it for other programs. Answers begin the
/// default way.
[[nodiscard]] RWKV_FUNCTION std::string jinja_of(const Template& form);

#if !defined(RWKV_NO_IO)
/// The chat template in the text of a tokenizer_config.json: its "chat_template", a string or a
/// list of {"name", "template"} (of which "default", else the first). Empty if it has none. Throws
/// `Error` (format) naming `source`.
[[nodiscard]] RWKV_FUNCTION std::string template_in_tokenizer_config(std::string_view json,
                                                                     const std::string& source);

#if !defined(RWKV_NO_FILES)
/// What a model says about how to talk with it: in its metadata (`tokenizer.chat_template`), else
/// in chat_template.jinja, chat_template.json or tokenizer_config.json beside the model's file or
/// in its folder `path` (not looked for if that is empty). Throws `Error` (format, io) if such a
/// file is damaged.
[[nodiscard]] RWKV_FUNCTION Found find_template(const std::filesystem::path& path,
                                                const io::Metadata& metadata);

/// The template that a model says, else the classic one. Throws as `find_template`.
[[nodiscard]] RWKV_FUNCTION Choice chat_template_of(const std::filesystem::path& path,
                                                    const io::Metadata& metadata);
#endif
#endif

}  // namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/text/chat_template.ipp>
#endif
