// SPDX-License-Identifier: Apache-2.0
// What runs before main on a 32-bit RISC-V. No constructors: there is no code that runs before main.
#include "board.hpp"
#include "semihosting.hpp"

extern "C" {

// From the linker script.
extern std::uint32_t __stack_top[], __bss_end[];
extern const std::uint32_t __data_load[];
extern std::uint32_t __data_start[], __data_end[], __bss_start[];

int main();

constexpr std::uint32_t paint = 0xa5a5a5a5u;

[[noreturn, gnu::used]] void start() {
  const std::uint32_t* load = __data_load;
  for (std::uint32_t* word = __data_start; word != __data_end; ++word) *word = *load++;
  for (std::uint32_t* word = __bss_start; word != __bss_end; ++word) *word = 0;
  std::uint32_t* sp;
  asm volatile("mv %0, sp" : "=r"(sp));
  for (std::uint32_t* word = __bss_end; word < sp; ++word) *word = paint;
  semihosting::exit(main());
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

std::size_t board::stack_used() {
  const std::uint32_t* word = __bss_end;
  while (word != __stack_top && *word == paint) ++word;
  return static_cast<std::size_t>(__stack_top - word) * sizeof *word;
}

/// Instructions.
std::uint32_t board::clock() {
  std::uint32_t count;
  asm volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop" : "=r"(count));
  return count;
}
