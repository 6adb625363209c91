# Every public header compiles alone, and twice in a row. Headers of a GPU backend need its compiler.
file(GLOB_RECURSE headers RELATIVE "${PROJECT_SOURCE_DIR}/include" CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/spla/*.hpp")
if(NOT Kokkos_ENABLE_CUDA)
    list(FILTER headers EXCLUDE REGEX "^spla/backend/cuda/")
endif()
if(NOT Kokkos_ENABLE_HIP)
    list(FILTER headers EXCLUDE REGEX "^spla/backend/hip/")
endif()
if(needs_gpu) # the device compiler is slow: what users include, and that backend's own headers
    list(FILTER headers INCLUDE REGEX "^spla/([^/]+|backend/(cuda|hip)/.*)\\.hpp$")
endif()

foreach(header IN LISTS headers)
    string(MAKE_C_IDENTIFIER "${header}" stem)
    set(source "${CMAKE_CURRENT_BINARY_DIR}/headers/${stem}.cpp")
    file(CONFIGURE OUTPUT "${source}" CONTENT "#include <@header@>\n#include <@header@>\n" @ONLY)
    list(APPEND header_sources "${source}")
endforeach()
add_library(test_headers OBJECT ${header_sources})
set_source_files_properties(${header_sources} PROPERTIES LANGUAGE ${spla_language})
target_link_libraries(test_headers PRIVATE spla::reference)
target_compile_options(test_headers PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O0 -Wall -Wextra -Werror>)
# Reading Kokkos is four fifths of what this costs: once for all, but where the long tests are built, which see whether each
# header includes Kokkos itself.
if(NOT needs_gpu AND NOT SPLA_TEST_LONG)
    target_precompile_headers(test_headers PRIVATE <Kokkos_Core.hpp>)
endif()
