// SPDX-License-Identifier: Apache-2.0
// The CUDA translation unit, compiled for the host.
#define RWKV_CUDA_EMULATED
#include <rwkv/cuda/rwkv_cuda.cu>
