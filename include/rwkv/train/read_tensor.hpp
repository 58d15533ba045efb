// SPDX-License-Identifier: Apache-2.0
// What files of parameters, adapters and training checkpoints have in common.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/train/parameters.hpp>

#include <algorithm>
#include <cmath>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA::detail {

inline void refuse_not_finite(const io::Checkpoint& c, const std::string& name,
                              std::span<const float> values) {
  for (const float v : values)
    if (!std::isfinite(v))
      fail_with(ErrorCategory::numeric, c.source, ": tensor ", name,
                " contains a number that is not finite");
}

/// Copies the tensor called `name` into `to`; throws `Error` naming file and tensor if it does not
/// fit.
inline void read_tensor(const io::Checkpoint& c, const std::string& name,
                        const std::vector<std::size_t>& shape, std::span<float> to) {
  const io::Tensor& t = c.get(name);
  if (squeezed(t.shape) != squeezed(shape) || !is_float(t.dtype))
    fail_with(ErrorCategory::shape, c.source, ": tensor ", name, " has shape ",
              io::to_string(t.shape), " and type ", std::string(name_of(t.dtype)),
              " where floats of shape ", io::to_string(shape), " were expected");
  const std::vector<float> values = t.values<float>();
  refuse_not_finite(c, name, values);
  std::copy(values.begin(), values.end(), to.begin());
}

inline const char* name_of(Eigenvalues e) {
  return e == Eigenvalues::extended ? "extended" : "standard";
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA::detail
