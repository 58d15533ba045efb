// SPDX-License-Identifier: Apache-2.0
// What runs before main on a Cortex-M. No constructors: there is no code that runs before main.
#include "startup.hpp"

extern "C" {

[[noreturn]] void Reset_Handler() {
#if defined(__ARM_FP)
  auto* const coprocessor_access = reinterpret_cast<volatile std::uint32_t*>(0xE000ED88);
  *coprocessor_access = *coprocessor_access | 0xFU << 20;  // enable the FPU
  asm volatile("dsb\n isb" ::: "memory");
#endif
  std::uint32_t* sp;
  asm volatile("mov %0, sp" : "=r"(sp));
  startup::run_main(sp);
}

[[noreturn]] void Fault_Handler() { semihosting::exit(99); }

// The processor reads its first stack pointer and its handlers from here.
struct VectorTable {
  std::uint32_t* stack_top;
  void (*handlers[15])();
};
[[gnu::section(".vectors"), gnu::used]] const VectorTable vectors = {
    __stack_top,
    {Reset_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
     nullptr, nullptr, nullptr, nullptr, Fault_Handler, Fault_Handler, nullptr, Fault_Handler,
     Fault_Handler}};

}  // extern "C"

/// SysTick, which counts 24 bits down.
std::uint32_t board::clock() {
  const auto at = [](std::uintptr_t address) -> volatile std::uint32_t& {
    return *reinterpret_cast<volatile std::uint32_t*>(address);
  };
  constinit static std::uint32_t last = 0, sum = 0;
  if ((at(0xE000E010) & 1) == 0) {
    at(0xE000E014) = 0xFFFFFF;
    at(0xE000E018) = 0;
    at(0xE000E010) = 5;  // on, with the processor's clock
  }
  const std::uint32_t now = at(0xE000E018);
  sum += (last - now) & 0xFFFFFF;
  last = now;
  return sum;
}
