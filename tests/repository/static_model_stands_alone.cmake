# SPDX-License-Identifier: Apache-2.0
# cmake -D root=<source dir> -D compiler=<c++> -P static_model_stands_alone.cmake
# Asks the compiler for every file that rwkv/static_model.hpp, and text on a device, reach when they
# are built the way a processor without vector instructions would.
set(entries static_blob.hpp static_compact_state.hpp static_fixed_state.hpp static_generate.hpp
    static_memory.hpp static_model.hpp static_state_store.hpp automata/static_recogniser.hpp)
list(TRANSFORM entries PREPEND ${root}/include/rwkv/)
execute_process(
  COMMAND ${compiler} -std=c++20 -DRWKV_NO_XSIMD -I${root}/include -M -x c++ ${entries}
  OUTPUT_VARIABLE files COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[ \t\r\n\\]+" ";" files "${files}")
set(found "")
foreach(file IN LISTS files)
  if(file MATCHES "/(rwkv/io|rwkv/train|xsimd|eigen3|Eigen|nlohmann)/"
     OR file MATCHES "/rwkv/exec/thread_pool\\.hpp$"
     OR file MATCHES "/(iostream|fstream|filesystem|thread|mutex)$")
    list(APPEND found ${file})
  endif()
endforeach()
if(found)
  list(JOIN found "\n  " found)
  message(FATAL_ERROR "static models reach\n  ${found}")
endif()
