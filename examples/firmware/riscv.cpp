// SPDX-License-Identifier: Apache-2.0
// What runs before main on a 32-bit RISC-V. No constructors: there is no code that runs before main.
#include "startup.hpp"

extern "C" {

[[noreturn, gnu::used]] void start() {
  std::uint32_t* sp;
  asm volatile("mv %0, sp" : "=r"(sp));
  startup::run_main(sp);
}

[[noreturn, gnu::used, gnu::aligned(4)]] void trap() { semihosting::exit(99); }

}  // extern "C"

asm(R"(
.pushsection .init, "ax"
.global _start
_start:
.option arch, +zicsr
  la sp, __stack_top
  la t0, trap
  csrw mtvec, t0
  li t0, 0x6000   # the FPU, where there is one
  csrs mstatus, t0
  call start
.popsection
.pushsection .text.semihosting, "ax"
.option push
.option norvc
.balign 16
.global rwkv_semihosting
rwkv_semihosting:
  slli zero, zero, 0x1f
  ebreak
  srai zero, zero, 7
  ret
.option pop
.popsection
)");

/// Instructions.
std::uint32_t board::clock() {
  std::uint32_t count;
  asm volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop" : "=r"(count));
  return count;
}
