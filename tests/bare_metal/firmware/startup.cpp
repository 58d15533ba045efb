// SPDX-License-Identifier: Apache-2.0
// What runs before main on a Cortex-M, and the few functions that a compiler may call on its own.
// Together with libgcc this is the whole run-time library: there is no malloc to link to.
#include "board.hpp"
#include "semihosting.hpp"

#include <cstddef>
#include <cstdint>

void board::print(const char* text) { semihosting::print(text); }

extern "C" {

// From the linker script.
extern std::uint32_t __stack_top[];
extern const std::uint32_t __data_load[];
extern std::uint32_t __data_start[], __data_end[], __bss_start[], __bss_end[];
using Initializer = void (*)();
extern const Initializer __init_array_start[], __init_array_end[];

int main();

[[noreturn]] void Reset_Handler() {
  auto* const coprocessor_access = reinterpret_cast<volatile std::uint32_t*>(0xE000ED88);
  *coprocessor_access = *coprocessor_access | 0xFU << 20;  // enable the FPU
  asm volatile("dsb\n isb" ::: "memory");

  const std::uint32_t* load = __data_load;
  for (std::uint32_t* word = __data_start; word != __data_end; ++word) *word = *load++;
  for (std::uint32_t* word = __bss_start; word != __bss_end; ++word) *word = 0;
  for (const Initializer* f = __init_array_start; f != __init_array_end; ++f) (*f)();
  semihosting::exit(main());
}

[[noreturn]] void Fault_Handler() {
  semihosting::print("fault\n");
  semihosting::exit(99);
}

// Without the attribute the compiler would turn each loop into a call of the function itself.
#define RWKV_PLAIN_LOOP [[gnu::used, gnu::optimize("no-tree-loop-distribute-patterns")]]

using Word [[gnu::may_alias]] = std::uint32_t;
struct [[gnu::may_alias]] FourWords {
  std::uint32_t words[4];
};

RWKV_PLAIN_LOOP void* memcpy(void* to, const void* from, std::size_t n) {
  auto* out = static_cast<char*>(to);
  auto* in = static_cast<const char*>(from);
  if ((reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 4 == 0)
    for (; n >= 16; n -= 16, out += 16, in += 16)
      *reinterpret_cast<FourWords*>(out) = *reinterpret_cast<const FourWords*>(in);
  for (; n > 0; --n) *out++ = *in++;
  return to;
}

RWKV_PLAIN_LOOP void* memmove(void* to, const void* from, std::size_t n) {
  if (to <= from) return memcpy(to, from, n);
  for (std::size_t i = n; i-- > 0;) static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
  return to;
}

RWKV_PLAIN_LOOP void* memset(void* to, int value, std::size_t n) {
  auto* out = static_cast<char*>(to);
  const Word word = static_cast<unsigned char>(value) * 0x01010101u;
  if (reinterpret_cast<std::uintptr_t>(to) % 4 == 0)
    for (; n >= 16; n -= 16, out += 16)
      *reinterpret_cast<FourWords*>(out) = {{word, word, word, word}};
  for (; n > 0; --n) *out++ = static_cast<char>(value);
  return to;
}

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
