// SPDX-License-Identifier: Apache-2.0
// Compiled as the rest of the program; data only.
#include "processor.hpp"

namespace tool {

const Extension needed_extensions[] = {
#ifdef __SSE3__
    {"SSE3", 1, 0, 2, 0, false},
#endif
#ifdef __SSSE3__
    {"SSSE3", 1, 0, 2, 9, false},
#endif
#ifdef __SSE4_1__
    {"SSE4.1", 1, 0, 2, 19, false},
#endif
#ifdef __SSE4_2__
    {"SSE4.2", 1, 0, 2, 20, false},
#endif
#ifdef __POPCNT__
    {"POPCNT", 1, 0, 2, 23, false},
#endif
#ifdef __MOVBE__
    {"MOVBE", 1, 0, 2, 22, false},
#endif
#ifdef __LZCNT__
    {"LZCNT", 0x80000001, 0, 2, 5, false},
#endif
#ifdef __BMI__
    {"BMI", 7, 0, 1, 3, false},
#endif
#ifdef __BMI2__
    {"BMI2", 7, 0, 1, 8, false},
#endif
#ifdef __AVX__
    {"AVX", 1, 0, 2, 28, true},
#endif
#ifdef __F16C__
    {"F16C", 1, 0, 2, 29, true},
#endif
#ifdef __FMA__
    {"FMA", 1, 0, 2, 12, true},
#endif
#ifdef __AVX2__
    {"AVX2", 7, 0, 1, 5, true},
#endif
#ifdef __AVXVNNI__
    {"AVX-VNNI", 7, 1, 0, 4, true},
#endif
#ifdef __AVX512F__
    {"AVX-512F", 7, 0, 1, 16, true},
#endif
#ifdef __AVX512DQ__
    {"AVX-512DQ", 7, 0, 1, 17, true},
#endif
#ifdef __AVX512CD__
    {"AVX-512CD", 7, 0, 1, 28, true},
#endif
#ifdef __AVX512BW__
    {"AVX-512BW", 7, 0, 1, 30, true},
#endif
#ifdef __AVX512VL__
    {"AVX-512VL", 7, 0, 1, 31, true},
#endif
#ifdef __AVX512IFMA__
    {"AVX-512IFMA", 7, 0, 1, 21, true},
#endif
#ifdef __AVX512VBMI__
    {"AVX-512VBMI", 7, 0, 2, 1, true},
#endif
#ifdef __AVX512VBMI2__
    {"AVX-512VBMI2", 7, 0, 2, 6, true},
#endif
#ifdef __AVX512VNNI__
    {"AVX-512VNNI", 7, 0, 2, 11, true},
#endif
#ifdef __AVX512BITALG__
    {"AVX-512BITALG", 7, 0, 2, 12, true},
#endif
#ifdef __AVX512VPOPCNTDQ__
    {"AVX-512VPOPCNTDQ", 7, 0, 2, 14, true},
#endif
#ifdef __AVX512BF16__
    {"AVX-512BF16", 7, 1, 0, 5, true},
#endif
#ifdef __AVX512FP16__
    {"AVX-512FP16", 7, 0, 3, 23, true},
#endif
    {nullptr, 0, 0, 0, 0, false},
};

}  // namespace tool
