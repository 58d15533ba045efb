// SPDX-License-Identifier: Apache-2.0
// The test runner: every *_test.cpp is linked with this object.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
