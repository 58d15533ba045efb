// SPDX-License-Identifier: Apache-2.0
// The definition of core/result.hpp.
#pragma once

#include <rwkv/core/result.hpp>

#if RWKV_HAS_EXCEPTIONS || !RWKV_HEADER_ONLY
namespace rwkv::inline RWKV_ABI::internal {

RWKV_FUNCTION std::optional<Failure> attempt(void (*run)(void* what), void* what) {
#if RWKV_HAS_EXCEPTIONS
  try {
    run(what);
  } catch (const Error& error) {
    return Failure{error.category(), error.what()};
  } catch (const std::bad_alloc&) {
    return Failure{ErrorCategory::memory, "there is not enough memory"};
  } catch (const std::exception& error) {
    return Failure{ErrorCategory::argument, error.what()};
  }
#else
  run(what);
#endif
  return std::nullopt;
}

}  // namespace rwkv::inline RWKV_ABI::internal
#endif
