// SPDX-License-Identifier: Apache-2.0
// The inner loops of Cortex-M processors with the DSP extension and a single-precision FPU (M4F, M7,
// M33): in assembly, since compilers neither load several registers at once nor know the sums below;
// and so they are as fast with -Os. The bits are those of the kernels that they stand for.
// Freestanding.
#pragma once

#include <rwkv/core/half.hpp>

#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && defined(__ARM_FEATURE_SIMD32) && \
    defined(__ARM_FEATURE_FMA) && defined(__ARM_FP) && defined(__GNUC__) &&                      \
    !defined(RWKV_NO_ASSEMBLY)
#define RWKV_CORTEX_M 1
#else
#define RWKV_CORTEX_M 0
#endif
// The vector extension of M55 and M85, whose loops are in kernels/cortex_m_vector.hpp.
#if RWKV_CORTEX_M && defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#define RWKV_CORTEX_M_VECTOR 1
#else
#define RWKV_CORTEX_M_VECTOR 0
#endif

#if RWKV_CORTEX_M
namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::cortex_m {

// Functions of nothing but assembly get their arguments in r0 to r3, then on the stack.
#define RWKV_ASSEMBLY [[gnu::naked, gnu::noinline]] inline

// -- codes of 8 bits (kernels/quads.hpp)
//
// A word of weights holds the codes e0, o0, e1, o1 of four inputs, the even ones (e) 128 too large,
// hence unsigned. Its halves are h = 256 o + e. With y = 256 x_e - x_o made of the inputs
//
//   h x_o + e y = 256 (o x_o + e x_e)
//
// so that SMLAD on the word as it is, UXTB16 and another SMLAD multiply four codes. The sum begins
// with what the 128s add, negated. It is of 28 bits, and divided by 256 where it becomes a float.

// clang-format off
#define RWKV_FOUR_OUTPUTS(odd, even, sum0, sum1, sum2, sum3) \
  "ldmia r0!, {r5-r8}\n"                                     \
  "smlad r2, r5, " odd ", " sum0 "\n"                        \
  "smlad r3, r6, " odd ", " sum1 "\n"                        \
  "smlad r4, r7, " odd ", " sum2 "\n"                        \
  "smlad lr, r8, " odd ", " sum3 "\n"                        \
  "uxtb16 r5, r5\n uxtb16 r6, r6\n uxtb16 r7, r7\n uxtb16 r8, r8\n" \
  "smlad r2, r5, " even ", r2\n"                             \
  "smlad r3, r6, " even ", r3\n"                             \
  "smlad r4, r7, " even ", r4\n"                             \
  "smlad lr, r8, " even ", lr\n"
#define RWKV_FOUR_MORE(odd, even) RWKV_FOUR_OUTPUTS(odd, even, "r2", "r3", "r4", "lr")
#define RWKV_EIGHT_INPUTS "ldmia r1!, {r9-r12}\n" RWKV_FOUR_MORE("r9", "r10") RWKV_FOUR_MORE("r11", "r12")
// clang-format on

// clang-format off
#define RWKV_QUAD_TILE                                                                        \
  "vldmia r0!, {s0, s1}\n"                                                                    \
  "ldmia r1!, {r9-r12}\n"                                                                     \
  "vmov s2, r10\n"                                                                            \
  RWKV_FOUR_OUTPUTS("r11", "r12", "r9", "r9", "r9", "r9")                                     \
  RWKV_EIGHT_INPUTS RWKV_EIGHT_INPUTS RWKV_EIGHT_INPUTS                                       \
  "ldmia r1!, {r9, r10}\n" RWKV_FOUR_MORE("r9", "r10")                                        \
  "vcvtb.f32.f16 s4, s0\n vcvtt.f32.f16 s5, s0\n"                                             \
  "vcvtb.f32.f16 s6, s1\n vcvtt.f32.f16 s7, s1\n"                                             \
  "vmov s8, s9, r2, r3\n"                                                                     \
  "vmov s10, s11, r4, lr\n"                                                                   \
  "vmul.f32 s4, s4, s2\n vmul.f32 s5, s5, s2\n vmul.f32 s6, s6, s2\n vmul.f32 s7, s7, s2\n"   \
  "vcvt.f32.s32 s8, s8, #8\n vcvt.f32.s32 s9, s9, #8\n"                                       \
  "vcvt.f32.s32 s10, s10, #8\n vcvt.f32.s32 s11, s11, #8\n"                                   \
  "vfma.f32 s12, s8, s4\n vfma.f32 s13, s9, s5\n"                                             \
  "vfma.f32 s14, s10, s6\n vfma.f32 s15, s11, s7\n"
// clang-format on

/// y[0 ... 4 groups) = the sums over `tiles` of a row of inputs (a WideTile each).
RWKV_ASSEMBLY void quads(const std::byte* /*w*/, const void* /*x*/, float* /*y*/,
                         std::uint32_t /*groups*/, std::uint32_t /*tiles*/) noexcept {
  asm("push {r4-r11, lr}\n"
      "sub sp, #20\n"
      "ldr r4, [sp, #56]\n"
      "movs r5, #72\n"
      "mla r5, r4, r5, r1\n"
      "strd r1, r5, [sp]\n"  // the row's begin and end
      "strd r2, r3, [sp, #8]\n"
      "lsls r4, r4, #31\n"
      "str r4, [sp, #16]\n"  // negative: an odd number of tiles
      "1: ldr r1, [sp]\n"
      "ldr r3, [sp, #16]\n"
      "movs r2, #0\n"
      "vmov s12, s13, r2, r2\n"
      "vmov s14, s15, r2, r2\n"
      "cmp r3, #0\n"
      "bmi.w 3f\n"
      "2: " RWKV_QUAD_TILE "3: " RWKV_QUAD_TILE
      "ldr r9, [sp, #4]\n"
      "cmp r1, r9\n"
      "bne.w 2b\n"
      "ldrd r2, r3, [sp, #8]\n"
      "vstmia r2!, {s12-s15}\n"
      "subs r3, #1\n"
      "strd r2, r3, [sp, #8]\n"
      "bne.w 1b\n"
      "add sp, #20\n"
      "pop {r4-r11, pc}\n");
}

/// What products read of 32 inputs: `start` and the words are what the sums above want.
struct WideTile {
  std::int32_t start;
  float step;
  std::uint32_t words[16];
};
static_assert(sizeof(WideTile) == 72);

// clang-format off
#define RWKV_LARGER(x) "cmp r2, " x ", lsl #1\n it lo\n lsllo r2, " x ", #1\n"
#define RWKV_LARGEST "ldmia r0!, {r4-r11}\n"                                    \
  RWKV_LARGER("r4") RWKV_LARGER("r5") RWKV_LARGER("r6") RWKV_LARGER("r7")       \
  RWKV_LARGER("r8") RWKV_LARGER("r9") RWKV_LARGER("r10") RWKV_LARGER("r11")
#define RWKV_ROUND(x, to) "vmov.f32 " to ", s2\n vfma.f32 " to ", " x ", s1\n"
// Integers in r4 to r7 become a pair of words there.
#define RWKV_PAIR_OF_WORDS(first, second)  \
  "pkhbt " first ", r5, r7, lsl #16\n"     \
  "lsl r4, r4, #8\n"                       \
  "pkhbt r4, r4, r6, lsl #24\n"            \
  "smlad r2, r4, lr, r2\n"                 \
  "ssub16 " second ", r4, " first "\n"
#define RWKV_ROUND_EIGHT                                                                \
  "vldmia r0!, {s8-s15}\n"                                                              \
  RWKV_ROUND("s8", "s4") RWKV_ROUND("s9", "s5") RWKV_ROUND("s10", "s6") RWKV_ROUND("s11", "s7") \
  "vmov r4, r5, s4, s5\n vmov r6, r7, s6, s7\n"                                         \
  RWKV_PAIR_OF_WORDS("r8", "r9")                                                        \
  RWKV_ROUND("s12", "s4") RWKV_ROUND("s13", "s5") RWKV_ROUND("s14", "s6") RWKV_ROUND("s15", "s7") \
  "vmov r4, r5, s4, s5\n vmov r6, r7, s6, s7\n"                                         \
  RWKV_PAIR_OF_WORDS("r10", "r11")                                                      \
  "stmia r1!, {r8-r11}\n"
// clang-format on

/// What row_to_codes (kernels/quantise_row.hpp) makes of a row, as products with quads want it.
RWKV_ASSEMBLY void wide_tiles(const float* /*x*/, WideTile* /*to*/,
                              std::uint32_t /*tiles*/) noexcept {
  asm("push {r4-r11, lr}\n"
      "mov r3, r2\n"
      "1: movs r2, #0\n"  // twice the bits of the largest magnitude
      RWKV_LARGEST RWKV_LARGEST RWKV_LARGEST RWKV_LARGEST
      "lsr r2, r2, #1\n"
      "movw r4, #0x0204\n movt r4, #0x3c01\n"  // 1 / 127
      "movw r5, #0\n movt r5, #0x0380\n"       // 2^-120
      "vmov s0, s1, r2, r4\n"
      "vmul.f32 s0, s0, s1\n"  // step
      "movs r2, #0\n"
      "vmov s1, s2, r2, r5\n"
      "vcmp.f32 s0, s2\n"
      "vmov.f32 s3, #1.0\n"
      "vmrs APSR_nzcv, fpscr\n"
      "it gt\n vdivgt.f32 s1, s3, s0\n"
      "movw r4, #0\n movt r4, #0x4b40\n"  // leaves the nearest integer in the low bits
      "vmov s2, r4\n"
      "vstr s0, [r1, #4]\n"
      "adds r1, #8\n"
      "subs r0, #128\n"
      "mov lr, #0x00010001\n"  // clang-format off
      RWKV_ROUND_EIGHT RWKV_ROUND_EIGHT RWKV_ROUND_EIGHT RWKV_ROUND_EIGHT  // clang-format on
      "lsls r2, r2, #7\n"
      "rsbs r2, r2, #0\n"
      "str r2, [r1, #-72]\n"
      "subs r3, #1\n"
      "bne.w 1b\n"
      "pop {r4-r11, pc}\n");
}

// -- floats: 16 sums in s16 to s31

#define RWKV_ZERO_SUMS                                                      \
  "movs r4, #0\n vmov s16, s17, r4, r4\n vmov s18, s19, r4, r4\n"           \
  "vmov s20, s21, r4, r4\n vmov s22, s23, r4, r4\n vmov s24, s25, r4, r4\n" \
  "vmov s26, s27, r4, r4\n vmov s28, s29, r4, r4\n vmov s30, s31, r4, r4\n"
#define RWKV_TWO_HALVES(x, two, sum0, sum1)              \
  "vcvtb.f32.f16 s10, " two "\n vcvtt.f32.f16 s11, " two \
  "\n"                                                   \
  "vfma.f32 " sum0 ", s10, " x "\n vfma.f32 " sum1 ", s11, " x "\n"
#define RWKV_COLUMN_OF_HALVES(x)                                                            \
  "vldmia r0!, {s0-s7}\n add r0, r1\n" RWKV_TWO_HALVES(x, "s0", "s16", "s17")               \
      RWKV_TWO_HALVES(x, "s1", "s18", "s19") RWKV_TWO_HALVES(x, "s2", "s20", "s21")         \
          RWKV_TWO_HALVES(x, "s3", "s22", "s23") RWKV_TWO_HALVES(x, "s4", "s24", "s25")     \
              RWKV_TWO_HALVES(x, "s5", "s26", "s27") RWKV_TWO_HALVES(x, "s6", "s28", "s29") \
                  RWKV_TWO_HALVES(x, "s7", "s30", "s31")
#define RWKV_TWO_UPPER_HALVES(two, sum0, sum1) \
  "lsl r10, " two ", #16\n and r11, " two      \
  ", r12\n vmov s9, s10, r10, r11\n"           \
  "vfma.f32 " sum0 ", s9, s8\n vfma.f32 " sum1 ", s10, s8\n"
#define RWKV_ADD(weight, sum) "vfma.f32 " sum ", " weight ", s8\n"

/// y[0 ... 16) = the sums over `cols` inputs of a panel of halves (kernels/panels.hpp) whose columns
/// are `skip` bytes apart.
RWKV_ASSEMBLY void panel(const half* /*w*/, std::uint32_t /*skip*/, const float* /*x*/,
                         std::uint32_t /*cols*/, float* /*y*/) noexcept {
  asm("push {r4, lr}\n"
      "vpush {s16-s31}\n"  // clang-format off
      RWKV_ZERO_SUMS
      "adds r4, r3, #1\n"
      "lsrs r4, r4, #1\n"  // rounds of two columns; of an odd number, the first round has one
      "lsls r3, r3, #31\n"
      "itt mi\n vldmiami r2!, {s9}\n bmi.w 2f\n"
      "1: vldmia r2!, {s8, s9}\n"
      RWKV_COLUMN_OF_HALVES("s8")
      "2: " RWKV_COLUMN_OF_HALVES("s9")
      "subs r4, #1\n"
      "bne.w 1b\n"
      "ldr r0, [sp, #72]\n"
      "vstmia r0, {s16-s31}\n"
      "vpop {s16-s31}\n"
      "pop {r4, pc}\n");
}

/// y[0 ... 16) = the sums over a panel of bfloat16.
RWKV_ASSEMBLY void panel(const bfloat16* /*w*/, std::uint32_t /*skip*/, const float* /*x*/,
                         std::uint32_t /*cols*/, float* /*y*/) noexcept {
  asm("push {r4-r12, lr}\n"
      "vpush {s16-s31}\n"  // clang-format off
      RWKV_ZERO_SUMS
      "movw r12, #0\n movt r12, #0xffff\n"
      "1: ldmia r0!, {r4-r7}\n"
      "vldmia r2!, {s8}\n"
      RWKV_TWO_UPPER_HALVES("r4", "s16", "s17") RWKV_TWO_UPPER_HALVES("r5", "s18", "s19")
      RWKV_TWO_UPPER_HALVES("r6", "s20", "s21") RWKV_TWO_UPPER_HALVES("r7", "s22", "s23")
      "ldmia r0!, {r4-r7}\n"
      "add r0, r1\n"
      "subs r3, #1\n"
      RWKV_TWO_UPPER_HALVES("r4", "s24", "s25") RWKV_TWO_UPPER_HALVES("r5", "s26", "s27")
      RWKV_TWO_UPPER_HALVES("r6", "s28", "s29") RWKV_TWO_UPPER_HALVES("r7", "s30", "s31")  // clang-format on
      "bne.w 1b\n"
      "ldr r0, [sp, #104]\n"
      "vstmia r0, {s16-s31}\n"
      "vpop {s16-s31}\n"
      "pop {r4-r12, pc}\n");
}

/// y[0 ... 16) = the sums over a panel of floats.
RWKV_ASSEMBLY void panel(const float* /*w*/, std::uint32_t /*skip*/, const float* /*x*/,
                         std::uint32_t /*cols*/, float* /*y*/) noexcept {
  asm("push {r4, lr}\n"
      "vpush {s16-s31}\n"  // clang-format off
      RWKV_ZERO_SUMS
      "1: vldmia r0!, {s0-s7}\n"
      "vldmia r2!, {s8}\n"
      RWKV_ADD("s0", "s16") RWKV_ADD("s1", "s17") RWKV_ADD("s2", "s18") RWKV_ADD("s3", "s19")
      RWKV_ADD("s4", "s20") RWKV_ADD("s5", "s21") RWKV_ADD("s6", "s22") RWKV_ADD("s7", "s23")
      "vldmia r0!, {s0-s7}\n"
      "add r0, r1\n"
      "subs r3, #1\n"
      RWKV_ADD("s0", "s24") RWKV_ADD("s1", "s25") RWKV_ADD("s2", "s26") RWKV_ADD("s3", "s27")
      RWKV_ADD("s4", "s28") RWKV_ADD("s5", "s29") RWKV_ADD("s6", "s30") RWKV_ADD("s7", "s31")  // clang-format on
      "bne.w 1b\n"
      "ldr r0, [sp, #72]\n"
      "vstmia r0, {s16-s31}\n"
      "vpop {s16-s31}\n"
      "pop {r4, pc}\n");
}

// -- the recurrence (kernels/wkv.hpp)

#define RWKV_SA(row, sum) "vfma.f32 " sum ", " row ", s16\n"
#define RWKV_FOUR_VALUES(sa0, sa1, sa2, sa3, v0, v1, v2, v3, y0, y1, y2, y3)                \
  "vldmia r4, {s0-s3}\n"                                                                    \
  "vmul.f32 s0, s0, s4\n vmul.f32 s1, s1, s4\n vmul.f32 s2, s2, s4\n vmul.f32 s3, s3, s4\n" \
  "vfma.f32 s0, " sa0 ", s5\n vfma.f32 s1, " sa1                                            \
  ", s5\n"                                                                                  \
  "vfma.f32 s2, " sa2 ", s5\n vfma.f32 s3, " sa3                                            \
  ", s5\n"                                                                                  \
  "vfma.f32 s0, " v0 ", s6\n vfma.f32 s1, " v1                                              \
  ", s6\n"                                                                                  \
  "vfma.f32 s2, " v2 ", s6\n vfma.f32 s3, " v3                                              \
  ", s6\n"                                                                                  \
  "vstmia r4!, {s0-s3}\n"                                                                   \
  "vfma.f32 " y0 ", s0, s7\n vfma.f32 " y1                                                  \
  ", s1, s7\n"                                                                              \
  "vfma.f32 " y2 ", s2, s7\n vfma.f32 " y3 ", s3, s7\n"

#if !RWKV_CORTEX_M_VECTOR
/// One token of a head whose size n is a multiple of 8. The vectors are a, w, b, k, r, v and y.
RWKV_ASSEMBLY void wkv(const float* const* /*vectors*/, std::uint32_t /*n*/,
                       float* /*state*/) noexcept {
  asm("push {r4-r11, lr}\n"
      "vpush {s16-s31}\n"
      "lsl r3, r1, #2\n"  // bytes of a row
      "sub r10, r3, #32\n"  // from the end of the eight to the next row
      "mov lr, #0\n"  // bytes in front of the eight values at hand
      "1: ldr r5, [r0]\n"
      "add r4, r2, lr\n"
      "lsr r9, r1, #1\n"
      "movs r6, #0\n"
      "vmov s8, s9, r6, r6\n vmov s10, s11, r6, r6\n"
      "vmov s12, s13, r6, r6\n vmov s14, s15, r6, r6\n"
      "2: vldmia r5!, {s16, s17}\n"
      "vldmia r4, {s0-s7}\n"
      "add r4, r3\n"
      "subs r9, #1\n"  // clang-format off
      RWKV_SA("s0", "s8") RWKV_SA("s1", "s9") RWKV_SA("s2", "s10") RWKV_SA("s3", "s11")
      RWKV_SA("s4", "s12") RWKV_SA("s5", "s13") RWKV_SA("s6", "s14") RWKV_SA("s7", "s15")
      "vldmia r4, {s0-s7}\n"
      "vmov.f32 s16, s17\n"
      "add r4, r3\n"
      RWKV_SA("s0", "s8") RWKV_SA("s1", "s9") RWKV_SA("s2", "s10") RWKV_SA("s3", "s11")
      RWKV_SA("s4", "s12") RWKV_SA("s5", "s13") RWKV_SA("s6", "s14") RWKV_SA("s7", "s15")  // clang-format on
      "bne 2b\n"
      "ldr r9, [r0, #20]\n"
      "add r9, lr\n"
      "vldmia r9, {s16-s23}\n"
      "vmov s24, s25, r6, r6\n vmov s26, s27, r6, r6\n"
      "vmov s28, s29, r6, r6\n vmov s30, s31, r6, r6\n"
      "ldrd r5, r6, [r0, #4]\n"
      "ldrd r7, r8, [r0, #12]\n"
      "add r4, r2, lr\n"
      "mov r9, r1\n"
      "3: vldmia r5!, {s4}\n vldmia r6!, {s5}\n vldmia r7!, {s6}\n vldmia r8!, {s7}\n"
      "subs r9, #1\n"  // clang-format off
      RWKV_FOUR_VALUES("s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19", "s24", "s25", "s26", "s27")
      RWKV_FOUR_VALUES("s12", "s13", "s14", "s15", "s20", "s21", "s22", "s23", "s28", "s29", "s30", "s31")  // clang-format on
      "add r4, r10\n"
      "bne.w 3b\n"
      "ldr r9, [r0, #24]\n"
      "add r9, lr\n"
      "vstmia r9, {s24-s31}\n"
      "add lr, #32\n"
      "cmp lr, r3\n"
      "bne.w 1b\n"
      "vpop {s16-s31}\n"
      "pop {r4-r11, pc}\n");
}
#endif

// -- vectors whose length is a multiple of 16, not 0

// clang-format off
#define RWKV_PAIRWISE                                                                      \
  "vadd.f32 s16, s16, s24\n vadd.f32 s17, s17, s25\n vadd.f32 s18, s18, s26\n"             \
  "vadd.f32 s19, s19, s27\n vadd.f32 s20, s20, s28\n vadd.f32 s21, s21, s29\n"             \
  "vadd.f32 s22, s22, s30\n vadd.f32 s23, s23, s31\n"                                      \
  "vadd.f32 s16, s16, s20\n vadd.f32 s17, s17, s21\n vadd.f32 s18, s18, s22\n"             \
  "vadd.f32 s19, s19, s23\n vadd.f32 s16, s16, s18\n vadd.f32 s17, s17, s19\n"             \
  "vadd.f32 s16, s16, s17\n"
#define RWKV_SUM(x, sum) "vadd.f32 " sum ", " sum ", " x "\n"
#define RWKV_SQUARE(x, sum) "vfma.f32 " sum ", " x ", " x "\n"
#define RWKV_DEVIATION(x, sum) "vsub.f32 " x ", " x ", s8\n" RWKV_SQUARE(x, sum)
#define RWKV_EIGHT(f, a, b, c, d, e, g, h, i)                      \
  f("s0", a) f("s1", b) f("s2", c) f("s3", d) f("s4", e) f("s5", g) f("s6", h) f("s7", i)
#define RWKV_LOWER(f) RWKV_EIGHT(f, "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23")
#define RWKV_UPPER(f) RWKV_EIGHT(f, "s24", "s25", "s26", "s27", "s28", "s29", "s30", "s31")
#define RWKV_SCALE_BY_S8(x) "vmul.f32 " x ", " x ", s8\n"
#define RWKV_NORMALISE(x, weight, bias)                                            \
  "vsub.f32 " x ", " x ", s8\n vmul.f32 " x ", " x ", s9\n vfma.f32 " bias ", " x ", " weight "\n"
#define RWKV_SHIFT(x, previous, mu)                                                \
  "vsub.f32 " previous ", " previous ", " x "\n vfma.f32 " x ", " previous ", " mu "\n"
#define RWKV_RELU_SQUARED(x)                                                       \
  "vcmp.f32 " x ", #0\n vmrs APSR_nzcv, fpscr\n it mi\n vmovmi.f32 " x ", s8\n"    \
  "vmul.f32 " x ", " x ", " x "\n"
#define RWKV_TRIPLE(a, b, c, sum) "vmul.f32 " a ", " a ", " b "\n vfma.f32 " sum ", " a ", " c "\n"
// clang-format on

struct NormArguments {
  const float *x, *weight, *bias;
  float* y;
  std::uint32_t n;
  float count, epsilon;
};

#if !RWKV_CORTEX_M_VECTOR
/// See normalise (kernels/norm.hpp).
RWKV_ASSEMBLY void normalise(const NormArguments*) noexcept {
  asm("push {r4-r8, lr}\n"
      "vpush {s16-s31}\n"
      "ldm r0, {r1, r2, r3, r5, r6}\n"
      "vldr s10, [r0, #20]\n"
      "vldr s11, [r0, #24]\n"  // clang-format off
      RWKV_ZERO_SUMS
      "mov r7, r1\n"
      "mov r8, r6\n"
      "1: vldmia r7!, {s0-s7}\n"
      "subs r8, #16\n"
      RWKV_LOWER(RWKV_SUM)
      "vldmia r7!, {s0-s7}\n"
      RWKV_UPPER(RWKV_SUM)
      "bne 1b\n"
      RWKV_PAIRWISE
      "vdiv.f32 s8, s16, s10\n"  // mean
      RWKV_ZERO_SUMS
      "mov r7, r1\n"
      "mov r8, r6\n"
      "2: vldmia r7!, {s0-s7}\n"
      "subs r8, #16\n"
      RWKV_LOWER(RWKV_DEVIATION)
      "vldmia r7!, {s0-s7}\n"
      RWKV_UPPER(RWKV_DEVIATION)
      "bne 2b\n"
      RWKV_PAIRWISE
      "vdiv.f32 s9, s16, s10\n"
      "vadd.f32 s9, s9, s11\n"
      "vsqrt.f32 s9, s9\n"
      "vmov.f32 s10, #1.0\n"
      "vdiv.f32 s9, s10, s9\n"
      "3: vldmia r1!, {s0-s7}\n"
      "vldmia r2!, {s16-s23}\n"
      "vldmia r3!, {s24-s31}\n"
      "subs r6, #8\n"
      RWKV_NORMALISE("s0", "s16", "s24") RWKV_NORMALISE("s1", "s17", "s25")
      RWKV_NORMALISE("s2", "s18", "s26") RWKV_NORMALISE("s3", "s19", "s27")
      RWKV_NORMALISE("s4", "s20", "s28") RWKV_NORMALISE("s5", "s21", "s29")
      RWKV_NORMALISE("s6", "s22", "s30") RWKV_NORMALISE("s7", "s23", "s31")  // clang-format on
      "vstmia r5!, {s24-s31}\n"
      "bne 3b\n"
      "vpop {s16-s31}\n"
      "pop {r4-r8, pc}\n");
}
#endif

#if !RWKV_CORTEX_M_VECTOR
/// See unit_length (kernels/norm.hpp).
RWKV_ASSEMBLY void unit_length(const float* /*x*/, float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("push {r4, lr}\n"
      "vpush {s16-s31}\n"  // clang-format off
      RWKV_ZERO_SUMS
      "mov r3, r0\n"
      "mov r12, r2\n"
      "1: vldmia r3!, {s0-s7}\n"
      "subs r12, #16\n"
      RWKV_LOWER(RWKV_SQUARE)
      "vldmia r3!, {s0-s7}\n"
      RWKV_UPPER(RWKV_SQUARE)
      "bne 1b\n"
      RWKV_PAIRWISE  // clang-format on
                       "vsqrt.f32 s9, s16\n"
                       "movw r3, #0xbccc\n movt r3, #0x2b8c\n"  // 1e-12
                       "vmov s8, r3\n"
                       "vcmp.f32 s9, s8\n"
                       "vmov.f32 s10, #1.0\n"
                       "vmrs APSR_nzcv, fpscr\n"
                       "it gt\n vmovgt.f32 s8, s9\n"
                       "vdiv.f32 s8, s10, s8\n"
                       "2: vldmia r0!, {s0-s7}\n"
                       "subs r2, #8\n"  // clang-format off
      RWKV_SCALE_BY_S8("s0") RWKV_SCALE_BY_S8("s1") RWKV_SCALE_BY_S8("s2") RWKV_SCALE_BY_S8("s3")
      RWKV_SCALE_BY_S8("s4") RWKV_SCALE_BY_S8("s5") RWKV_SCALE_BY_S8("s6") RWKV_SCALE_BY_S8("s7")  // clang-format on
      "vstmia r1!, {s0-s7}\n"
      "bne 2b\n"
      "vpop {s16-s31}\n"
      "pop {r4, pc}\n");
}

/// *sum = a[0] b[0] c[0] + ..., see triple_product (kernels/norm.hpp).
RWKV_ASSEMBLY void triple_product(const float* /*a*/, const float* /*b*/, const float* /*c*/,
                                  std::uint32_t /*n*/, float* /*sum*/) noexcept {
  asm("push {r4, lr}\n"
      "vpush {s16-s31}\n"  // clang-format off
      RWKV_ZERO_SUMS
      "1: vldmia r0!, {s0-s3}\n vldmia r1!, {s4-s7}\n vldmia r2!, {s8-s11}\n"
      RWKV_TRIPLE("s0", "s4", "s8", "s16") RWKV_TRIPLE("s1", "s5", "s9", "s17")
      RWKV_TRIPLE("s2", "s6", "s10", "s18") RWKV_TRIPLE("s3", "s7", "s11", "s19")
      "vldmia r0!, {s0-s3}\n vldmia r1!, {s4-s7}\n vldmia r2!, {s8-s11}\n"
      RWKV_TRIPLE("s0", "s4", "s8", "s20") RWKV_TRIPLE("s1", "s5", "s9", "s21")
      RWKV_TRIPLE("s2", "s6", "s10", "s22") RWKV_TRIPLE("s3", "s7", "s11", "s23")
      "vldmia r0!, {s0-s3}\n vldmia r1!, {s4-s7}\n vldmia r2!, {s8-s11}\n"
      RWKV_TRIPLE("s0", "s4", "s8", "s24") RWKV_TRIPLE("s1", "s5", "s9", "s25")
      RWKV_TRIPLE("s2", "s6", "s10", "s26") RWKV_TRIPLE("s3", "s7", "s11", "s27")
      "vldmia r0!, {s0-s3}\n vldmia r1!, {s4-s7}\n vldmia r2!, {s8-s11}\n"
      "subs r3, #16\n"
      RWKV_TRIPLE("s0", "s4", "s8", "s28") RWKV_TRIPLE("s1", "s5", "s9", "s29")
      RWKV_TRIPLE("s2", "s6", "s10", "s30") RWKV_TRIPLE("s3", "s7", "s11", "s31")
      "bne 1b\n"
      RWKV_PAIRWISE  // clang-format on
      "ldr r0, [sp, #72]\n"
      "vstr s16, [r0]\n"
      "vpop {s16-s31}\n"
      "pop {r4, pc}\n");
}

/// y = x + (previous - x) mu
RWKV_ASSEMBLY void token_shift(const float* /*x*/, const float* /*previous*/, const float* /*mu*/,
                               float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("ldr r12, [sp]\n"
      "vpush {s16-s23}\n"
      "1: vldmia r0!, {s0-s7}\n"
      "vldmia r1!, {s8-s15}\n"
      "vldmia r2!, {s16-s23}\n"
      "subs r12, #8\n"  // clang-format off
      RWKV_SHIFT("s0", "s8", "s16") RWKV_SHIFT("s1", "s9", "s17")
      RWKV_SHIFT("s2", "s10", "s18") RWKV_SHIFT("s3", "s11", "s19")
      RWKV_SHIFT("s4", "s12", "s20") RWKV_SHIFT("s5", "s13", "s21")
      RWKV_SHIFT("s6", "s14", "s22") RWKV_SHIFT("s7", "s15", "s23")  // clang-format on
      "vstmia r3!, {s0-s7}\n"
      "bne 1b\n"
      "vpop {s16-s23}\n"
      "bx lr\n");
}
#endif

// clang-format off
#define RWKV_KEY(kk, a, k, k_a, minus_kk)                                                     \
  "vsub.f32 " minus_kk ", s20, " kk "\n vmul.f32 " kk ", " kk ", " a "\n"                     \
  "vsub.f32 " a ", " a ", s21\n vmov.f32 s22, s21\n"                                         \
  "vfma.f32 s22, " a ", " k_a "\n vmul.f32 " k ", " k ", s22\n"
// clang-format on

struct KeyArguments {
  float *b, *k, *minus_kk;
  const float *a, *k_a;
};

#if !RWKV_CORTEX_M_VECTOR
/// What head_operands (kernels/head_row.hpp) ends with, where learning rates are below 1: -kk,
/// b = kk a and k (1 + (a - 1) k_a), of kk in b.
RWKV_ASSEMBLY void keys(const KeyArguments*, std::uint32_t /*n*/) noexcept {
  asm("push {r4-r6, lr}\n"
      "vpush {s16-s23}\n"
      "ldm r0, {r2-r6}\n"
      "movs r0, #0\n"
      "vmov s20, r0\n"
      "vmov.f32 s21, #1.0\n"
      "1: vldmia r2, {s0-s3}\n vldmia r5!, {s4-s7}\n"
      "vldmia r3, {s8-s11}\n vldmia r6!, {s12-s15}\n"
      "subs r1, #4\n"  // clang-format off
      RWKV_KEY("s0", "s4", "s8", "s12", "s16") RWKV_KEY("s1", "s5", "s9", "s13", "s17")
      RWKV_KEY("s2", "s6", "s10", "s14", "s18") RWKV_KEY("s3", "s7", "s11", "s15", "s19")  // clang-format on
      "vstmia r2!, {s0-s3}\n"
      "vstmia r3!, {s8-s11}\n"
      "vstmia r4!, {s16-s19}\n"
      "bne 1b\n"
      "vpop {s16-s23}\n"
      "pop {r4-r6, pc}\n");
}

/// y += x
RWKV_ASSEMBLY void add(const float* /*x*/, float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("1: vldmia r0!, {s0-s7}\n"
      "vldmia r1, {s8-s15}\n"
      "subs r2, #8\n"
      "vadd.f32 s0, s8, s0\n vadd.f32 s1, s9, s1\n vadd.f32 s2, s10, s2\n"
      "vadd.f32 s3, s11, s3\n vadd.f32 s4, s12, s4\n vadd.f32 s5, s13, s5\n"
      "vadd.f32 s6, s14, s6\n vadd.f32 s7, s15, s7\n"
      "vstmia r1!, {s0-s7}\n"
      "bne 1b\n"
      "bx lr\n");
}

/// y = max(0, y)^2
RWKV_ASSEMBLY void relu_squared(float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("movs r2, #0\n"
      "vmov s8, r2\n"
      "1: vldmia r0, {s0-s7}\n"  // clang-format off
      RWKV_RELU_SQUARED("s0") RWKV_RELU_SQUARED("s1") RWKV_RELU_SQUARED("s2")
      RWKV_RELU_SQUARED("s3") RWKV_RELU_SQUARED("s4") RWKV_RELU_SQUARED("s5")
      RWKV_RELU_SQUARED("s6") RWKV_RELU_SQUARED("s7")  // clang-format on
      "subs r1, #8\n"
      "vstmia r0!, {s0-s7}\n"
      "bne 1b\n"
      "bx lr\n");
}
#endif

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::cortex_m

#if RWKV_CORTEX_M_VECTOR
#include <rwkv/kernels/cortex_m_vector.hpp>
#endif
#endif
