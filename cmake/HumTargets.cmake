# SPDX-License-Identifier: Apache-2.0
# What every target of the project shares: language, warnings, tests beside the sources.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

option(HUM_STATIC "Link the programs as static-pie" ON)
option(HUM_TESTS "Build the tests" ON)
set(HUM_SANITIZE "" CACHE STRING "Sanitizers for the host code: address,undefined or thread")

# For what is no part of a data path: its size is memory of each VM's process, and time of its start.
set(hum_small $<$<CONFIG:Release>:-Os>)

add_library(hum_options INTERFACE)
target_compile_options(hum_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
  -Wimplicit-fallthrough -Werror -ffunction-sections -fdata-sections -fstack-protector-strong)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 reports these wrongly inside the standard library's vectors and strings when it optimises.
  target_compile_options(hum_options INTERFACE -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict)
endif()
target_compile_definitions(hum_options INTERFACE $<$<CONFIG:Release>:_FORTIFY_SOURCE=2>)
target_include_directories(hum_options INTERFACE ${CMAKE_SOURCE_DIR})
target_link_options(hum_options INTERFACE -Wl,--gc-sections)
include(CheckLinkerFlag)
check_linker_flag(CXX -Wl,-z,pack-relative-relocs,--fatal-warnings HUM_PACKS_RELOCATIONS)
# GNU ld takes it beside its own script; others may not.
set(hum_start_order ${CMAKE_SOURCE_DIR}/cmake/start-order.ld)
check_linker_flag(CXX -Wl,-T,${hum_start_order} HUM_ORDERS_FUNCTIONS)
if(HUM_SANITIZE)
  target_compile_options(hum_options INTERFACE -fsanitize=${HUM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(hum_options INTERFACE -fsanitize=${HUM_SANITIZE})
  if(HUM_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(hum_options INTERFACE -Wno-tsan)  # it does not model the fences of the rings
  endif()
  set(HUM_STATIC OFF)
endif()

if(HUM_TESTS)
  enable_testing()
  find_package(Catch2 REQUIRED)
  include(Catch)
  add_library(hum_catch STATIC ${CMAKE_SOURCE_DIR}/cmake/catch_main.cpp)
  target_include_directories(hum_catch PRIVATE ${CMAKE_SOURCE_DIR})
  if(TARGET Catch2::Catch2WithMain)
    target_link_libraries(hum_catch PUBLIC Catch2::Catch2WithMain)
  else()
    target_link_libraries(hum_catch PUBLIC Catch2::Catch2)
  endif()
  # Most of a test's compile time is the optimisation of its assertions.
  set(hum_test_options -O0 -U_FORTIFY_SOURCE)
  target_compile_options(hum_catch PRIVATE ${hum_test_options})
endif()

# hum_test(NAME SOURCES... LINKS... [TIMEOUT seconds]): a Catch2 program whose cases ctest knows one by one.
function(hum_test NAME)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINKS" ${ARGN})
  if(NOT HUM_TESTS)
    return()
  endif()
  add_executable(${NAME} ${ARG_SOURCES})
  target_link_libraries(${NAME} PRIVATE hum_options hum_catch ${ARG_LINKS})
  target_compile_options(${NAME} PRIVATE ${hum_test_options})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  # A name that is not found, as one with a semicolon, is an error.
  catch_discover_tests(${NAME} TEST_PREFIX "${NAME}: " DISCOVERY_MODE PRE_TEST EXTRA_ARGS -w NoTests
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS unit SKIP_REGULAR_EXPRESSION "skipped: ")
endfunction()

# hum_layer(NAME DIRECTORY D LINKS public... PRIVATE private...): the library hum_NAME of all sources below D,
# and its tests, the files that end in _test.cpp. Files that end in _fuzz.cpp belong to neither.
function(hum_layer NAME)
  cmake_parse_arguments(ARG "" "DIRECTORY" "LINKS;PRIVATE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${ARG_DIRECTORY}/*.cpp)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${ARG_DIRECTORY}/*.h)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz)\\.cpp$")
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER headers EXCLUDE REGEX "/testing\\.h$")
  add_library(hum_${NAME} STATIC ${sources})
  set_target_properties(hum_${NAME} PROPERTIES LINKER_LANGUAGE CXX)
  # The headers are a file set so that the target all_verify_interface_header_sets compiles each alone.
  target_sources(hum_${NAME} PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_SOURCE_DIR} FILES ${headers})
  set_target_properties(hum_${NAME} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  target_link_libraries(hum_${NAME} PUBLIC hum_options ${ARG_LINKS} PRIVATE ${ARG_PRIVATE})
  if(tests)
    hum_test(hum_${NAME}_test SOURCES ${tests} LINKS hum_${NAME} ${ARG_PRIVATE})
  endif()
endfunction()

# hum_fuzz(NAME SOURCES... LINKS...): a libFuzzer program, where clang builds with AddressSanitizer. SOURCES has all that is to be
# seen from inside.
function(hum_fuzz NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  if(NOT HUM_TESTS OR NOT HUM_SANITIZE MATCHES "address" OR NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    return()
  endif()
  add_executable(${NAME} ${ARG_SOURCES})
  target_link_libraries(${NAME} PRIVATE hum_options ${ARG_LINKS})
  target_compile_options(${NAME} PRIVATE -fsanitize=fuzzer)
  target_link_options(${NAME} PRIVATE -fsanitize=fuzzer)
endfunction()

# hum_program(NAME SOURCES... LINKS...): an executable of the project, static-pie unless HUM_STATIC is off.
function(hum_program NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES})
  target_link_libraries(${NAME} PRIVATE hum_options ${ARG_LINKS})
  if(HUM_STATIC)
    target_link_options(${NAME} PRIVATE -static-pie)
    # What is relocated at the start takes a tenth of the room, in memory too.
    if(HUM_PACKS_RELOCATIONS)
      target_link_options(${NAME} PRIVATE -Wl,-z,pack-relative-relocs)
    endif()
    # What a start enters lies together: less memory, and fewer page faults.
    if(HUM_ORDERS_FUNCTIONS)
      target_link_options(${NAME} PRIVATE -Wl,-T,${hum_start_order})
      set_target_properties(${NAME} PROPERTIES LINK_DEPENDS ${hum_start_order})
    endif()
    set_target_properties(${NAME} PROPERTIES LINK_SEARCH_START_STATIC ON LINK_SEARCH_END_STATIC ON)
  endif()
endfunction()
