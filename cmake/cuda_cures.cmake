# CUDA 13 with Kokkos 4.7.0 needs three cures; each is detected and applied to the users of `target`, or said in a line.
#   1. CMake before 3.26 passes no -std=c++20 to nvcc 13.
#   2. CUDA 13 changed two runtime calls of Kokkos' headers: inline overloads are force-included.
#   3. nvcc 13.0 lays out [[no_unique_address]] differently on host and device, so kernels would read wrong arguments:
#      Kokkos and its users are built with MDSPAN_IMPL_USE_ATTRIBUTE_NO_UNIQUE_ADDRESS=0.
set(SPLA_CUDA_CURES_DIR "${CMAKE_CURRENT_LIST_DIR}")

function(spla_apply_cuda_cures target)
    if(NOT Kokkos_ENABLE_CUDA OR NOT CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
        return()
    endif()
    if(CMAKE_VERSION VERSION_LESS 3.26)
        set_property(TARGET ${target} APPEND PROPERTY INTERFACE_COMPILE_OPTIONS "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>")
        message(STATUS "spla: CUDA 13 with CMake ${CMAKE_VERSION}: -std=c++20 given to nvcc")
    endif()
    if(Kokkos_VERSION VERSION_LESS 4.7.1)
        set_property(TARGET ${target} APPEND PROPERTY INTERFACE_COMPILE_OPTIONS
            "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-include \"${SPLA_CUDA_CURES_DIR}/cuda13_runtime.hpp\">")
        set_property(TARGET ${target} APPEND PROPERTY INTERFACE_COMPILE_DEFINITIONS
            MDSPAN_IMPL_USE_ATTRIBUTE_NO_UNIQUE_ADDRESS=0)
        message(STATUS "spla: CUDA 13 with Kokkos ${Kokkos_VERSION}: runtime overloads and the mdspan layout cure applied; "
            "Kokkos itself must be built with MDSPAN_IMPL_USE_ATTRIBUTE_NO_UNIQUE_ADDRESS=0 too")
    endif()
endfunction()
