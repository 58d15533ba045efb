#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles the examples in comments: comment_examples.py --compiler c++ [FILE...]

An example is a block of comment lines that are indented by three spaces or more, of which the last
ends as a statement does. Each becomes a function behind comment_examples.hpp; all are one translation
unit, which is checked and not run. Without FILEs: every header of the library.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"^\s*///? {3,}(\S.*)$|^\s*///?$")
STATEMENT = re.compile(r";\s*(//.*)?$")
END = re.compile(r"^\s*(\}\)?;?|[^*`].*;\s*(//.*)?)$")


def examples(path):
    """Yields (number of the first line, lines) of each example in a file."""
    block, begin = [], 0
    for number, line in enumerate(path.read_text().split("\n"), 1):
        found = COMMENT.match(line)
        if found and (block or found.group(1)):
            begin = begin if block else number
            block.append(re.sub(r"^\s*///?", "", line))
            continue
        text = [t for t in block if t.strip()]
        if text and END.match(text[-1]) and any(STATEMENT.search(t) for t in text):
            yield begin, block
        block = []


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--compiler", default="c++")
    arguments.add_argument("--least", type=int, default=0, help="fewer examples are an error")
    arguments.add_argument("--include", default="comment_examples.hpp")
    arguments.add_argument("files", nargs="*", type=pathlib.Path)
    options = arguments.parse_args()
    files = options.files or sorted((ROOT / "include" / "rwkv").rglob("*.[hi]pp"))
    source = [f"#include <{options.include}>"]
    count = 0
    for path in files:
        for line, block in examples(path):
            count += 1
            source += [f"void example_{count}() {{", f'#line {line} "{path}"', *block, "}"]
    if count < options.least:
        sys.exit(f"{count} examples found in comments, at least {options.least} were expected")
    with tempfile.TemporaryDirectory() as folder:
        unit = pathlib.Path(folder) / "examples.cpp"
        unit.write_text("\n".join(source) + "\n")
        command = [options.compiler, "-std=c++20", "-fsyntax-only", "-DRWKV_COMPILED"]
        command += [f"-I{ROOT / 'include'}", f"-I{pathlib.Path(__file__).parent}"]
        if subprocess.run([*command, str(unit)]).returncode != 0:
            sys.exit("an example in a comment does not compile")
    print(f"{count} examples in comments compile")


main()
