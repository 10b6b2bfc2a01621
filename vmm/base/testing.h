// SPDX-License-Identifier: Apache-2.0
#pragma once

// The unit test framework, for *_test.cpp only: Catch2 version 3 or 2, whichever the system has.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
