// SPDX-License-Identifier: Apache-2.0
// The dense products of training. Matrices are row-major and without padding. Eigen multiplies for
// the instruction set that everything is compiled for; where a processor turns out to have a better
// one, the kernels of inference do (kernels/matmul.hpp).
#pragma once

#include <rwkv/core/config.hpp>

#include <cstddef>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What happens to the old contents of a result.
enum class Store : bool { replace, add };

/// y [rows, out] = x [rows, in] m [in, out]
RWKV_FUNCTION void multiply(const float* x, const float* m, float* y, std::size_t rows,
                            std::size_t in, std::size_t out, Store store = Store::replace);

/// y [rows, out] = x [rows, in] w [out, in]^T
RWKV_FUNCTION void multiply_transposed(const float* x, const float* w, float* y, std::size_t rows,
                                       std::size_t in, std::size_t out,
                                       Store store = Store::replace);

/// m [a, b] += x [rows, a]^T y [rows, b]: the gradient of every matrix.
RWKV_FUNCTION void add_outer(const float* x, const float* y, float* m, std::size_t rows,
                             std::size_t a, std::size_t b);

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/product.ipp>
#endif
