// SPDX-License-Identifier: Apache-2.0
// A value, or the sentence that says why there is none: for programs that want no exceptions.
//
//     rwkv::Result<rwkv::Opened> opened = rwkv::try_open(path);   // any_model.hpp
//     if (!opened) print(opened.failure().sentence);
//     auto logits = rwkv::attempt([&] { return model.forward(state, tokens, work); });
//
// Errors are caught by the code that the library was compiled with: header-only where the program
// has exceptions; with rwkv::compiled (which has them, unless it is told otherwise) also in programs
// and files that are compiled without. Where nothing has exceptions, `fail` ends in
// rwkv::error_handler, as ever, and these functions are not declared.
#pragma once

#include <rwkv/core/error.hpp>

#include <concepts>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace rwkv::inline RWKV_ABI {

/// Why something failed: what an Error says.
struct Failure {
  ErrorCategory category = ErrorCategory::argument;
  std::string sentence;
};

/// A T, or a Failure. A regular value type as far as T is.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Failure failure) : content_(std::in_place_index<1>, std::move(failure)) {}

  [[nodiscard]] bool ok() const noexcept { return content_.index() == 0; }
  [[nodiscard]] explicit operator bool() const noexcept { return ok(); }

  /// Precondition: ok() (asserted).
  [[nodiscard]] T& value() & noexcept { return *access(); }
  [[nodiscard]] const T& value() const& noexcept { return *access(); }
  [[nodiscard]] T&& value() && noexcept { return std::move(*access()); }
  [[nodiscard]] T& operator*() & noexcept { return value(); }
  [[nodiscard]] const T& operator*() const& noexcept { return value(); }
  [[nodiscard]] T&& operator*() && noexcept { return std::move(*access()); }
  [[nodiscard]] T* operator->() noexcept { return access(); }
  [[nodiscard]] const T* operator->() const noexcept { return access(); }

  /// Precondition: !ok() (asserted).
  [[nodiscard]] const Failure& failure() const noexcept {
    RWKV_ASSERT(!ok());
    return *std::get_if<1>(&content_);
  }

 private:
  [[nodiscard]] T* access() noexcept {
    RWKV_ASSERT(ok());
    return std::get_if<0>(&content_);
  }
  [[nodiscard]] const T* access() const noexcept {
    RWKV_ASSERT(ok());
    return std::get_if<0>(&content_);
  }

  std::variant<T, Failure> content_;
};

/// Done, or a Failure.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Failure failure) : failure_(std::move(failure)) {}
  [[nodiscard]] bool ok() const noexcept { return !failure_.has_value(); }
  [[nodiscard]] explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] const Failure& failure() const noexcept {
    RWKV_ASSERT(!ok());
    return *failure_;
  }

 private:
  std::optional<Failure> failure_;
};

#if RWKV_HAS_EXCEPTIONS || !RWKV_HEADER_ONLY
namespace internal {

/// Calls run(what). What that throws comes back as a Failure: an Error as what it says,
/// std::bad_alloc as (memory), any other exception as (argument) with its text.
[[nodiscard]] RWKV_FUNCTION std::optional<Failure> attempt(void (*run)(void* what), void* what);

}  // namespace internal

/// f(), or why it failed. In a file that is compiled without exceptions f must own nothing while it
/// calls the library: what is on its stack is not destroyed when an error passes through it.
template <std::invocable F>
auto attempt(F&& f) -> Result<std::invoke_result_t<F&>> {
  using T = std::invoke_result_t<F&>;
  if constexpr (std::is_void_v<T>) {
    auto failure =
        internal::attempt([](void* g) { (*static_cast<std::remove_reference_t<F>*>(g))(); },
                          const_cast<void*>(static_cast<const void*>(&f)));
    if (failure) return std::move(*failure);
    return {};
  } else {
    struct Call {
      std::remove_reference_t<F>& f;
      std::optional<T> value;
    } call{f, std::nullopt};
    auto failure = internal::attempt(
        [](void* c) {
          auto& mine = *static_cast<Call*>(c);
          mine.value.emplace(mine.f());
        },
        &call);
    if (failure) return std::move(*failure);
    return std::move(*call.value);
  }
}
#endif

}  // namespace rwkv::inline RWKV_ABI

#if RWKV_HEADER_ONLY
#include <rwkv/core/result.ipp>
#endif
