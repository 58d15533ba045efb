# SPDX-License-Identifier: Apache-2.0
# Files compiled together: what they include is parsed and instantiated once. Test files take a third of
# the time that they take one by one.

# rwkv_unite(<target> <unit> [RENAME <function>] [END <code>] FILES <file>...): adds the files to the
# program as one translation unit. Each is in a namespace of its own, behind everything that any of them
# includes; a function that all of them define is called <function>_of_<file>.
function(rwkv_unite target unit)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "RENAME;END" "FILES")
  set(includes "")
  set(body "")
  foreach(path IN LISTS arg_FILES)
    cmake_path(GET path PARENT_PATH folder)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${path})
    file(STRINGS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${path} lines REGEX "^#include ")
    foreach(line IN LISTS lines)
      if(line MATCHES "^#include \"([^\"]+)\"")
        set(header ${CMAKE_MATCH_1})
        if(folder AND EXISTS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${folder}/${header})
          cmake_path(SET header NORMALIZE "${folder}/${header}")
        endif()
        list(APPEND includes "#include \"${header}\"")
      elseif(line MATCHES "^#include (<[^>]+>)")  # some are behind a condition
        list(APPEND includes "#if __has_include(${CMAKE_MATCH_1})\n#include ${CMAKE_MATCH_1}\n#endif")
      endif()
    endforeach()
    cmake_path(GET path STEM name)
    if(arg_RENAME)
      string(APPEND body "#undef ${arg_RENAME}\n#define ${arg_RENAME} ${arg_RENAME}_of_${name}\n")
    endif()
    string(APPEND body "namespace of_${name} {\n#include \"${path}\"\n}  // namespace of_${name}\n")
  endforeach()
  list(REMOVE_DUPLICATES includes)
  list(JOIN includes "\n" includes)
  set(file ${CMAKE_CURRENT_BINARY_DIR}/units/${unit}.cpp)
  file(CONFIGURE OUTPUT ${file} CONTENT "${includes}\n\n${body}${arg_END}" @ONLY)
  target_sources(${target} PRIVATE ${file})
endfunction()
