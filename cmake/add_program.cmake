# spla_add_program(NAME SOURCES file... [LIBRARIES target...]): an executable compiled in the language Kokkos asks for
# (C++, or CUDA or HIP where Kokkos was built as such), with warnings on.
function(spla_add_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
    add_executable(${name} ${arg_SOURCES})
    set_source_files_properties(${arg_SOURCES} PROPERTIES LANGUAGE ${spla_language})
    target_link_libraries(${name} PRIVATE spla::spla ${arg_LIBRARIES})
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:-Wall -Wextra>)
endfunction()
