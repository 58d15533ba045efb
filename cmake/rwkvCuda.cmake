# SPDX-License-Identifier: Apache-2.0
# rwkv::cuda: the CUDA translation unit, for programs that include rwkv/cuda.hpp and link any form of
# the library. Included by the project itself with RWKV_CUDA=ON, and by the installed rwkvConfig.cmake
# for find_package(rwkv COMPONENTS cuda), with the folder of the headers in rwkv_include_dir.
if(NOT TARGET rwkv_cuda)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 120)
  endif()
  if(NOT DEFINED CMAKE_CUDA_COMPILER)
    find_program(CMAKE_CUDA_COMPILER nvcc HINTS $ENV{CUDA_PATH}/bin $ENV{CUDACXX} /usr/local/cuda/bin)
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know it of a newer nvcc
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  add_library(rwkv_cuda STATIC EXCLUDE_FROM_ALL ${rwkv_include_dir}/rwkv/cuda/rwkv_cuda.cu)
  add_library(rwkv::cuda ALIAS rwkv_cuda)
  target_include_directories(rwkv_cuda PUBLIC ${rwkv_include_dir})
  set_target_properties(rwkv_cuda PROPERTIES CUDA_STANDARD 20)
  # Nothing is fused behind the programmer's back: sums have one order and one rounding.
  target_compile_options(rwkv_cuda PRIVATE -fmad=false)
endif()
