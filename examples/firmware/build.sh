#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds one of the programs here for a microcontroller, or says how to run it under emulation:
#
#   build.sh CORE PROGRAM MODEL OUT [FLAG]...   CORE: m0plus m3 m4f stm32f405 m7 m33 m55 rv32imc rv32imafc
#   build.sh CORE emulator                      host: this computer
#
# PROGRAM: tale, reverse or match; MODEL: the folder with what `rwkv export` wrote for it. No C library
# is linked, only libgcc. RWKV_BOARD=uart talks over a serial line instead of semihosting.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
core=$1 program=$2
arm=(arm-none-eabi-g++ -mthumb)
riscv=(riscv64-unknown-elf-g++)
machine=(qemu-system-arm -M)
flash=0x00000000 flash_size=4M ram=0x20000000 ram_size=512K weights=FLASH more=""
case $core in
  m0plus) cpu=("${arm[@]}" -mcpu=cortex-m0plus -mfloat-abi=soft) board=mps2-an385 ;;  # an M3 runs it too
  m3) cpu=("${arm[@]}" -mcpu=cortex-m3 -mfloat-abi=soft) board=mps2-an385 ;;
  microbit) cpu=("${arm[@]}" -mcpu=cortex-m0 -mfloat-abi=soft) board=microbit flash_size=256K ram_size=16K ;;
  m4f) cpu=("${arm[@]}" -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16) board=mps2-an386 ;;
  stm32f405)
    cpu=("${arm[@]}" -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16) board=netduinoplus2
    flash_size=1M ram_size=192K
    ;;
  m7) cpu=("${arm[@]}" -mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-d16) board=mps2-an500 ;;
  m33)
    cpu=("${arm[@]}" -mcpu=cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16) board=mps2-an505
    flash=0x10000000 ram=0x38000000
    ;;
  m55)
    cpu=("${arm[@]}" -mcpu=cortex-m55 -mfloat-abi=hard) board=mps3-an547 flash_size=512K
    weights=QSPI more="QSPI (r) : ORIGIN = 0x28000000, LENGTH = 8M"
    ;;
  rv32imc | rv32imafc)
    cpu=("${riscv[@]}" -march=rv32imc -mabi=ilp32)
    [ "$core" = rv32imc ] || cpu=("${riscv[@]}" -march=rv32imafc -mabi=ilp32f)
    flash=0x80000000 ram=0x80400000 board=virt machine=(qemu-system-riscv32 -bios none -M)
    # Debian has no C++ headers for it; those for ARM say the same to 32 bits without an OS.
    headers=$(echo /usr/lib/arm-none-eabi/include/c++/*)
    [ -d "$headers" ] || headers=$(echo /usr/include/newlib/c++/*)
    cpu+=(-nostdinc++ -isystem "$headers" -isystem "$headers/arm-none-eabi/thumb/v7-m/nofp"
      -isystem /usr/lib/picolibc/riscv64-unknown-elf/include -mcmodel=medany)
    ;;
  host) ;;
  *) echo "error: no core \"$core\"" >&2 && exit 2 ;;
esac
if [ "$program" = emulator ]; then
  [ "$core" = host ] && exit 0
  echo "${machine[@]}" "$board" -display none -monitor none -icount shift=0
  exit 0
fi

model=$3 out=$4
shift 4
common=(-std=c++20 -O2 -fno-exceptions -fno-rtti -I "$here/../../include" -I "$model" "-Wa,-I$model")
if [ "$core" = host ]; then
  exec ${RWKV_COMPILER_LAUNCHER-} c++ "${common[@]}" "$@" "$here"/{"$program",host,weights}.cpp -o "$out"
fi

start=cortex_m
[ "${cpu[0]}" = "${arm[0]}" ] || start=riscv
cat >"$out.ld" <<EOF
MEMORY {
  FLASH (rx) : ORIGIN = $flash, LENGTH = $flash_size
  RAM (rw) : ORIGIN = $ram, LENGTH = $ram_size
  $more
}
REGION_ALIAS("WEIGHTS", $weights)
__stack_size = 4K;
INCLUDE $here/firmware.ld
EOF
objects=()
for source in $program "${RWKV_BOARD:-semihosting}" $start runtime weights; do
  ${RWKV_COMPILER_LAUNCHER-} "${cpu[@]}" "${common[@]}" -ffreestanding -fno-threadsafe-statics \
    -fno-math-errno -fno-pic -fno-stack-protector -ffunction-sections -fdata-sections \
    "$@" -c "$here/$source.cpp" -o "$out.$source.o"
  objects+=("$out.$source.o")
done
"${cpu[@]}" "${objects[@]}" -nostdlib -nostartfiles -static -Wl,--gc-sections -Wl,--build-id=none \
  -Wl,--fatal-warnings "-T$out.ld" -lgcc -o "$out"
