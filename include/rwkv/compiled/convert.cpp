// SPDX-License-Identifier: Apache-2.0
// Other formats and weight types, and self-tests.
#include <rwkv/compiled/part.hpp>

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
#include <rwkv/calibrate.ipp>
#include <rwkv/convert.ipp>
#include <rwkv/verify.ipp>
#endif
