#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What one #include costs: user seconds, peak memory and object size of the examples in every mode,
beside a file that includes nlohmann/json and Eigen/Dense and uses both, compiled in the same run.

  bench/compile_time.py [--compiler g++] [--example hello]... [--mode MODE]... [--repeat 3] [--json]
  bench/compile_time.py --check        only what the table of bounds names; exit status 1 if one is
                                       exceeded (minima of the runs, which neighbours disturb least;
                                       what seems to exceed one is measured once more), or if hello
                                       without the library does not say what it should
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
REFERENCE = """
#include <Eigen/Dense>
#include <nlohmann/json.hpp>
#include <iostream>
int main(int, char** argv) {
  const auto j = nlohmann::json::parse(argv[1]);
  Eigen::MatrixXd a(j["n"].get<int>(), 3);
  a.setRandom();
  const Eigen::MatrixXd b = a.transpose() * a;
  std::cout << b.ldlt().solve(Eigen::VectorXd::Ones(3)) << j.dump();
}
"""
REVERSE = ROOT / "examples" / "models" / "reverse" / "reverse.safetensors"
INCLUDE = "#include <rwkv/model.hpp>\nint main() {}\n"
MODES = {  # flags
    "header-only": ["-O2"],
    "header-only, native": ["-O2", "-march=native"],
    "header-only, -O0 -g": ["-O0", "-g"],
    "compiled": ["-O2", "-DRWKV_COMPILED"],
    "compiled, -O0 -g": ["-O0", "-g", "-DRWKV_COMPILED"],
    "compiled, sanitizers": ["-O1", "-g", "-fsanitize=address,undefined", "-DRWKV_COMPILED"],
}
# (what, mode): largest user seconds as a multiple of the reference file, largest memory in MB
BOUNDS = {
    ("hello", "header-only"): (4.7, 1150),
    ("hello", "header-only, native"): (3.6, 1100),
    ("hello", "compiled"): (0.5, 300),
    ("#include <rwkv/model.hpp>", "compiled"): (0.3, 300),
}


def best_of(results):
    return {key: tuple(min(column) for column in zip(*runs)) for key, runs in results.items()}


def exceeded(best):
    """What takes more than its bound."""
    reference = best["reference"][0]
    return [key for key, (times, mb) in BOUNDS.items()
            if key in best and (best[key][0] > times * reference or best[key][1] > mb)]


def eigen_flags():
    """Where Eigen is, if it is not in the compiler's own folders."""
    for folder in ("/usr/include/eigen3", "/usr/local/include/eigen3"):
        if pathlib.Path(folder).is_dir():
            return ["-isystem", folder]
    return []


class Compiler:
    def __init__(self, name, folder):
        self.name, self.folder = name, folder

    def object(self, source):
        return self.folder / f"{source.stem}.o"

    def run(self, source, *arguments):
        """What the program of the last object made of this source says."""
        program = self.folder / source.stem
        subprocess.run([self.name, str(self.object(source)), "-o", str(program), "-pthread"], check=True)
        return subprocess.run([str(program), *map(str, arguments)], check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def measure(self, source, flags):
        """User seconds, peak MB and object KB of one compilation."""
        out = self.object(source)
        log = self.folder / "time"
        command = [self.name, "-std=c++20", f"-I{ROOT}/include", *eigen_flags(), *flags, "-c",
                   str(source), "-o", str(out)]
        with open(log, "w", encoding="utf-8") as errors:
            process = subprocess.Popen(command, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)  # of the compiler and what it started
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{log.read_text(encoding='utf-8')}")
        return usage.ru_utime, usage.ru_maxrss / 1024, out.stat().st_size / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--example", action="append", help="default: hello, batch, train_tiny")
    parser.add_argument("--mode", action="append", choices=MODES, help="default: all")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if shutil.which(arguments.compiler) is None:
        sys.exit(f"there is no compiler {arguments.compiler}")

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        compiler = Compiler(arguments.compiler, folder)
        reference = folder / "reference.cpp"
        reference.write_text(REFERENCE, encoding="utf-8")
        include = folder / "include.cpp"
        include.write_text(INCLUDE, encoding="utf-8")
        sources = {"#include <rwkv/model.hpp>": include}
        for example in arguments.example or ["hello", "batch", "train_tiny"]:
            sources[example] = ROOT / "examples" / f"{example}.cpp"
            if not sources[example].exists():
                sys.exit(f"there is no example {example}")
        if arguments.check:
            jobs = [(s, m) for s, m in BOUNDS if m in (arguments.mode or MODES)]
        else:
            jobs = [(s, m) for s in sources for m in arguments.mode or MODES]
        results = {}
        rounds = 0
        while rounds < arguments.repeat or (arguments.check and rounds == arguments.repeat
                                            and exceeded(best_of(results))):
            rounds += 1  # in turns, so that all meet the same neighbours
            results.setdefault("reference", []).append(compiler.measure(reference, ["-O2"]))
            for source, mode in jobs:
                results.setdefault((source, mode), []).append(
                    compiler.measure(sources[source], MODES[mode]))
                if arguments.check and (source, mode) == ("hello", "header-only"):
                    said = compiler.run(sources[source], REVERSE, "90817263=")
                    if said.strip() != "90817263=36271809":
                        sys.exit(f"hello, header-only, said {said!r}")

    best = best_of(results)
    reference_seconds, reference_mb, reference_kb = best["reference"]
    rows = [("nlohmann/json + Eigen/Dense", "-O2", reference_seconds, 1.0, reference_mb,
             reference_kb)]
    rows += [(source, mode, best[source, mode][0], best[source, mode][0] / reference_seconds,
              *best[source, mode][1:]) for source, mode in jobs]
    if arguments.json:
        print(json.dumps([dict(zip(("file", "mode", "user_seconds", "times_reference", "peak_mb",
                                    "object_kb"), row)) for row in rows], indent=1))
    else:
        print("| file | mode | user s | x reference | peak MB | object KB |\n|---|---|---|---|---|---|")
        for file, mode, seconds, times, mb, kb in rows:
            print(f"| {file} | {mode} | {seconds:.2f} | {times:.2f} | {mb:.0f} | {kb:.0f} |")
    if not arguments.check:
        return 0
    too_much = exceeded(best)
    for key in too_much:
        times, mb = BOUNDS[key]
        seconds, peak, _ = best[key]
        print(f"exceeded: {key[0]}, {key[1]}: {seconds / reference_seconds:.2f} times the "
              f"reference (bound {times}), {peak:.0f} MB (bound {mb})")
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
