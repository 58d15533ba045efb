// SPDX-License-Identifier: Apache-2.0
// Numbers of training as Eigen sees them: matrices are row-major and without padding.
#pragma once

#include <rwkv/core/config.hpp>

#include <Eigen/Core>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA::detail {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
inline auto matrix(const float* p, std::size_t rows, std::size_t cols) {
  return Eigen::Map<const RowMajor>(p, static_cast<Eigen::Index>(rows),
                                    static_cast<Eigen::Index>(cols));
}
inline auto matrix(float* p, std::size_t rows, std::size_t cols) {
  return Eigen::Map<RowMajor>(p, static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols));
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA::detail
