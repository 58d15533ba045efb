# SPDX-License-Identifier: Apache-2.0
# cmake -D root=<source dir> -P includes_go_down.cmake
#
# The floors of the house: a header includes headers of its own floor or of floors below. Each room
# is a regular expression over the path under include/rwkv; the folders among the machinery may
# include only what is listed for them.
cmake_minimum_required(VERSION 3.25)

# Definitions (.ipp) stand where their headers do; what is compiled of them sees everything.
set(floors  # from the roof to the ground
  "compiled\\.cpp|rwkv\\.h|(compiled|c)/.*"
  "(tokenizer|sampler|generate|static_(tokenizer|sampler|generate|memory)|speculate|generate_batch|any_model|chat|constraint|grammar|cuda)\\.[hi]pp|(text|grammar)/.*"
  "(model|quantised|memory|adapter|batch|forward|hybrid|static_model|static_blob|static_(compact|fixed)_state|verify|calibrate|convert|train|automata)\\.[hi]pp|(train|automata)/.*"
  "(embedding|block|sparse_block|time_mix|sparse_attention|channel_mix|head|pass)\\.[hi]pp"
  "io/.*"  # also of states, so above them
  "(state|row_log|rewind|history|mix_states|kv_cache|cached_head|workspace|hybrid_state|hybrid_workspace)\\.[hi]pp"
  "(weights|tensors|shape|shape_difference|hybrid_shape|static_blob_format|static_state_store)\\.[hi]pp"
  "(kernels|quant|exec|simd|core|cuda)/.*")
set(kernels_may_include kernels quant exec simd core)
set(quant_may_include quant exec simd core)
set(exec_may_include exec core)
set(simd_may_include simd core)
set(core_may_include core)
set(cuda_may_include cuda core)

# Who may know a third party.
set(xsimd_allowed "simd/.*")
set(nlohmann_allowed "io/.*")
set(Eigen_allowed "(kernels|train)/.*")

set(violations "")
function(floor_of header out)
  set(level 0)
  foreach(floor IN LISTS floors)
    if(header MATCHES "^(${floor})$")
      set(${out} ${level} PARENT_SCOPE)
      return()
    endif()
    math(EXPR level "${level} + 1")
  endforeach()
  message(FATAL_ERROR "rwkv/${header} stands on no floor; give it one in includes_go_down.cmake")
endfunction()

file(GLOB_RECURSE headers RELATIVE ${root}/include/rwkv ${root}/include/rwkv/*.hpp
     ${root}/include/rwkv/*.ipp ${root}/include/rwkv/*.cpp)
foreach(header IN LISTS headers)
  floor_of(${header} level)
  string(REGEX MATCH "^[^/]+" room ${header})
  file(STRINGS ${root}/include/rwkv/${header} lines REGEX "^ *# *include")
  foreach(line IN LISTS lines)
    if(line MATCHES "<rwkv/([^>]+)>")
      set(included ${CMAKE_MATCH_1})
      floor_of(${included} included_level)
      string(REGEX MATCH "^[^/]+" included_room ${included})
      if(included_level LESS level
         OR (DEFINED ${room}_may_include AND NOT included_room IN_LIST ${room}_may_include))
        list(APPEND violations "rwkv/${header} includes rwkv/${included}, which is above it")
      endif()
    elseif(line MATCHES "<(xsimd|nlohmann|Eigen)/")
      set(library ${CMAKE_MATCH_1})
      if(NOT header MATCHES "^${${library}_allowed}$")
        list(APPEND violations "rwkv/${header} includes ${library}, which belongs elsewhere")
      endif()
    elseif(line MATCHES "<iostream>|\"")
      list(APPEND violations "rwkv/${header}: ${line}")
    endif()
  endforeach()
endforeach()

if(NOT headers)
  message(FATAL_ERROR "no headers under ${root}/include/rwkv")
endif()
if(violations)
  list(JOIN violations "\n  " violations)
  message(FATAL_ERROR "includes that do not go down:\n  ${violations}")
endif()
