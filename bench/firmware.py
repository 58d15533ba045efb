#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs of examples/firmware on emulated microcontrollers: instructions, flash, RAM, stack.

firmware.py --models DIRECTORY [--check] [--cores m4f,...] [--programs tale,...]

DIRECTORY is what rwkv_make_firmware_models (tests/bare_metal) writes. Every program must answer as it
does on this computer. With --check, more than LIMITS is an error. Cores whose compiler or emulator is
missing are left out, and named. Counts are instructions (QEMU's -icount), not cycles.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / "examples" / "firmware" / "build.sh"
# Instructions per tick of the clock, at one instruction per nanosecond.
TICKS = {"m0plus": 40, "m3": 40, "microbit": 62.5, "m4f": 40, "stm32f405": 1000 / 168, "m7": 40, "m33": 50,
         "m55": 31.25, "rv32imc": 1, "rv32imafc": 1}
PROGRAMS = {
    "tale": ("tales_q8_0", "#20\nThe king \n?\n\n"),
    "tale-compact": ("tales_q8_0", "#20\nThe king \n?\n\n"),
    "tale-greedy": ("tales_q8_0", "#20\nThe king \n?\n\n"),
    "tale-fixed": ("tales_q8_0", "#20\nThe king \n?\n\n"),
    "tale-1m": ("fables_q8_0", "#20\nThe king \n?\n\n"),
    "reverse": ("reverse_q8_0", "12345\n90817263\n?\n\n"),
    "reverse-small": ("reverse_q8_0", "12345\n90817263\n?\n\n"),
    "reverse-fixed": ("reverse_q8_0", "12345\n90817263\n?\n\n"),
    "match": ("date_f32", "2024-02-29\n2023-02-29\nhello\n2024-12-31\n?\n\n"),
}
UART = [("m4f", "match"), ("rv32imc", "match")]  # over a serial line
STACK = 4096  # rwkv::static_stack
SMALL = ["-Os", "-DRWKV_PREFER_SIZE", "-DRWKV_ONLY_QUADS"]
FLAGS = {"tale-compact": ["-DTALE_COMPACT"], "tale-greedy": ["-DTALE_GREEDY"],
         "tale-fixed": ["-DTALE_FIXED", "-DTALE_GREEDY"],
         "reverse-small": SMALL, "reverse-fixed": [*SMALL, "-DREVERSE_FIXED"]}
NO_FPU = ("m0plus", "m3", "microbit", "rv32imc")
RUNS = [(core, program) for program in PROGRAMS for core in TICKS
        if core not in ("microbit", "stm32f405")
        and program != "tale-1m"
        and (core in NO_FPU or not program.endswith("-fixed"))
        and (core not in ("m3", "m55") or not program.endswith("-small"))
        and (core != "m3" or program.endswith("-fixed"))]
RUNS += [("microbit", "reverse-fixed"), ("stm32f405", "match"), ("stm32f405", "tale-1m")]
# What has to fit 64 KB of flash, weights included.
IN_64K = [("m4f", "reverse-small"), ("m0plus", "reverse-fixed"), ("microbit", "reverse-fixed")]
FUSED = "fma" in pathlib.Path("/proc/cpuinfo").read_text().split()
# Floats without an FPU: shorter texts.
SHORT = {"tale": "#4\nThe\n?\n\n", "tale-compact": "#4\nThe\n?\n\n",
         "tale-greedy": "#4\nThe\n?\n\n", "match": "24\n?\n\n"}
# What the tests run: each core, and each program on each kind of core.
CHECKED = [(core, program) for core, program in RUNS
           if program in ("tale", "tale-1m") or core == "m4f" or
           (program == "tale-greedy" and core in ("m55", "rv32imafc")) or
           (program in ("match", "reverse-fixed") and core in ("m0plus", "rv32imc")) or
           (program == "tale-fixed" and core in ("m0plus", "m3", "rv32imc")) or
           (core, program) == ("microbit", "reverse-fixed")]
# (core, program): thousands of instructions per token, bytes of flash without weights, and of RAM.
LIMITS = {
    ("microbit", "reverse-fixed"): (860, 20500, 6800),
    ("m0plus", "tale"): (97100, 57300, 116600),
    ("m4f", "tale"): (2250, 41400, 116800),
    ("m7", "tale"): (2190, 40100, 116800),
    ("m33", "tale"): (2250, 41400, 116800),
    ("m55", "tale"): (610, 44400, 116800),
    ("rv32imc", "tale"): (49790, 67800, 116600),
    ("rv32imafc", "tale"): (8200, 55100, 116600),
    # 1.5, 0.4 and 6 instructions per multiply-add, and what another compiler may add
    ("m4f", "tale-greedy"): (2085, 28500, 116000),
    ("m55", "tale-greedy"): (559, 32000, 116000),
    ("rv32imafc", "tale-greedy"): (8282, 34500, 116000),
    ("m4f", "tale-compact"): (2880, 41500, 82000),
    ("m0plus", "tale-fixed"): (15100, 32000, 71100),
    ("m3", "tale-fixed"): (8700, 31400, 71100),
    ("rv32imc", "tale-fixed"): (8282, 39500, 71100),  # 6 per multiply-add
    # with its weights in 1 MB, or it would not link
    ("stm32f405", "tale-1m"): (1420, 41500, 99500),
    ("m4f", "reverse"): (88, 36100, 7800),
    ("m4f", "reverse-small"): (143, 20100, 7800),
    ("m0plus", "reverse-fixed"): (840, 20100, 6500),
    ("rv32imc", "reverse-fixed"): (540, 22500, 6500),
    ("m0plus", "match"): (6220, 35300, 21900),
    ("m4f", "match"): (90, 28000, 22000),
    ("rv32imc", "match"): (3780, 41200, 21900),
}


def run(command, **more):
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **more)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}:\n"
                 f"{done.stdout}")
    return done.stdout


def multiply_adds(header):
    """Of one token: matrices alone."""
    numbers = re.search(r"rwkv::Shape<([^>]*)>", header.read_text()).group(1)
    layers, embed, _, ffn, vocab, w, a, v, g, *deep = (int(n) for n in numbers.split(","))
    block = 4 * embed * embed + 2 * embed * ffn + 2 * embed * (w + a + v + g)
    block += sum(r * (embed + r + ffn) for r in deep)
    return layers * block - 2 * embed * v + vocab * embed


def sections(elf):
    tool = "arm-none-eabi-size" if elf.suffix != ".rv" else "riscv64-unknown-elf-size"
    return {name: int(size) for name, size in
            re.findall(r"^(\.\S+)\s+(\d+)", run([tool, "-A", elf]), re.M)}


def measure(core, program, models, work):
    model, text = texts(core, program)
    model = models / (model + ("_panels" if core == "m55" and "q8_0" in model else ""))
    elf = work / f"{program}-{core}{'.rv' if core.startswith('rv') else '.elf'}"
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
    flags += FLAGS.get(program, [])
    serial = (core, program) in UART
    run([BUILD, core, program.split("-")[0], model, elf, *flags],
        env={**os.environ, "RWKV_BOARD": "uart" if serial else "semihosting"})
    emulator = run([BUILD, core, "emulator"]).split()
    out = run([*emulator, "-serial", "stdio" if serial else "none", "-semihosting-config",
               "enable=on,target=native", "-kernel", elf], input=text, timeout=300)
    ticks, tokens, stack = map(int, re.search(
        r"clock (\d+) for (\d+) tokens, stack (\d+)", out).groups())
    size = sections(elf)
    data = size.get(".data", 0)
    per_token = ticks * TICKS[core] / tokens
    header = next(model.glob("*.hpp"))
    return out, {
        "instructions": per_token,
        "per multiply-add": per_token / multiply_adds(header),
        "flash": size[".vectors"] + size[".weights"] + size[".text"] + data,
        "weights": size[".weights"],
        "RAM": data + size.get(".bss", 0),
        "stack": stack,
    }


def answers(out, program):
    """What was said; of the report only the state's checksum, if this computer has a fused
    multiply-add, as the cores have or stand in for, or the program computes in integers."""
    lines = [re.sub("^clock .*, state ", "state ", line) for line in out.splitlines()]
    if len(lines) < 2 or not lines[0]:
        sys.exit(f"error: a program said nothing but\n{out}")
    return lines if FUSED or program.endswith("-fixed") else lines[:-1]


def texts(core, program):
    model, text = PROGRAMS[program]
    return model, SHORT.get(program, text) if core in NO_FPU else text


def build_on_host(program, models, work):
    elf = work / f"{program}-host"
    run([BUILD, "host", program.split("-")[0], models / PROGRAMS[program][0], elf, "-O1",
         *(["-mfma"] if FUSED else []), *FLAGS.get(program, [])])
    return elf


def main():
    options = argparse.ArgumentParser(description=__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", required=True, type=pathlib.Path)
    options.add_argument("--check", action="store_true",
                         help="run fewer, and hold the results against LIMITS")
    options.add_argument("--cores", type=lambda s: s.split(","), default=list(TICKS))
    options.add_argument("--programs", type=lambda s: s.split(","), default=list(PROGRAMS))
    options.add_argument("--jobs", type=int, default=os.cpu_count())
    options = options.parse_args()

    tools = {"arm": ("arm-none-eabi-g++", "qemu-system-arm"),
             "riscv": ("riscv64-unknown-elf-g++", "qemu-system-riscv32")}
    missing = {kind: [t for t in needed if shutil.which(t) is None]
               for kind, needed in tools.items()}
    for kind, names in missing.items():
        if names:
            print(f"left out: {kind}, for want of {' and '.join(names)}")
    runs = [(core, program) for core, program in (CHECKED if options.check else RUNS)
            if core in options.cores and program in options.programs
            and not missing["riscv" if core.startswith("rv") else "arm"]]
    if not runs:
        print("skipped: nothing to run")
        return
    environment = shutil.which("ccache")
    if environment:
        os.environ.setdefault("RWKV_COMPILER_LAUNCHER", environment)

    wrong = []
    with tempfile.TemporaryDirectory() as work, \
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        work = pathlib.Path(work)
        host = {program: pool.submit(build_on_host, program, options.models, work)
                for program in {r[1] for r in runs}}
        jobs = {r: pool.submit(measure, *r, options.models, work) for r in runs}
        print("| program | core | instructions per token | per multiply-add | flash, of it weights "
              "| RAM | stack |\n|---|---|---|---|---|---|---|")
        for (core, program), job in jobs.items():
            out, result = job.result()
            want = run([host[program].result()], input=texts(core, program)[1])
            if answers(out, program) != answers(want, program):
                wrong.append(f"{program} on {core} says\n{out}instead of\n{want}")
            print(f"| {program} | {core} | {result['instructions'] / 1000:,.1f} k | "
                  f"{result['per multiply-add']:.2f} | {result['flash'] / 1024:.1f} KB, "
                  f"{result['weights'] / 1024:.1f} KB | {result['RAM'] / 1024:.1f} KB | "
                  f"{result['stack']} |", flush=True)
            if not options.check:
                continue
            if (core, program) in IN_64K and result["flash"] > 65536:
                wrong.append(f"{program} on {core}: {result['flash']} bytes of flash")
            limits = LIMITS.get((core, program))
            if limits is None:
                wrong.append(f"{program} on {core} has no limits")
                continue
            found = (result["instructions"] / 1000, result["flash"] - result["weights"],
                     result["RAM"], result["stack"])
            names = ("thousands of instructions per token", "bytes of flash beside weights",
                     "bytes of RAM", "bytes of stack")
            for name, number, limit in zip(names, found, (*limits, STACK)):
                if number > limit:
                    wrong.append(f"{program} on {core}: {number:.0f} {name}, more than {limit}")
    if wrong:
        sys.exit("error: " + "\n".join(wrong))


if __name__ == "__main__":
    main()
