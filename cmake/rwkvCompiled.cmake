# SPDX-License-Identifier: Apache-2.0
# rwkv::compiled and rwkv::compiled_training: what the headers otherwise define in every program that
# includes them, compiled once, one translation unit per instruction set. Included by the project
# itself and by the installed rwkvConfig.cmake: the library is built by whoever links it, with the
# compiler, standard library and flags of that build.

# rwkv_add_compiled(<folder of the headers> <target that the headers need>)
function(rwkv_add_compiled include_dir headers)
  if(TARGET rwkv_compiled)
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${include_dir}/rwkv/compiled/*.cpp)
  set(training ${include_dir}/rwkv/compiled/training.cpp)
  list(REMOVE_ITEM sources ${training})

  add_library(rwkv_compiled STATIC EXCLUDE_FROM_ALL ${sources})
  add_library(rwkv::compiled ALIAS rwkv_compiled)
  target_compile_features(rwkv_compiled PUBLIC cxx_std_20)
  target_compile_definitions(rwkv_compiled PUBLIC RWKV_COMPILED)
  # Programs see these headers alone, not those of the packages behind them.
  target_include_directories(rwkv_compiled INTERFACE ${include_dir})
  target_link_libraries(rwkv_compiled PRIVATE ${headers})
  foreach(definition IN ITEMS RWKV_NO_SIMD RWKV_NO_XSIMD RWKV_NO_DISPATCH RWKV_NO_IO RWKV_NO_FILES)
    target_compile_definitions(rwkv_compiled INTERFACE
      $<$<IN_LIST:${definition},$<TARGET_PROPERTY:${headers},INTERFACE_COMPILE_DEFINITIONS>>:${definition}>)
  endforeach()
  if(TARGET Threads::Threads)
    target_link_libraries(rwkv_compiled INTERFACE Threads::Threads)
  endif()

  if(TARGET Eigen3::Eigen)
    add_library(rwkv_compiled_training STATIC EXCLUDE_FROM_ALL ${training})
    add_library(rwkv::compiled_training ALIAS rwkv_compiled_training)
    target_link_libraries(rwkv_compiled_training PUBLIC rwkv_compiled PRIVATE ${headers} Eigen3::Eigen)
  endif()

  # Who only uses the library is not troubled with what his flags warn about in it.
  if(NOT rwkv_IS_TOP_LEVEL)
    foreach(target IN ITEMS rwkv_compiled rwkv_compiled_training)
      if(TARGET ${target})
        target_compile_options(${target} PRIVATE $<IF:$<CXX_COMPILER_ID:MSVC>,/w,-w>)
      endif()
    endforeach()
  endif()

  # A program that is built for its debugger, or without a word about it, still runs models at a
  # bearable speed, and one that is built with -ffast-math runs them right.
  foreach(target IN ITEMS rwkv_compiled rwkv_compiled_training)
    if(TARGET ${target} AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
      target_compile_options(${target} PRIVATE $<$<CONFIG:Debug>:-O1> -fno-fast-math)
      # Reading files is waiting for them, and much code.
      set_source_files_properties(${include_dir}/rwkv/compiled/io.cpp PROPERTIES COMPILE_OPTIONS
        $<$<CONFIG:Release,RelWithDebInfo>:-O1>)
      if(NOT CMAKE_CXX_FLAGS MATCHES "(^| )-O")
        target_compile_options(${target} PRIVATE $<$<CONFIG:>:-O2>)
      endif()
    endif()
  endforeach()
endfunction()
