#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every header of the library compiles when it is the first that a file includes.

  tests/headers_alone.py [--jobs N] COMPILER [OPTION]...

Parsing headers one by one is parsing the standard library as often. A header that comes second in a
file is as good as alone if everything before it is what it includes itself (and before it needs it:
includes are at the top). So headers are put into as few files as possible, each of which includes ever
larger ones, every one of them with all that the one before it brings: <rwkv/core/config.hpp>,
<rwkv/core/half.hpp>, <rwkv/quant/rows.hpp> and so on. By the same token several files may begin with one
precompiled header.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

INCLUDE = pathlib.Path(__file__).resolve().parent.parent / "include"


def included(headers, compile):
    """For every header, what it includes where these options are given."""
    found = {}
    text = compile(headers, "-E", "-dI").stdout
    name = None
    for line in text.splitlines():
        if marker := re.match(r'# \d+ "([^"]+)"', line):
            path = pathlib.Path(marker[1])
            name = str(path.relative_to(INCLUDE)) if path.is_relative_to(INCLUDE) else None
        elif name and (directive := re.match(r"#include <([^>]+)>", line)):
            found.setdefault(name, set()).add(directive[1])
    return found


def closure(direct, name):
    """All that is included when a header is, and itself."""
    found, ahead = {name}, [name]
    while ahead:
        new = direct.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def chains(headers, before):
    """Splits headers into as few chains as possible of which before[a] names what may follow a."""
    follower, leader = {}, {}

    def place(a, tried):
        for b in before[a]:
            if b not in tried:
                tried.add(b)
                if b not in leader or place(leader[b], tried):
                    leader[b], follower[a] = a, b
                    return True
        return False

    for header in headers:
        place(header, set())
    for header in headers:
        if header not in leader:
            chain = [header]
            while chain[-1] in follower:
                chain.append(follower[chain[-1]])
            yield chain


def beginnings(headers, files, brings, most=5):
    """The precompiled header that each file may begin with, by its first header: those that are worth
    compiling for that are few."""
    cost = {name: len(brings[name]) for name in headers}  # standard headers count like any

    def best(first, chosen):
        return max((k for k in chosen if brings[k] <= brings[first]), key=cost.get, default=None)

    def saved(chosen):
        begun = (best(chain[0], chosen) for chain in files)
        return sum(cost[k] for k in begun if k) - 2 * sum(map(cost.get, chosen))

    chosen = []
    for _ in range(most):
        more = max(headers, key=lambda name: saved([*chosen, name]))
        if saved([*chosen, more]) <= saved(chosen):
            break
        chosen.append(more)
    return {chain[0]: best(chain[0], chosen) for chain in files}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("compiler", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()

    def compile(headers, *options):
        return subprocess.run([*arguments.compiler, *options, "-x", "c++", "-", f"-I{INCLUDE}"],
                              input="".join(f"#include <{name}>\n" for name in headers), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    headers = sorted(str(path.relative_to(INCLUDE)) for path in INCLUDE.glob("rwkv/**/*.hpp"))
    direct = included(headers, compile)
    brings = {name: closure(direct, name) for name in headers}
    headers.sort(key=lambda name: len(brings[name]))
    before = {a: [b for b in headers[i + 1:] if brings[a] <= brings[b]]
              for i, a in enumerate(headers)}
    files = list(chains(headers, before))
    begin = beginnings(headers, files, brings)
    failed = False

    def report(chain, done):
        nonlocal failed
        sys.stderr.write(done.stderr)
        if done.returncode != 0:
            failed = True
            print("error: one of these does not compile alone:", *chain, sep="\n  ")

    with (concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool,
          tempfile.TemporaryDirectory() as folder):
        once = sorted({name for name in begin.values() if name})
        stand_in = {name: os.path.join(folder, name.replace("/", "_")) for name in once}

        def precompile(name):
            with open(stand_in[name], "w", encoding="utf-8") as file:
                file.write(f"#include <{name}>\n")
            return subprocess.run([*arguments.compiler, f"-I{INCLUDE}", "-x", "c++-header", file.name,
                                   "-o", f"{file.name}.gch"], text=True, stderr=subprocess.PIPE)

        def parse(chain):
            first = begin[chain[0]]
            options = ("-Winvalid-pch", "-include", stand_in[first]) if first else ()
            return compile(chain, "-fsyntax-only", *options)

        for name, done in zip(once, pool.map(precompile, once)):
            report([name], done)
        for chain, done in zip(files, pool.map(parse, files)):
            report(chain, done)
    print(f"{len(headers)} headers in {len(files)} files")
    return failed


if __name__ == "__main__":
    sys.exit(main())
