#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes headers of the library, and all of its headers that they include, as one file.

    amalgamate.py --out rwkv_static.hpp --define RWKV_NO_XSIMD rwkv/static_model.hpp ...

Headers of others (the standard library's, nlohmann's) stay what they are. Kernels that are compiled
once per instruction set are sections, for which the file includes itself: it must keep its name.
"""
import argparse
import pathlib
import re
import sys

INCLUDE = re.compile(r'\s*#\s*include\s+<(rwkv/[^>]+)>')
CONDITION = re.compile(r'\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)')
# What the single header always has, whatever these would leave out.
CERTAIN = re.compile(r'^RWKV_HEADER_ONLY\b|RWKV_NO_(IO|FILES|PTH)\b|^ndef RWKV_AGAIN')


class Writer:
    def __init__(self, root, name, defined, without):
        self.root, self.name, self.defined, self.without = root, name, defined, without
        self.done = set()  # headers that are there, whatever the conditions
        self.open = []  # those that are being written
        self.sections = {}  # headers that are read again: number
        self.texts = {}
        self.out = []

    def lines(self, header):
        return (self.root / header).read_text().splitlines()

    def read_again(self, header):
        """Whether a header is read once per instruction set."""
        return "#pragma once" not in self.lines(header) and "read_per_isa" not in header

    def include(self, header, certain, out):
        if header in self.done or header in self.open:
            return
        if "xsimd.hpp" in header and "RWKV_NO_XSIMD" in self.defined:
            return
        if self.read_again(header):
            self.need_section(header, certain, out)
            out += [f"#define RWKV_SECTION {self.sections[header]}", f'#include "{self.name}"',
                    "#undef RWKV_SECTION"]
            return
        once = "#pragma once" in self.lines(header)
        if certain and once:
            self.done.add(header)
        guard = "RWKV_ONE_" + re.sub(r"\W", "_", header.removeprefix("rwkv/")).upper()
        if once:
            out += [f"#ifndef {guard}", f"#define {guard}"]
        self.open.append(header)
        self.body(header, certain, out)
        self.open.pop()
        if once:
            out += [f"#endif  // {header}"]

    def need_section(self, header, certain, out):
        """Makes the section of a header, and puts what it includes before it."""
        for line in self.lines(header):
            match = INCLUDE.match(line)
            if match and self.read_again(match[1]):
                self.need_section(match[1], certain, out)
            elif match:
                self.include(match[1], certain, out)
        if header in self.sections:
            return
        self.sections[header] = len(self.sections) + 1
        text = []
        for line in self.lines(header):
            match = INCLUDE.match(line)
            if match and self.read_again(match[1]):
                text += ["#undef RWKV_SECTION", f"#define RWKV_SECTION {self.sections[match[1]]}",
                         f'#include "{self.name}"']
            elif not match:
                text.append(line)
        self.texts[self.sections[header]] = without_comments_on_top(text)

    def body(self, header, certain, out):
        conditions = []  # whether each makes what is in it uncertain
        stated = []
        for line in without_comments_on_top(self.lines(header)):
            condition = CONDITION.match(line)
            if condition:
                kind, what = condition[1], condition[2].strip()
                what = ("ndef " if kind == "ifndef" else "") + what
                if kind in ("if", "ifdef", "ifndef"):
                    conditions.append(not CERTAIN.search(what))
                    stated.append(what)
                elif kind == "endif":
                    conditions.pop()
                    stated.pop()
                else:
                    conditions[-1] = True
                    stated[-1] = ""
            match = INCLUDE.match(line)
            if match:
                if "!RWKV_HEADER_ONLY" not in stated:
                    self.include(match[1], certain and not any(conditions), out)
            elif re.match(r"\s*#\s*pragma\s+once", line):
                pass
            elif m := re.match(r"\s*#define (RWKV_READ\w*) <(rwkv/[^>]+)>", line):
                if self.read_again(m[2]):
                    self.need_section(m[2], False, out)
                    out.append(f"#define {m[1]} {self.sections[m[2]]}")
                else:
                    out.append(line)
            elif m := re.match(r"\s*#include (RWKV_READ\w*)", line):
                out += [f"#define RWKV_SECTION {m[1]}", f'#include "{self.name}"',
                        "#undef RWKV_SECTION"]
            else:
                out.append(line)

    def write(self, headers, title):
        main = []
        for header in headers:
            self.include(header, True, main)
        for without in self.without:
            name, _, header = without.partition("=")
            main[:0] = [f"#if !defined({name}) && !__has_include(<{header}>)", f"#define {name}", "#endif"]
        for definition in reversed(self.defined):
            name, _, value = definition.partition("=")
            main[:0] = [f"#if !defined({name})", f"#define {name} {value}".rstrip(), "#endif"]
        text = ["// SPDX-License-Identifier: Apache-2.0", f"// {title}",
                f"// Made by cmake/packages/amalgamate.py of: {', '.join(headers)}.", ""]
        guard = re.sub(r"\W", "_", self.name).upper()
        if self.texts:
            for number, section in sorted(self.texts.items()):
                text += [f"#{'if' if number == 1 else 'elif'} defined(RWKV_SECTION) && RWKV_SECTION == {number}"]
                text += section
            text += ["#elif !defined(" + guard + ")"]
        else:
            text += [f"#ifndef {guard}"]
        text += [f"#define {guard}"] + main + ["#endif"]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(text)) + "\n"


def without_comments_on_top(lines):
    first = next((i for i, line in enumerate(lines) if not line.startswith("//")), len(lines))
    return lines[first:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--title", default="The library in one file.")
    parser.add_argument("--define", action="append", default=[])
    parser.add_argument("--without", action="append", default=[], metavar="MACRO=HEADER",
                        help="defines the macro where there is no such header")
    parser.add_argument("headers", nargs="+")
    options = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parents[2] / "include"
    writer = Writer(root, options.out.name, options.define, options.without)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(writer.write(options.headers, options.title))


if __name__ == "__main__":
    sys.exit(main())
