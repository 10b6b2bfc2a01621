# SPDX-License-Identifier: Apache-2.0
# With HUM_CHECKS, ctest runs all that there is to check, and not only the tests beside the sources and the guest
# images: sources and includes, the other compiler and the sanitizers in builds of their own, Linux guests in the lab.
# tools/check turns it on. Each of these tests has a label: static, asan, tsan, clang, lab.

option(HUM_CHECKS "ctest also checks the sources, runs the sanitizers' builds and the lab's scenarios" OFF)
if(NOT HUM_CHECKS OR NOT HUM_TESTS)
  return()
endif()

set(hum_support ${CMAKE_SOURCE_DIR}/tools/support)

# hum_check(NAME LABEL SECONDS COMMAND...): one test more.
function(hum_check NAME LABEL SECONDS)
  add_test(NAME "${LABEL}: ${NAME}" COMMAND ${ARGN} WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
  set_tests_properties("${LABEL}: ${NAME}" PROPERTIES LABELS ${LABEL} TIMEOUT ${SECONDS} SKIP_RETURN_CODE 77)
endfunction()

hum_check("licence lines" static 60 ${hum_support}/lint licences)
hum_check("format" static 300 ${hum_support}/lint format)
hum_check("shell scripts" static 300 ${hum_support}/lint scripts)
hum_check("who includes whom" static 60 ${hum_support}/layers)
hum_check("faults of the guest tests fit the sources" static 60 ${hum_support}/faults --check)
hum_check("headers compile alone" static 600 ${hum_support}/headers)

# hum_test_programs(OUT): the unit tests' programs, as paths below a build folder.
function(hum_test_programs OUT)
  set(programs)
  set(directories ${CMAKE_SOURCE_DIR})
  while(directories)
    list(POP_FRONT directories directory)
    get_property(targets DIRECTORY ${directory} PROPERTY BUILDSYSTEM_TARGETS)
    get_property(binary_directory DIRECTORY ${directory} PROPERTY BINARY_DIR)
    get_property(subdirectories DIRECTORY ${directory} PROPERTY SUBDIRECTORIES)
    list(APPEND directories ${subdirectories})
    foreach(target IN LISTS targets)
      if(target MATCHES "_test$")
        file(RELATIVE_PATH program ${CMAKE_BINARY_DIR} ${binary_directory}/${target})
        list(APPEND programs ${program})
      endif()
    endforeach()
  endwhile()
  set(${OUT} ${programs} PARENT_SCOPE)
endfunction()

# For the names of functions in the sanitizers' reports.
find_program(HUM_SYMBOLIZER NAMES llvm-symbolizer-19 llvm-symbolizer)
function(hum_symbolize TEST)
  if(HUM_SYMBOLIZER)
    set_property(TEST ${TEST} PROPERTY
      ENVIRONMENT "ASAN_SYMBOLIZER_PATH=${HUM_SYMBOLIZER}" "TSAN_SYMBOLIZER_PATH=${HUM_SYMBOLIZER}")
  endif()
endfunction()

# hum_preset_checks(PRESET PROGRAMS...): builds the preset, all of it or only these programs, and runs the unit tests.
function(hum_preset_checks PRESET)
  set(programs ${ARGN})
  set(targets)
  foreach(program IN LISTS programs)
    get_filename_component(target ${program} NAME)
    list(APPEND targets ${target})
  endforeach()
  if(NOT programs)
    hum_test_programs(programs)
  endif()
  hum_check("build" ${PRESET} 2400 ${hum_support}/build ${PRESET} ${targets})
  set_tests_properties("${PRESET}: build" PROPERTIES FIXTURES_SETUP ${PRESET} PROCESSORS 2)
  foreach(program IN LISTS programs)
    get_filename_component(target ${program} NAME)
    hum_check(${target} ${PRESET} 1200 ${CMAKE_SOURCE_DIR}/build/${PRESET}/${program})
    set_tests_properties("${PRESET}: ${target}" PROPERTIES FIXTURES_REQUIRED ${PRESET})
    hum_symbolize("${PRESET}: ${target}")
  endforeach()
endfunction()

hum_preset_checks(asan)
hum_check("guest images" asan 1800 ${CMAKE_SOURCE_DIR}/build/asan/bin/hum test ${CMAKE_SOURCE_DIR}/build/asan/guest-tests --timeout 120)
set_tests_properties("asan: guest images" PROPERTIES FIXTURES_REQUIRED asan)
hum_symbolize("asan: guest images")
hum_check("fuzz qcow2 images" asan 300 ${CMAKE_SOURCE_DIR}/build/asan/hum_qcow2_fuzz -runs=15000 -seed=1 -max_len=160 -verbosity=0)
hum_check("fuzz network interfaces" asan 300 ${CMAKE_SOURCE_DIR}/build/asan/hum_net_fuzz -runs=10000 -seed=1 -max_len=400 -len_control=0 -verbosity=0)
hum_check("fuzz metadata requests" asan 300 ${CMAKE_SOURCE_DIR}/build/asan/hum_mmds_fuzz -runs=8000 -seed=1 -max_len=400 -len_control=0 -verbosity=0)
set_tests_properties("asan: fuzz qcow2 images" "asan: fuzz network interfaces" "asan: fuzz metadata requests" PROPERTIES FIXTURES_REQUIRED asan)
hum_preset_checks(tsan hum_base_test hum_virtio_test hum_devices_test hum_machine_test)
hum_preset_checks(clang)

# One boot of the lab each.
hum_check("machine" lab 3000 ${hum_support}/scenarios/run machine)
hum_check("session" lab 3000 ${hum_support}/scenarios/run session)
hum_check("storage" lab 3000 ${hum_support}/scenarios/run storage)
hum_check("network" lab 3000 ${hum_support}/scenarios/run network)
hum_check("vmm and daemon" lab 3000 ${hum_support}/scenarios/run vmm daemon)
hum_check("debian and guest images" lab 4200 ${hum_support}/scenarios/run debian images)
