# spla_add_program(NAME SOURCES file... [LIBRARIES target...]): an executable compiled in the language Kokkos asks for
# (C++, or CUDA or HIP where Kokkos was built as such), with warnings on.
function(spla_add_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBRARIES")
    add_executable(${name} ${arg_SOURCES})
    set_source_files_properties(${arg_SOURCES} PROPERTIES LANGUAGE ${spla_language})
    target_link_libraries(${name} PRIVATE spla::spla ${arg_LIBRARIES})
    # GCC 12 takes the deliberately undefined operands of its own AVX-512 intrinsics for mistakes, in Eigen and elsewhere, and
    # text + std::string for an overflow.
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:-Wall -Wextra>
        $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized -Wno-stringop-overflow>)
    # A host function called on the device is only warned of by nvcc, and the kernel then silently does nothing.
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-Werror=cross-execution-space-call>)
endfunction()

# spla_skip_without_device(test...): programs of a GPU build say 77 where there is no device; where there is not even a driver
# they do not load. Either way ctest lists them as skipped.
function(spla_skip_without_device)
    set_tests_properties(${ARGN} PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT OMP_PROC_BIND=false
        SKIP_REGULAR_EXPRESSION "error while loading shared libraries: lib(cuda|amdhip64)")
endfunction()
