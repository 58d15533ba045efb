# SPDX-License-Identifier: Apache-2.0
# What rwkv::rwkv links to. Used by the project itself and by the installed rwkvConfig.cmake.
#
# No package is asked for by version: xsimd and Eigen declare compatibility within one major version
# only, while the headers here work with several.
include(CMakeFindDependencyMacro)

# Finds a package unless the target is there already (a parent project may bring its own).
# Inside find_package(rwkv) a missing one makes rwkv "not found"; elsewhere it is an error.
macro(rwkv_find_dependency target)
  if(NOT TARGET ${target})
    if("${CMAKE_FIND_PACKAGE_NAME}" STREQUAL "rwkv")
      find_dependency(${ARGN})
    else()
      find_package(${ARGN} REQUIRED)
    endif()
  endif()
endmacro()

macro(rwkv_find_json)
  rwkv_find_dependency(nlohmann_json::nlohmann_json nlohmann_json CONFIG)
endmacro()

# Only rwkv/train.hpp includes Eigen; who does not train need not have it.
macro(rwkv_find_eigen_if_any)
  if(NOT TARGET Eigen3::Eigen)
    find_package(Eigen3 CONFIG QUIET)
  endif()
endmacro()

macro(rwkv_find_threads)
  rwkv_find_dependency(Threads::Threads Threads)
endmacro()

macro(rwkv_find_xsimd)
  rwkv_find_dependency(xsimd xsimd CONFIG)
  if(NOT TARGET xsimd AND TARGET xsimd::xsimd)
    add_library(xsimd INTERFACE IMPORTED)
    target_link_libraries(xsimd INTERFACE xsimd::xsimd)
  endif()
  # Debian 12 exports xsimd with a link to "xtl", a package that it neither finds nor needs here.
  get_target_property(rwkv_xsimd_links xsimd INTERFACE_LINK_LIBRARIES)
  if("xtl" IN_LIST rwkv_xsimd_links AND NOT TARGET xtl)
    find_package(xtl CONFIG QUIET)
    if(NOT TARGET xtl)
      add_library(xtl INTERFACE IMPORTED)
    endif()
  endif()
  unset(rwkv_xsimd_links)
endmacro()
