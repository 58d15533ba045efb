#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Masks of JSON Schemas beside llguidance (pip install llguidance numpy), in one run: the same
vocabulary, schemas and tokens, drawn by our program and replayed by llguidance. Says how long compiling,
the first and every later mask take.

    grammar_masks.py build/native/bench/grammar_masks rwkv_vocab_v20230424.txt [--tokens 200]
"""
import argparse
import ast
import json
import subprocess
import sys
import time

import llguidance
import numpy


def object_of(properties, required=None):
    return {"type": "object", "properties": properties, "additionalProperties": False,
            "required": list(properties) if required is None else required}


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
SCHEMAS = [
    object_of({"name": STRING, "age": {"type": "integer", "minimum": 0, "maximum": 130}}),
    object_of({"title": {"type": "string", "maxLength": 40}, "tags": {"type": "array", "items": STRING}}),
    object_of({"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"type": "number"}}, ["c"]),
    object_of({"kind": {"enum": ["cat", "dog", "horse"]}, "legs": {"enum": [2, 4]}}),
    object_of({"phone": {"type": "string", "pattern": "^\\+?[0-9]{2,4}(-[0-9]{3,6}){1,3}$"}}),
    object_of({"id": {"type": "string", "pattern": "^[A-Z]{3}_[a-z0-9]+$"}, "n": INTEGER}),
    object_of({"p": object_of({"q": object_of({"r": STRING, "s": INTEGER})})}),
    {"type": "array", "items": object_of({"x": {"type": "number"}, "label": STRING}), "minItems": 2},
    {"type": "array", "items": {"type": "array", "items": INTEGER, "maxItems": 4}},
    {"anyOf": [object_of({"k": {"const": "a"}, "v": INTEGER}), object_of({"k": {"const": "b"}, "w": STRING})]},
    {"$ref": "#/$defs/node", "$defs": {"node": object_of(
        {"v": INTEGER, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})}},
    {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "name": STRING},
     "required": ["name"], "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"a": INTEGER}, "required": ["a"], "additionalProperties": STRING},
    {"type": "array"},
    {"type": "object"},
    object_of({f"property_{i}": [STRING, INTEGER, {"type": "boolean"}][i % 3] for i in range(50)}),
    object_of({f"property_{i}": [STRING, INTEGER, {"type": "boolean"}][i % 3] for i in range(50)}, []),
    object_of({"s": {"type": "string", "minLength": 5, "maxLength": 15}}),
    object_of({"choice": {"enum": [f"option number {i}" for i in range(200)]}}),
]


def vocabulary(path):
    tokens = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            number, rest = line.split(" ", 1)
            literal = ast.literal_eval(rest[:rest.rindex(" ")])
            tokens[int(number)] = literal.encode() if isinstance(literal, str) else literal
    return [tokens.get(i, b"") for i in range(65536)]


class Wrapped:
    """What llguidance asks of a tokenizer."""
    eos_token_id, bos_token_id, special_token_ids = 0, None, [0]

    def __init__(self, tokens):
        self.tokens = tokens
        self.ids = {t: i for i, t in enumerate(tokens) if t}

    def __call__(self, text):
        text = text if isinstance(text, bytes) else text.encode()
        out, at = [], 0
        while at < len(text):
            size = next(n for n in range(min(128, len(text) - at), 0, -1) if text[at:at + n] in self.ids)
            out.append(self.ids[text[at:at + size]])
            at += size
        return out


def microseconds(action):
    start = time.perf_counter()
    result = action()
    return result, (time.perf_counter() - start) * 1e6


def row(name, values):
    values = numpy.array(values)
    print(f"| {name} | {len(values)} | {values.mean():.1f} | {numpy.median(values):.1f} "
          f"| {numpy.percentile(values, 99):.1f} | {values.max():.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("vocabulary")
    parser.add_argument("--tokens", default="200", help="of each text, at most")
    options = parser.parse_args()
    tokenizer = llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(Wrapped(vocabulary(options.vocabulary))), n_vocab=65536)
    times = {(who, what): [] for who in ("rwkv", "llguidance") for what in ("compile", "first mask", "mask")}
    for flexible in (False, True):
        lines = "\n".join(json.dumps(schema) for schema in SCHEMAS) + "\n"
        how = "flexible" if flexible else "compact"
        done = subprocess.run([options.program, options.vocabulary, options.tokens, how], input=lines,
                              capture_output=True, text=True, check=True)
        for schema, line in zip(SCHEMAS, done.stdout.splitlines(), strict=True):
            compiled, first, *steps = line.split()
            times["rwkv", "compile"].append(float(compiled))
            times["rwkv", "first mask"].append(float(first))
            times["rwkv", "mask"] += [float(step.split(":")[1]) for step in steps]

            def make():
                grammar = llguidance.LLMatcher.grammar_from_json_schema(
                    json.dumps(schema), overrides={"whitespace_flexible": flexible})
                return llguidance.LLMatcher(tokenizer, grammar)
            matcher, spent = microseconds(make)
            times["llguidance", "compile"].append(spent)
            times["llguidance", "first mask"].append(microseconds(matcher.compute_bitmask)[1])
            for step in steps:
                if not matcher.consume_tokens([int(step.split(":")[0])]):
                    break  # it refuses what JSON allows, as half a pair of surrogates written \ud83d
                times["llguidance", "mask"].append(microseconds(matcher.compute_bitmask)[1])
    print("| microseconds | number | mean | median | 99 % | most |\n|---|---|---|---|---|---|")
    for what in ("compile", "first mask", "mask"):
        for who in ("rwkv", "llguidance"):
            row(f"{what}, {who}", times[who, what])
    return 0


if __name__ == "__main__":
    sys.exit(main())
