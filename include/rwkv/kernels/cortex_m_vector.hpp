// SPDX-License-Identifier: Apache-2.0
// The inner loops of kernels/cortex_m.hpp for Cortex-M55 and M85, in the instructions of their vector
// extension (MVE, "Helium"), four floats or sixteen bytes at a time. These take subnormal floats for
// zeros; otherwise the bits are those of the kernels that they stand for. Freestanding.
#pragma once

#include <rwkv/kernels/cortex_m.hpp>
#include <rwkv/simd/scalar.hpp>

#include <bit>

#if RWKV_CORTEX_M_VECTOR
namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::cortex_m {

// vcvtb.f32.f16 and vcvtt.f32.f16 of vectors, whose registers the assembler of GCC 12 gets wrong.
#define RWKV_LOWER_HALVES(to, from) ".inst.w 0xfe3f0e01 + (" #to " << 13) + (" #from " << 1)\n"
#define RWKV_UPPER_HALVES(to, from) ".inst.w 0xfe3f1e01 + (" #to " << 13) + (" #from " << 1)\n"

// clang-format off
#define RWKV_OUTPUT(sum, lower, upper)                                                        \
  "vldrw.u32 q3, [q0, #" lower "]\n vmladav.s8 " sum ", q3, q1\n"                             \
  "vldrw.u32 q3, [q0, #" upper "]\n vmladava.s8 " sum ", q3, q2\n"
// Four outputs of a tile: the words of one output are 64 bytes apart, four of them are gathered.
#define RWKV_FOUR_ROWS(sum, upper, scales, a, b, c, d, e, f, g, h)                            \
  "vldrw.u32 q2, " upper "\n"                                                                 \
  RWKV_OUTPUT("r6", a, e) RWKV_OUTPUT("r8", b, f)                                             \
  RWKV_OUTPUT("r10", c, g) RWKV_OUTPUT("r12", d, h)                                           \
  "vldrh.u32 q2, [r0, #" scales "]\n"                                                         \
  "vmov s12, s13, r6, r8\n"                                                                   \
  "vmov s14, s15, r10, r12\n"                                                                 \
  RWKV_LOWER_HALVES(2, 2)                                                                     \
  "vcvt.f32.s32 q3, q3\n"                                                                     \
  "vmul.f32 q2, q2, r7\n"                                                                     \
  "vfma.f32 " sum ", q3, q2\n"
// clang-format on

struct CodesArguments {
  const std::byte* w;
  const std::int8_t* codes;
  const float* steps;
  float* y;  ///< 16 numbers per panel
  std::uint32_t panels, tiles;
};

/// Products with panels of 8-bit codes whose scales are halves (kernels/quantised_layout.hpp).
RWKV_ASSEMBLY void codes_in_panels(const CodesArguments*) noexcept {
  asm("push {r0, r4-r12, lr}\n"
      "vpush {d8-d15}\n"
      "ldrd r3, r5, [r0, #12]\n"  // y, panels
      "ldr r0, [r0]\n"
      "movs r4, #64\n"
      "movs r6, #0\n"
      "vidup.u32 q0, r6, #8\n"
      "vshl.i32 q0, q0, #3\n"
      "add r6, r0, #32\n"
      "vadd.i32 q0, q0, r6\n"
      "movw r4, #544\n"
      "1: ldr r6, [sp, #64]\n"
      "ldrd r1, r2, [r6, #4]\n"
      "ldr lr, [r6, #20]\n"
      "vmov.i32 q4, #0\n vmov.i32 q5, #0\n vmov.i32 q6, #0\n vmov.i32 q7, #0\n"
      "dls lr, lr\n"
      "2: ldr r7, [r2], #4\n"
      "vldrw.u32 q1, [r1], #16\n"  // clang-format off
      RWKV_FOUR_ROWS("q4", "[r1]", "0", "0", "4", "8", "12", "256", "260", "264", "268")
      RWKV_FOUR_ROWS("q5", "[r1]", "8", "16", "20", "24", "28", "272", "276", "280", "284")
      RWKV_FOUR_ROWS("q6", "[r1]", "16", "32", "36", "40", "44", "288", "292", "296", "300")
      RWKV_FOUR_ROWS("q7", "[r1], #16", "24", "48", "52", "56", "60", "304", "308", "312", "316")  // clang-format on
      "add r0, r4\n"
      "vadd.i32 q0, q0, r4\n"
      "le lr, 2b\n"
      "vstrw.32 q4, [r3], #16\n vstrw.32 q5, [r3], #16\n"
      "vstrw.32 q6, [r3], #16\n vstrw.32 q7, [r3], #16\n"
      "subs r5, #1\n"
      "bne.w 1b\n"
      "vpop {d8-d15}\n"
      "pop {r0, r4-r12, pc}\n");
}

// clang-format off
#define RWKV_LARGEST_OF_FOUR "vldrw.u32 q0, [r0], #16\n vbic q0, q0, q3\n vmaxv.u32 r4, q0\n"
#define RWKV_ROUND_FOUR \
  "vldrw.u32 q0, [r0], #16\n vfmas.f32 q0, q2, r5\n vstrb.32 q0, [r1], #4\n vaddva.u32 r4, q0\n"
// clang-format on

struct RowArguments {
  const float* x;
  std::int8_t* codes;
  float *steps, *negative_sums;
  std::int32_t* offsets;
  std::uint32_t tiles;
};

/// See row_to_codes (kernels/quantise_row.hpp).
RWKV_ASSEMBLY void row_to_codes(const RowArguments*) noexcept {
  asm("push {r4-r12, lr}\n"
      "ldm r0, {r0-r3, r8, lr}\n"
      "mov r5, #0x80000000\n"
      "vdup.32 q3, r5\n"
      "movw r5, #0\n movt r5, #0x4b40\n"         // leaves the nearest integer in the low bits
      "lsl r9, r5, #4\n"                         // of 16 numbers
      "movw r11, #0x0204\n movt r11, #0x3c01\n"  // 1 / 127
      "movw r12, #0\n movt r12, #0x0380\n"       // 2^-120
      "dls lr, lr\n"
      "1: movs r4, #0\n"  // clang-format off
      RWKV_LARGEST_OF_FOUR RWKV_LARGEST_OF_FOUR RWKV_LARGEST_OF_FOUR RWKV_LARGEST_OF_FOUR
      RWKV_LARGEST_OF_FOUR RWKV_LARGEST_OF_FOUR RWKV_LARGEST_OF_FOUR RWKV_LARGEST_OF_FOUR  // clang-format on
      "vmov s0, s1, r4, r11\n"
      "vmul.f32 s0, s0, s1\n"  // step
      "movs r6, #0\n"
      "vmov s1, s2, r6, r12\n"
      "vcmp.f32 s0, s2\n"
      "vmov.f32 s3, #1.0\n"
      "vmrs APSR_nzcv, fpscr\n"
      "it gt\n vdivgt.f32 s1, s3, s0\n"
      "vmov r6, r7, s0, s1\n"
      "vdup.32 q2, r7\n"
      "str r6, [r2], #4\n"
      "subs r0, #128\n"
      "movs r4, #0\n"  // clang-format off
      RWKV_ROUND_FOUR RWKV_ROUND_FOUR RWKV_ROUND_FOUR RWKV_ROUND_FOUR
      "sub r10, r4, r9\n"
      "movs r4, #0\n"
      RWKV_ROUND_FOUR RWKV_ROUND_FOUR RWKV_ROUND_FOUR RWKV_ROUND_FOUR  // clang-format on
      "sub r4, r4, r9\n"
      "vmov s4, s5, r10, r4\n"
      "vmov s6, r6\n"
      "vcvt.f32.s32 s4, s4\n vcvt.f32.s32 s5, s5\n"
      "vnmul.f32 s4, s6, s4\n vnmul.f32 s5, s6, s5\n"
      "vstmia r3!, {s4, s5}\n"
      "add r4, r10\n"
      "lsls r4, r4, #7\n"
      "rsbs r4, r4, #0\n"
      "str r4, [r8], #4\n"
      "le lr, 1b\n"
      "pop {r4-r12, pc}\n");
}

// -- floats: 16 sums in q0 to q3, of halves in the order of even and odd outputs

#define RWKV_COLUMN_OF_HALVES_IN_VECTORS(x)                                   \
  RWKV_LOWER_HALVES(6, 4)                                                     \
  RWKV_UPPER_HALVES(4, 4)                                                     \
  "vfma.f32 q0, q6, " x "\n vfma.f32 q1, q4, " x "\n" RWKV_LOWER_HALVES(6, 5) \
      RWKV_UPPER_HALVES(5, 5) "vfma.f32 q2, q6, " x "\n vfma.f32 q3, q5, " x "\n"

#define RWKV_TWO_COLUMNS_OF_HALVES(next)                           \
  "vldrh.u16 q4, [r0], #16\n vldrh.u16 q5, [r0], #" next           \
  "\n"                                                             \
  "ldrd r8, r9, [r7], #8\n" RWKV_COLUMN_OF_HALVES_IN_VECTORS(      \
      "r8") "vldrh.u16 q4, [r0], #16\n vldrh.u16 q5, [r0], #" next \
            "\n" RWKV_COLUMN_OF_HALVES_IN_VECTORS("r9")
#define RWKV_STORE_SUMS_OF_HALVES                        \
  "vst20.32 {q0, q1}, [r3]\n vst21.32 {q0, q1}, [r3]!\n" \
  "vst20.32 {q2, q3}, [r3]\n vst21.32 {q2, q3}, [r3]!\n"
#define RWKV_COLUMN_OF_FLOATS(x, next)                   \
  "vldrw.u32 q4, [r0], #16\n vldrw.u32 q5, [r0], #16\n"  \
  "vldrw.u32 q6, [r0], #16\n vldrw.u32 q7, [r0], #" next \
  "\n"                                                   \
  "vfma.f32 q0, q4, " x "\n vfma.f32 q1, q5, " x         \
  "\n"                                                   \
  "vfma.f32 q2, q6, " x "\n vfma.f32 q3, q7, " x "\n"
#define RWKV_TWO_COLUMNS_OF_FLOATS(next) \
  "ldrd r8, r9, [r7], #8\n" RWKV_COLUMN_OF_FLOATS("r8", next) RWKV_COLUMN_OF_FLOATS("r9", next)
#define RWKV_STORE_SUMS_OF_FLOATS                     \
  "vstrw.32 q0, [r3], #16\n vstrw.32 q1, [r3], #16\n" \
  "vstrw.32 q2, [r3], #16\n vstrw.32 q3, [r3], #16\n"
#define RWKV_PANEL(columns, store)                                          \
  "vmov.i32 q0, #0\n vmov.i32 q1, #0\n vmov.i32 q2, #0\n vmov.i32 q3, #0\n" \
  "mov r7, r1\n"                                                            \
  "dls lr, r5\n"                                                            \
  "2: " columns columns "le lr, 2b\n" store
#define RWKV_BEGIN_PANELS \
  "push {r4-r9, lr}\n vpush {d8-d15}\n ldr r4, [sp, #92]\n lsrs r5, r2, #2\n"
#define RWKV_END_PANELS "vpop {d8-d15}\n pop {r4-r9, pc}\n"

/// y[0 ... 16) = the sums over a multiple of four inputs of a panel that has no partner. (The last
/// argument is there for its place.)
RWKV_ASSEMBLY void lone_panel(const half* /*w*/, const float* /*x*/, std::uint32_t /*cols*/,
                              float* /*y*/, std::uint32_t /*1*/) noexcept {
  asm(RWKV_BEGIN_PANELS RWKV_PANEL(RWKV_TWO_COLUMNS_OF_HALVES("16"), RWKV_STORE_SUMS_OF_HALVES)
          RWKV_END_PANELS);
}
RWKV_ASSEMBLY void lone_panel(const float* /*w*/, const float* /*x*/, std::uint32_t /*cols*/,
                              float* /*y*/, std::uint32_t /*1*/) noexcept {
  asm(RWKV_BEGIN_PANELS RWKV_PANEL(RWKV_TWO_COLUMNS_OF_FLOATS("16"), RWKV_STORE_SUMS_OF_FLOATS)
          RWKV_END_PANELS);
}

/// y[0 ... 32 pairs) = the same of pairs of panels.
RWKV_ASSEMBLY void pairs_of_panels(const half* /*w*/, const float* /*x*/, std::uint32_t /*cols*/,
                                   float* /*y*/, std::uint32_t /*pairs*/) noexcept {
  asm(RWKV_BEGIN_PANELS
      "1: mov r6, r0\n" RWKV_PANEL(RWKV_TWO_COLUMNS_OF_HALVES("48"), RWKV_STORE_SUMS_OF_HALVES)
      "add r0, r6, #32\n" RWKV_PANEL(RWKV_TWO_COLUMNS_OF_HALVES("48"), RWKV_STORE_SUMS_OF_HALVES)
      "subs r0, #32\n"
      "subs r4, #1\n"
      "bne.w 1b\n" RWKV_END_PANELS);
}
RWKV_ASSEMBLY void pairs_of_panels(const float* /*w*/, const float* /*x*/, std::uint32_t /*cols*/,
                                   float* /*y*/, std::uint32_t /*pairs*/) noexcept {
  asm(RWKV_BEGIN_PANELS
      "1: mov r6, r0\n" RWKV_PANEL(RWKV_TWO_COLUMNS_OF_FLOATS("80"), RWKV_STORE_SUMS_OF_FLOATS)
      "add r0, r6, #64\n" RWKV_PANEL(RWKV_TWO_COLUMNS_OF_FLOATS("80"), RWKV_STORE_SUMS_OF_FLOATS)
      "subs r0, #64\n"
      "subs r4, #1\n"
      "bne.w 1b\n" RWKV_END_PANELS);
}

#define RWKV_ROW_OF_STATE(w, b)                    \
  "vldrw.u32 q0, [r4]\n vldrw.u32 q1, [r4, #16]\n" \
  "vmul.f32 q0, q0, " w "\n vmul.f32 q1, q1, " w   \
  "\n"                                             \
  "vfma.f32 q0, q2, " b "\n vfma.f32 q1, q3, " b   \
  "\n"                                             \
  "vfma.f32 q0, q4, r12\n vfma.f32 q1, q5, r12\n"  \
  "vstrw.32 q0, [r4]\n vstrw.32 q1, [r4, #16]\n"   \
  "vfma.f32 q6, q0, r11\n vfma.f32 q7, q1, r11\n"  \
  "add r4, r3\n"

/// One token of a head whose size n is a multiple of 8. The vectors are a, w, b, k, r, v and y.
RWKV_ASSEMBLY void wkv(const float* const* /*vectors*/, std::uint32_t /*n*/,
                       float* /*state*/) noexcept {
  asm("push {r4-r12, lr}\n"
      "vpush {d8-d15}\n"
      "sub sp, #8\n"
      "lsl r3, r1, #2\n"  // bytes of a row
      "movs r4, #0\n"     // bytes in front of the eight values at hand
      "1: str r4, [sp]\n"
      "ldr r5, [r0]\n"
      "ldr r9, [r0, #20]\n"
      "add r9, r4\n"
      "vldrw.u32 q4, [r9]\n vldrw.u32 q5, [r9, #16]\n"
      "add r4, r2\n"
      "vmov.i32 q2, #0\n vmov.i32 q3, #0\n vmov.i32 q6, #0\n vmov.i32 q7, #0\n"
      "push {r0, r1}\n"
      "lsr r6, r1, #1\n"
      "dls lr, r6\n"
      "2: vldrw.u32 q0, [r4]\n vldrw.u32 q1, [r4, #16]\n"
      "ldrd r6, r7, [r5], #8\n"
      "add r4, r3\n"
      "vfma.f32 q2, q0, r6\n vfma.f32 q3, q1, r6\n"
      "vldrw.u32 q0, [r4]\n vldrw.u32 q1, [r4, #16]\n"
      "add r4, r3\n"
      "vfma.f32 q2, q0, r7\n vfma.f32 q3, q1, r7\n"
      "le lr, 2b\n"
      "ldrd r5, r6, [r0, #4]\n"
      "ldrd r7, r8, [r0, #12]\n"
      "ldr r4, [sp, #8]\n"
      "add r4, r2\n"
      "lsr r9, r1, #1\n"
      "dls lr, r9\n"
      "3: ldrd r0, r1, [r5], #8\n ldrd r9, r10, [r6], #8\n"
      "ldr r12, [r7], #4\n ldr r11, [r8], #4\n" RWKV_ROW_OF_STATE("r0", "r9")
      "ldr r12, [r7], #4\n ldr r11, [r8], #4\n" RWKV_ROW_OF_STATE("r1", "r10")
      "le lr, 3b\n"
      "pop {r0, r1}\n"
      "ldr r4, [sp]\n"
      "ldr r9, [r0, #24]\n"
      "add r9, r4\n"
      "vstrw.32 q6, [r9]\n vstrw.32 q7, [r9, #16]\n"
      "adds r4, #32\n"
      "cmp r4, r3\n"
      "bne.w 1b\n"
      "add sp, #8\n"
      "vpop {d8-d15}\n"
      "pop {r4-r12, pc}\n");
}

#define RWKV_VECTOR_PAIRWISE                                          \
  "vadd.f32 q0, q0, q2\n vadd.f32 q1, q1, q3\n vadd.f32 q0, q0, q1\n" \
  "vadd.f32 s0, s0, s2\n vadd.f32 s1, s1, s3\n vadd.f32 s0, s0, s1\n"

#define RWKV_FOUR_SUMS(step) step("q0") step("q1") step("q2") step("q3")
#define RWKV_ADD_SQUARES(sum) "vldrw.u32 q4, [r3], #16\n vfma.f32 " sum ", q4, q4\n"
#define RWKV_ADD_TRIPLES(sum)                                                 \
  "vldrw.u32 q4, [r0], #16\n vldrw.u32 q5, [r1], #16\n vmul.f32 q4, q4, q5\n" \
  "vldrw.u32 q5, [r2], #16\n vfma.f32 " sum ", q4, q5\n"

/// See unit_length (kernels/norm.hpp).
RWKV_ASSEMBLY void unit_length(const float* /*x*/, float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("push {r4, lr}\n"
      "vpush {d8, d9}\n"
      "vmov.i32 q0, #0\n vmov.i32 q1, #0\n vmov.i32 q2, #0\n vmov.i32 q3, #0\n"
      "mov r3, r0\n"
      "lsr r12, r2, #4\n"
      "dls lr, r12\n"
      "1: " RWKV_FOUR_SUMS(RWKV_ADD_SQUARES) "le lr, 1b\n" RWKV_VECTOR_PAIRWISE
                                             "vsqrt.f32 s1, s0\n"
                                             "movw r3, #0xbccc\n movt r3, #0x2b8c\n"  // 1e-12
                                             "vmov s0, r3\n"
                                             "vcmp.f32 s1, s0\n"
                                             "vmov.f32 s2, #1.0\n"
                                             "vmrs APSR_nzcv, fpscr\n"
                                             "it gt\n vmovgt.f32 s0, s1\n"
                                             "vdiv.f32 s0, s2, s0\n"
                                             "vmov r3, s0\n"
                                             "lsrs r2, r2, #2\n"
                                             "dls lr, r2\n"
                                             "2: vldrw.u32 q0, [r0], #16\n"
                                             "vmul.f32 q0, q0, r3\n"
                                             "vstrw.32 q0, [r1], #16\n"
                                             "le lr, 2b\n"
                                             "vpop {d8, d9}\n"
                                             "pop {r4, pc}\n");
}

/// *sum = a[0] b[0] c[0] + ..., see triple_product (kernels/norm.hpp).
RWKV_ASSEMBLY void triple_product(const float* /*a*/, const float* /*b*/, const float* /*c*/,
                                  std::uint32_t /*n*/, float* /*sum*/) noexcept {
  asm("push {r4, lr}\n"
      "vpush {d8-d11}\n"
      "vmov.i32 q0, #0\n vmov.i32 q1, #0\n vmov.i32 q2, #0\n vmov.i32 q3, #0\n"
      "lsr r3, r3, #4\n"
      "dls lr, r3\n"
      "1: " RWKV_FOUR_SUMS(RWKV_ADD_TRIPLES) "le lr, 1b\n" RWKV_VECTOR_PAIRWISE
                                             "ldr r0, [sp, #40]\n"
                                             "vstr s0, [r0]\n"
                                             "vpop {d8-d11}\n"
                                             "pop {r4, pc}\n");
}

#define RWKV_FOUR_NORMALISED                                                      \
  "vldrw.u32 q4, [r1], #16\n vldrw.u32 q5, [r2], #16\n vldrw.u32 q6, [r3], #16\n" \
  "vsub.f32 q4, q4, r4\n vmul.f32 q4, q4, r7\n vfma.f32 q6, q4, q5\n"             \
  "vstrw.32 q6, [r5], #16\n"

/// See normalise (kernels/norm.hpp).
RWKV_ASSEMBLY void normalise(const NormArguments*) noexcept {
  asm("push {r4-r8, lr}\n"
      "vpush {d8-d13}\n"
      "ldm r0, {r1, r2, r3, r5, r6}\n"
      "vmov.i32 q0, #0\n vmov.i32 q1, #0\n vmov.i32 q2, #0\n vmov.i32 q3, #0\n"
      "mov r7, r1\n"
      "lsr r8, r6, #4\n"
      "dls lr, r8\n"
      "1: vldrw.u32 q4, [r7], #16\n vadd.f32 q0, q0, q4\n"
      "vldrw.u32 q4, [r7], #16\n vadd.f32 q1, q1, q4\n"
      "vldrw.u32 q4, [r7], #16\n vadd.f32 q2, q2, q4\n"
      "vldrw.u32 q4, [r7], #16\n vadd.f32 q3, q3, q4\n"
      "le lr, 1b\n" RWKV_VECTOR_PAIRWISE
      "vldr s1, [r0, #20]\n"
      "vdiv.f32 s0, s0, s1\n"
      "vmov r4, s0\n"  // mean
      "vmov.i32 q0, #0\n vmov.i32 q1, #0\n vmov.i32 q2, #0\n vmov.i32 q3, #0\n"
      "mov r7, r1\n"
      "dls lr, r8\n"
      "2: vldrw.u32 q4, [r7], #16\n vsub.f32 q4, q4, r4\n vfma.f32 q0, q4, q4\n"
      "vldrw.u32 q4, [r7], #16\n vsub.f32 q4, q4, r4\n vfma.f32 q1, q4, q4\n"
      "vldrw.u32 q4, [r7], #16\n vsub.f32 q4, q4, r4\n vfma.f32 q2, q4, q4\n"
      "vldrw.u32 q4, [r7], #16\n vsub.f32 q4, q4, r4\n vfma.f32 q3, q4, q4\n"
      "le lr, 2b\n" RWKV_VECTOR_PAIRWISE
      "vldr s1, [r0, #20]\n"
      "vldr s2, [r0, #24]\n"
      "vdiv.f32 s0, s0, s1\n"
      "vadd.f32 s0, s0, s2\n"
      "vsqrt.f32 s0, s0\n"
      "vmov.f32 s1, #1.0\n"
      "vdiv.f32 s0, s1, s0\n"
      "vmov r7, s0\n"
      "lsrs r6, r6, #4\n"
      "dls lr, r6\n"
      "3: " RWKV_FOUR_NORMALISED RWKV_FOUR_NORMALISED RWKV_FOUR_NORMALISED RWKV_FOUR_NORMALISED
      "le lr, 3b\n"
      "vpop {d8-d13}\n"
      "pop {r4-r8, pc}\n");
}

/// y = x + (previous - x) mu
RWKV_ASSEMBLY void token_shift(const float* /*x*/, const float* /*previous*/, const float* /*mu*/,
                               float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("push {r4, lr}\n"
      "ldr r12, [sp, #8]\n"
      "lsr r12, r12, #3\n"
      "dls lr, r12\n"
      "1: vldrw.u32 q0, [r0], #16\n vldrw.u32 q1, [r1], #16\n vldrw.u32 q2, [r2], #16\n"
      "vsub.f32 q1, q1, q0\n vfma.f32 q0, q1, q2\n"
      "vstrw.32 q0, [r3], #16\n"
      "vldrw.u32 q0, [r0], #16\n vldrw.u32 q1, [r1], #16\n vldrw.u32 q2, [r2], #16\n"
      "vsub.f32 q1, q1, q0\n vfma.f32 q0, q1, q2\n"
      "vstrw.32 q0, [r3], #16\n"
      "le lr, 1b\n"
      "pop {r4, pc}\n");
}

/// y += x
RWKV_ASSEMBLY void add(const float* /*x*/, float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("push {r4, lr}\n"
      "lsr r2, r2, #3\n"
      "dls lr, r2\n"
      "1: vldrw.u32 q0, [r0], #16\n vldrw.u32 q1, [r1]\n"
      "vadd.f32 q0, q1, q0\n"
      "vstrw.32 q0, [r1], #16\n"
      "vldrw.u32 q0, [r0], #16\n vldrw.u32 q1, [r1]\n"
      "vadd.f32 q0, q1, q0\n"
      "vstrw.32 q0, [r1], #16\n"
      "le lr, 1b\n"
      "pop {r4, pc}\n");
}

/// y = (y + bonus v) g
RWKV_ASSEMBLY void add_bonus(const float* /*bonus*/, const float* /*v*/, const float* /*g*/,
                             float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("push {r4, lr}\n"
      "ldr r12, [sp, #8]\n"
      "ldr r0, [r0]\n"
      "lsr r12, r12, #2\n"
      "dls lr, r12\n"
      "1: vldrw.u32 q0, [r3]\n vldrw.u32 q1, [r1], #16\n vldrw.u32 q2, [r2], #16\n"
      "vfma.f32 q0, q1, r0\n vmul.f32 q0, q0, q2\n"
      "vstrw.32 q0, [r3], #16\n"
      "le lr, 1b\n"
      "pop {r4, pc}\n");
}

/// See the one of kernels/cortex_m.hpp.
RWKV_ASSEMBLY void keys(const KeyArguments*, std::uint32_t /*n*/) noexcept {
  asm("push {r4-r6, lr}\n"
      "ldm r0, {r2-r6}\n"
      "movs r0, #0x3f800000\n"
      "lsr r1, r1, #2\n"
      "dls lr, r1\n"
      "1: vldrw.u32 q0, [r2]\n vldrw.u32 q1, [r5], #16\n"
      "vldrw.u32 q2, [r3]\n vldrw.u32 q3, [r6], #16\n"
      "vmul.f32 q0, q0, q1\n"
      "vsub.f32 q1, q1, r0\n"
      "vfmas.f32 q1, q3, r0\n"
      "vmul.f32 q2, q2, q1\n"
      "vldrw.u32 q1, [r2]\n"
      "vneg.f32 q1, q1\n"
      "vstrw.32 q0, [r2], #16\n"
      "vstrw.32 q2, [r3], #16\n"
      "vstrw.32 q1, [r4], #16\n"
      "le lr, 1b\n"
      "pop {r4-r6, pc}\n");
}

/// y = x z
RWKV_ASSEMBLY void multiply(const float* /*x*/, const float* /*z*/, float* /*y*/,
                            std::uint32_t /*n*/) noexcept {
  asm("push {r4, lr}\n"
      "lsr r3, r3, #2\n"
      "dls lr, r3\n"
      "1: vldrw.u32 q0, [r0], #16\n vldrw.u32 q1, [r1], #16\n"
      "vmul.f32 q0, q0, q1\n"
      "vstrw.32 q0, [r2], #16\n"
      "le lr, 1b\n"
      "pop {r4, pc}\n");
}

/// y = max(0, y)^2
RWKV_ASSEMBLY void relu_squared(float* /*y*/, std::uint32_t /*n*/) noexcept {
  asm("push {r4, lr}\n"
      "lsr r1, r1, #2\n"
      "dls lr, r1\n"
      "1: vldrw.u32 q0, [r0]\n"
      "vmul.f32 q1, q0, q0\n"
      "vpt.f32 lt, q0, zr\n vmovt.i32 q1, #0\n"
      "vstrw.32 q1, [r0], #16\n"
      "le lr, 1b\n"
      "pop {r4, pc}\n");
}

// -- exp (kernels/math.hpp) of four numbers in q0, none of which has to be clamped

inline constexpr std::uint32_t exp_constants[] = {
    std::bit_cast<std::uint32_t>(87.33f),           // r3
    std::bit_cast<std::uint32_t>(0x1.715476p0f),    // r4
    std::bit_cast<std::uint32_t>(0x1.8p23f),        // r5, q5
    std::bit_cast<std::uint32_t>(0x1.8p23f + 127),  // r6
    std::bit_cast<std::uint32_t>(-0x1.62e4p-1f),    // r7
    std::bit_cast<std::uint32_t>(-0x1.7f7d1cp-20f),
    std::bit_cast<std::uint32_t>(0x1.5558f2p-5f),
    std::bit_cast<std::uint32_t>(0x1.555492p-3f),
    std::bit_cast<std::uint32_t>(0x1.fffffcp-2f),  // r11
    std::bit_cast<std::uint32_t>(1.0f),
    std::bit_cast<std::uint32_t>(0x1.123a2p-7f),  // q6
    std::bit_cast<std::uint32_t>(0x1.6a23cep-10f),
    std::bit_cast<std::uint32_t>(-0.60653066f),
};

#define RWKV_LOAD_EXP_CONSTANTS       \
  "ldrd r5, r6, [r4, #40]\n"          \
  "vdup.32 q6, r5\n vdup.32 q7, r6\n" \
  "movs r5, #127\n vdup.32 q4, r5\n"  \
  "ldm r4, {r3-r12}\n"                \
  "vdup.32 q5, r5\n"
#define RWKV_EXP                                                           \
  "vmov q1, q5\n vfma.f32 q1, q0, r4\n vadd.i32 q1, q1, q4\n"              \
  "vsub.f32 q2, q1, r6\n vfma.f32 q0, q2, r7\n vfma.f32 q0, q2, r8\n"      \
  "vmov q3, q6\n vfma.f32 q3, q0, q7\n"                                    \
  "vfmas.f32 q3, q0, r9\n vfmas.f32 q3, q0, r10\n vfmas.f32 q3, q0, r11\n" \
  "vmul.f32 q2, q0, q0\n vfma.f32 q0, q2, q3\n vadd.f32 q0, q0, r12\n"     \
  "vshl.i32 q1, q1, #23\n vmul.f32 q0, q0, q1\n"
// Of the sum of two numbers; ends the loop if it is too far from zero.
#define RWKV_SIGMOID                                      \
  "vldrw.u32 q0, [r0], #16\n vldrw.u32 q1, [r1], #16\n"   \
  "vadd.f32 q0, q0, q1\n vneg.f32 q0, q0\n"               \
  "vabs.f32 q1, q0\n vcmp.f32 gt, q1, r3\n vmrs r5, p0\n" \
  "cmp r5, #0\n bne.w 9f\n" RWKV_EXP                      \
  "vadd.f32 q0, q0, r12\n vmov.f32 s8, #1.0\n"            \
  "vdiv.f32 s0, s8, s0\n vdiv.f32 s1, s8, s1\n"           \
  "vdiv.f32 s2, s8, s2\n vdiv.f32 s3, s8, s3\n"

struct SigmoidArguments {
  const float *a, *b;
  float* y;
  std::uint32_t n;
  const std::uint32_t* constants = exp_constants;
};

/// y = sigmoid(a + b), until four numbers are too large; how many are left.
RWKV_ASSEMBLY std::uint32_t sigmoids(const SigmoidArguments*) noexcept {
  asm("push {r4-r12, lr}\n"
      "vpush {d8-d15}\n"
      "ldm r0, {r0-r4}\n"
      "lsr r3, r3, #2\n"
      "dls lr, r3\n" RWKV_LOAD_EXP_CONSTANTS "1: " RWKV_SIGMOID
      "vstrw.32 q0, [r2], #16\n"
      "le lr, 1b\n"
      "mov lr, #0\n"
      "9: lsl r0, lr, #2\n"
      "vpop {d8-d15}\n"
      "pop {r4-r12, pc}\n");
}

/// y = exp(-exp(-1/2) sigmoid(a + b)) in the same way.
RWKV_ASSEMBLY std::uint32_t decays(const SigmoidArguments*) noexcept {
  asm("push {r4-r12, lr}\n"
      "vpush {d8-d15}\n"
      "ldm r0, {r0-r4}\n"
      "lsr r3, r3, #2\n"
      "dls lr, r3\n"
      "ldr r5, [r4, #48]\n"
      "push {r5}\n" RWKV_LOAD_EXP_CONSTANTS "1: " RWKV_SIGMOID
      "ldr r5, [sp]\n"
      "vmul.f32 q0, q0, r5\n" RWKV_EXP
      "vstrw.32 q0, [r2], #16\n"
      "le lr, 1b\n"
      "mov lr, #0\n"
      "9: lsl r0, lr, #2\n"
      "pop {r5}\n"
      "vpop {d8-d15}\n"
      "pop {r4-r12, pc}\n");
}

/// Runs such a kernel over n numbers, a multiple of 4; four that are too large for it are
/// each(a + b).
template <class Each>
inline void each_or_scalar(std::uint32_t (*kernel)(const SigmoidArguments*) noexcept,
                           const float* a, const float* b, float* y, std::size_t n,
                           Each each) noexcept {
  for (std::size_t done = 0; done < n;) {
    const SigmoidArguments arguments{a + done, b + done, y + done, n - done};
    done = n - kernel(&arguments);
    for (std::size_t end = done + 4; done < n && done < end; ++done)
      y[done] = each(simd::Scalar{a[done]} + simd::Scalar{b[done]}).v;
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::cortex_m
#endif
