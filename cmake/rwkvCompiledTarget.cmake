# SPDX-License-Identifier: Apache-2.0
# For package managers that write the configuration of rwkv::rwkv themselves (Conan): adds
# rwkv::compiled to it. Installed beside rwkvCompiled.cmake, under <prefix>/share/cmake/rwkv.
include("${CMAKE_CURRENT_LIST_DIR}/rwkvCompiled.cmake")
get_filename_component(rwkv_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
rwkv_add_compiled("${rwkv_prefix}/include" rwkv::rwkv)
unset(rwkv_prefix)
