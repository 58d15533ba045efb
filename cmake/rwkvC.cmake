# SPDX-License-Identifier: Apache-2.0
# rwkv::c, the shared library behind rwkv/rwkv.h: what rwkv::compiled has, of which only the
# functions of that header are to be seen.

# rwkv_add_c(<folder of the headers>), after rwkv_add_compiled
function(rwkv_add_c include_dir)
  # Position independent, but with functions that nobody replaces, so that they are still inlined.
  set_target_properties(rwkv_compiled PROPERTIES POSITION_INDEPENDENT_CODE ON)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(rwkv_compiled PRIVATE -fno-semantic-interposition)
  endif()

  add_library(rwkv_c SHARED ${include_dir}/rwkv/c/rwkv.cpp)
  add_library(rwkv::c ALIAS rwkv_c)
  target_link_libraries(rwkv_c PRIVATE $<BUILD_INTERFACE:rwkv_compiled>)
  target_include_directories(rwkv_c INTERFACE ${include_dir})
  target_compile_definitions(rwkv_c PRIVATE RWKV_C_BUILDING)
  set_target_properties(rwkv_c PROPERTIES
    OUTPUT_NAME rwkv
    VERSION ${rwkv_VERSION} SOVERSION ${rwkv_VERSION_MAJOR}.${rwkv_VERSION_MINOR}
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(APPLE)
    target_link_options(rwkv_c PRIVATE "LINKER:-exported_symbol,_rwkv_*")
  elseif(UNIX)
    # What the standard library's headers define is visible otherwise.
    set(script ${CMAKE_CURRENT_BINARY_DIR}/rwkv_c.map)
    file(WRITE ${script} "{ global: rwkv_*; local: *; };\n")
    target_link_options(rwkv_c PRIVATE "LINKER:--version-script=${script}")
  endif()
endfunction()
