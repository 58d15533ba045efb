# SPDX-License-Identifier: Apache-2.0
# How the project compiles its own programs (examples, tests, benchmarks). Nothing here is exported.

add_library(rwkv_warnings INTERFACE)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(rwkv_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    # GCC's note on how vector pairs are passed between functions; xsimd >= 11 triggers it.
    target_compile_options(rwkv_warnings INTERFACE -Wno-psabi)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # False alarms of GCC 12 over strings and paths put together from parts (bug 105651 and kin),
    # and over options of which some are named.
    target_compile_options(rwkv_warnings INTERFACE
      -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-maybe-uninitialized)
  endif()
  if(RWKV_WERROR)
    target_compile_options(rwkv_warnings INTERFACE -Werror)
  endif()
elseif(MSVC)
  target_compile_options(rwkv_warnings INTERFACE /W4 $<$<BOOL:${RWKV_WERROR}>:/WX>)
endif()

add_library(rwkv_native INTERFACE)
if(RWKV_NATIVE)
  include(CheckCXXCompilerFlag)
  foreach(flag -march=native -mcpu=native)  # the second is Apple clang's on ARM
    string(MAKE_C_IDENTIFIER "RWKV_HAS${flag}" has_flag)
    check_cxx_compiler_flag(${flag} ${has_flag})
    if(${has_flag})
      target_compile_options(rwkv_native INTERFACE ${flag})
      break()
    endif()
  endforeach()
endif()

foreach(target IN ITEMS rwkv_compiled rwkv_compiled_training rwkv_c)
  if(TARGET ${target})
    target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:rwkv_warnings> rwkv_native)
  endif()
endforeach()

set(RWKV_PROGRAM_OPTIONS "" CACHE STRING
  "Further options for examples and benchmarks, such as -O0: what takes time is in the library")

# rwkv_add_program(<target> <source>...): an executable that uses the compiled library, at our warning
# level. It may include whatever the library includes.
function(rwkv_add_program target)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE rwkv_warnings rwkv_native rwkv::compiled
    $<TARGET_NAME_IF_EXISTS:rwkv::compiled_training> rwkv::rwkv)
  target_compile_options(${target} PRIVATE ${RWKV_PROGRAM_OPTIONS})
endfunction()

# The same for one that compiles the library itself.
function(rwkv_add_header_only_program target)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE rwkv_warnings rwkv_native rwkv::rwkv)
endfunction()
