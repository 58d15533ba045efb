#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The C library from Python, without anything but ctypes: does what the tool does, token by token,
and answers misuse with an error code and a sentence.

  ctypes_test.py LIBRARY TOOL MODEL
"""
import ctypes
import json
import math
import re
import subprocess
import sys
import tempfile
import threading
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_size_t, c_uint32, c_void_p

LIBRARY, TOOL, MODEL = sys.argv[1:4]
lib = ctypes.CDLL(LIBRARY)
Progress = ctypes.CFUNCTYPE(c_int, c_double, c_void_p)
OnText = ctypes.CFUNCTYPE(c_int, POINTER(ctypes.c_char), c_size_t, c_void_p)


class Sized(ctypes.Structure):
    def __init__(self, **values):
        super().__init__(struct_size=ctypes.sizeof(type(self)), **values)


class OpenOptions(Sized):
    _fields_ = [("struct_size", c_size_t), ("threads", c_size_t), ("matrix_type", c_char_p),
                ("vocabulary", c_char_p), ("exact_inputs", c_int), ("progress", Progress),
                ("user", c_void_p)]


class Shape(Sized):
    _fields_ = [(name, c_size_t) for name in (
        "struct_size", "layers", "embed", "head_size", "ffn", "vocab", "sparse_blocks",
        "has_vocabulary", "weight_bytes", "state_bytes")]


class SamplerOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("temperature", c_float), ("top_p", c_float),
                ("top_k", c_size_t), ("min_p", c_float), ("presence_penalty", c_float),
                ("frequency_penalty", c_float), ("penalty_decay", c_float),
                ("seed", ctypes.c_uint64)]


class OldGenerateOptions(Sized):  # of version 0.7
    _fields_ = [("struct_size", c_size_t), ("max_tokens", c_size_t),
                ("stop_strings", POINTER(c_char_p)), ("stop_string_count", c_size_t)]


class GenerateOptions(Sized):
    _fields_ = OldGenerateOptions._fields_ + [
        ("grammar", c_void_p), ("draft", c_int), ("draft_model", c_void_p),
        ("draft_tokens", c_size_t)]


class OldGenerateResult(Sized):
    _fields_ = [("struct_size", c_size_t), ("reason", c_int), ("prompt_tokens", c_size_t),
                ("tokens", c_size_t), ("prompt_seconds", c_double), ("generate_seconds", c_double)]


class GenerateResult(Sized):
    _fields_ = OldGenerateResult._fields_ + [("satisfied", c_int), ("guessed", c_size_t),
                                             ("accepted", c_size_t)]


lib.rwkv_last_error.restype = c_char_p
lib.rwkv_version.restype = c_char_p
lib.rwkv_level.restype = c_char_p
lib.rwkv_level_name.restype = c_char_p
lib.rwkv_level_name.argtypes = [c_size_t]
lib.rwkv_threads.restype = c_size_t
lib.rwkv_threads.argtypes = [c_void_p]
for name, arguments in {
        "free": [c_void_p], "state_free": [c_void_p], "sampler_free": [c_void_p],
        "open": [c_char_p, c_void_p, c_void_p],
        "open_memory": [c_void_p, c_size_t, c_void_p, c_void_p],
        "get_shape": [c_void_p, c_void_p], "set_threads": [c_void_p, c_size_t],
        "state_new": [c_void_p, c_void_p], "state_copy": [c_void_p, c_void_p],
        "state_assign": [c_void_p, c_void_p], "state_save": [c_void_p, c_char_p],
        "state_load": [c_void_p, c_char_p, c_void_p],
        "state_to_bytes": [c_void_p, c_void_p, c_size_t, c_void_p],
        "state_from_bytes": [c_void_p, c_void_p, c_size_t, c_void_p],
        "tokenize": [c_void_p, c_char_p, c_size_t, c_void_p, c_size_t, c_void_p],
        "detokenize": [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p],
        "eval": [c_void_p, c_void_p, c_size_t, c_void_p, c_void_p],
        "eval_batch": [c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p],
        "sampler_defaults": [c_void_p], "sampler_new": [c_void_p, c_void_p, c_void_p],
        "sample": [c_void_p, c_void_p, c_void_p], "grammar_free": [c_void_p],
        "grammar_new": [c_void_p, c_int, c_char_p, c_size_t, c_void_p],
        "generate": [c_void_p, c_void_p, c_char_p, c_size_t, c_void_p, OnText, c_void_p, c_void_p],
        "use_level": [c_char_p]}.items():
    getattr(lib, "rwkv_" + name).argtypes = arguments

OK, IO, FORMAT, UNSUPPORTED, ARGUMENT, CANCELLED, BUFFER = 0, 1, 2, 3, 5, 8, 9
JSON_SCHEMA, GBNF, REGEX, TOOLS = 1, 2, 3, 4
NGRAM, MODEL_DRAFT = 1, 2


def check(condition, what):
    if not condition:
        sys.exit(f"not true: {what} (last error: {lib.rwkv_last_error().decode()})")


def made(function, *arguments):
    handle = c_void_p()
    check(function(*arguments, byref(handle)) == OK, function.__name__)
    return handle


def refused(status, code, part):
    check(status == code and part in lib.rwkv_last_error().decode(),
          f"error {code} with \"{part}\", not {status}")


def new_sampler(model, seed):
    options = SamplerOptions()
    lib.rwkv_sampler_defaults(byref(options))
    options.temperature, options.seed = 0.8, seed
    options.presence_penalty = options.frequency_penalty = 0.25
    return made(lib.rwkv_sampler_new, model, byref(options))


def generate(state, sampler, prompt, tokens, stop_after=None, **more):
    pieces = []

    def show(text, size, _):
        pieces.append(ctypes.string_at(text, size))
        return stop_after is not None and len(pieces) >= stop_after

    options, result = GenerateOptions(max_tokens=tokens, **more), GenerateResult()
    status = lib.rwkv_generate(state, sampler, prompt, len(prompt), byref(options), OnText(show),
                               None, byref(result))
    check(status == OK, "generate")
    return b"".join(pieces), result


def state_bytes(state):
    size = c_size_t()
    refused(lib.rwkv_state_to_bytes(state, None, 0, byref(size)), BUFFER, "room for 0")
    data = ctypes.create_string_buffer(size.value)
    check(lib.rwkv_state_to_bytes(state, data, size, byref(size)) == OK, "state_to_bytes")
    return data.raw


model = made(lib.rwkv_open, MODEL.encode(), None)
shape = Shape()
check(lib.rwkv_get_shape(model, byref(shape)) == OK, "get_shape")
check((shape.layers, shape.embed, shape.vocab, shape.has_vocabulary) == (6, 128, 256, 1), "shape")
check(lib.rwkv_version().count(b".") == 2, "version")
check(lib.rwkv_threads(model) >= 1, "threads")

# The same text as the tool's, in one call and in two.
state = made(lib.rwkv_state_new, model)
text, result = generate(state, new_sampler(model, 7), b"The king", 60)
tool = subprocess.run(
    [TOOL, "generate", MODEL, "--prompt", "The king", "--tokens", "60", "--seed", "7",
     "--temperature", "0.8", "--presence-penalty", "0.25", "--frequency-penalty", "0.25"],
    check=True, capture_output=True).stdout
check(tool == b"The king" + text + b"\n", f"{tool} is what the tool says, {text} what we do")
check((result.reason, result.prompt_tokens, result.tokens) == (1, 8, 60), "the result")
halves, sampler = made(lib.rwkv_state_new, model), new_sampler(model, 7)
first, _ = generate(halves, sampler, b"The king", 30)
nothing = GenerateOptions(max_tokens=30, stop_strings=(c_char_p * 1)(b""), stop_string_count=1)
refused(lib.rwkv_generate(halves, sampler, b"", 0, byref(nothing), OnText(), None, None), ARGUMENT,
        "a stop string is empty")  # and the text can go on all the same
second, _ = generate(halves, sampler, b"", 30)
check(first + second == text, "30 tokens and 30 are 60")
check(state_bytes(halves) == state_bytes(state), "the states agree")

# Tokens, logits and the sampler by hand.
size = c_size_t()
refused(lib.rwkv_tokenize(model, b"The king", 8, None, 0, byref(size)), BUFFER, "8 are needed")
tokens = (c_uint32 * 8)()
check(lib.rwkv_tokenize(model, b"The king", 8, tokens, 8, byref(size)) == OK, "tokenize")
buffer = ctypes.create_string_buffer(8)
check(lib.rwkv_detokenize(model, tokens, 8, buffer, 8, byref(size)) == OK, "detokenize")
check(buffer.raw == b"The king", "there and back")
logits, hidden = (c_float * 256)(), (c_float * 128)()
by_hand, sampler, token = made(lib.rwkv_state_new, model), new_sampler(model, 7), c_uint32()
check(lib.rwkv_eval(by_hand, tokens, 8, logits, hidden) == OK, "eval")
check(all(map(math.isfinite, hidden)) and any(hidden), "hidden states are numbers")
drawn = b""
while len(drawn) < 60:
    check(lib.rwkv_sample(sampler, logits, byref(token)) == OK, "sample")
    drawn += bytes([token.value])
    check(lib.rwkv_eval(by_hand, byref(token), 1, logits, None) == OK, "eval")
check(drawn == text, "eval and sample are generate")

# A batch is what each is alone.
states = (c_void_p * 2)(made(lib.rwkv_state_new, model), made(lib.rwkv_state_new, model))
starts = (c_void_p * 2)(ctypes.addressof(tokens), ctypes.addressof(tokens) + 4)
both = (c_float * 512)()
check(lib.rwkv_eval_batch(states, starts, (c_size_t * 2)(8, 3), 2, both, None) == OK, "batch")
alone = made(lib.rwkv_state_new, model)
check(lib.rwkv_eval(alone, starts[1], 3, logits, None) == OK, "eval")
check(bytes(both)[1024:] == bytes(logits), "a batch has the bits of each alone")
states[1] = states[0]
refused(lib.rwkv_eval_batch(states, starts, (c_size_t * 2)(8, 3), 2, None, None), ARGUMENT,
        "the same")

# States: copies, bytes and files.
fork = made(lib.rwkv_state_copy, state)
generate(fork, None, b"x", 5)
check(state_bytes(fork) != state_bytes(state), "a copy goes its own way")
check(lib.rwkv_state_assign(fork, state) == OK, "assign")
check(state_bytes(fork) == state_bytes(state), "and back")
data = state_bytes(state)
check(state_bytes(made(lib.rwkv_state_from_bytes, model, data, len(data))) == data, "from bytes")
with tempfile.TemporaryDirectory() as folder:
    path = (folder + "/state").encode()
    check(lib.rwkv_state_save(state, path) == OK, "save")
    check(open(path, "rb").read() == data, "the file has these bytes")
    check(state_bytes(made(lib.rwkv_state_load, model, path)) == data, "load")
refused(lib.rwkv_state_from_bytes(model, data, len(data) - 1, byref(c_void_p())), FORMAT, "memory")

# Two threads of the caller's at once, each with a state, share the model and its threads.
together = {}


def run(prompt):
    together[prompt] = generate(made(lib.rwkv_state_new, model), new_sampler(model, 3), prompt, 40)[0]


prompts = [b"The king", b"A fox", b"Once"]
threads = [threading.Thread(target=run, args=(prompt,)) for prompt in prompts]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for prompt in prompts:
    alone_text, _ = generate(made(lib.rwkv_state_new, model), new_sampler(model, 3), prompt, 40)
    check(together[prompt] == alone_text, "callers at once get what each gets alone")

# Stopping, other threads, other types, other levels.
text, result = generate(made(lib.rwkv_state_new, model), None, b"The king", 60, stop_after=3)
check(result.reason == 4 and result.tokens == 3, "a callback stops")
check(lib.rwkv_set_threads(model, 0) == OK, "set_threads")
most = lib.rwkv_threads(model)
check(lib.rwkv_set_threads(model, 3) == OK, "set_threads")
check(lib.rwkv_threads(model) == min(3, most), "no more threads than processors")
seen = []


@Progress
def watch(done, _):
    seen.append(done)
    return len(seen) == 5


options = OpenOptions(threads=1, matrix_type=b"q8_0", progress=watch)
handle = c_void_p()
refused(lib.rwkv_open(MODEL.encode(), byref(options), byref(handle)), CANCELLED, "cancelled")
check(len(seen) == 5 and not handle, "nothing was opened")
small = made(lib.rwkv_open, MODEL.encode(), byref(OpenOptions(threads=1, matrix_type=b"q8_0")))
small_shape = Shape()
check(lib.rwkv_get_shape(small, byref(small_shape)) == OK, "get_shape")
check(small_shape.weight_bytes < shape.weight_bytes, "quantised models are smaller")
with open(MODEL, "rb") as file:
    content = file.read()
from_memory = made(lib.rwkv_open_memory, content, len(content), None)
levels = []
while lib.rwkv_level_name(len(levels)) is not None:
    levels.append(lib.rwkv_level_name(len(levels)))
check(levels[0] == b"compiled" and lib.rwkv_level() == levels[-1], "the best level is used")
for level in levels:
    check(lib.rwkv_use_level(level) == OK and lib.rwkv_level() == level, "use_level")
    state = made(lib.rwkv_state_new, from_memory)
    check(lib.rwkv_eval(state, tokens, 8, logits, None) == OK, "eval")
    check(all(map(math.isfinite, logits)), f"logits at level {level}")
refused(lib.rwkv_use_level(b"avx1024"), ARGUMENT, "avx1024")

# Texts of a guaranteed form.
date = made(lib.rwkv_grammar_new, from_memory, REGEX, b"[0-9]{4}-[0-9]{2}", 17)
for seed in range(3):
    state = made(lib.rwkv_state_new, from_memory)
    text, result = generate(state, new_sampler(from_memory, seed), b"The king", 60, grammar=date)
    check(re.fullmatch(rb"[0-9]{4}-[0-9]{2}", text), f"{text} is a year and a month")
    check(result.satisfied == 1 and result.reason == 5, "it has ended")
text, result = generate(state, None, b"The king", 3, grammar=date)
check(re.fullmatch(b"[0-9]{3}", text) and result.satisfied == 0, "the beginning of one")
schema = b'{"type": "object", "properties": {"n": {"type": "integer", "minimum": 10, ' \
    b'"maximum": 99}}, "required": ["n"], "additionalProperties": false}'
grammar = made(lib.rwkv_grammar_new, from_memory, JSON_SCHEMA, schema, len(schema))
text, result = generate(state, None, b"The king", 60, grammar=grammar)
check(10 <= json.loads(text)["n"] <= 99 and result.satisfied == 1, f"{text} is of the schema")
lib.rwkv_grammar_free(grammar)
tools = b'[{"name": "sing", "parameters": {"type": "object", "properties": {}, ' \
    b'"additionalProperties": false}}]'
grammar = made(lib.rwkv_grammar_new, from_memory, TOOLS, tools, len(tools))
text, _ = generate(state, None, b"The king", 60, grammar=grammar)
check(json.loads(text) == {"name": "sing", "arguments": {}}, f"{text} calls the tool")
grammar = made(lib.rwkv_grammar_new, from_memory, GBNF, b'root ::= "yes" | "no"', 21)
check(generate(state, None, b"The king", 60, grammar=grammar)[0] in (b"yes", b"no"), "yes or no")
refused(lib.rwkv_grammar_new(model, REGEX, b"(", 1, byref(handle)), ARGUMENT, "regular expression")
check(not handle, "no grammar was made")
refused(lib.rwkv_grammar_new(model, JSON_SCHEMA, b"{", 1, byref(handle)), FORMAT, "schema")
refused(lib.rwkv_grammar_new(model, 5, b"", 0, byref(handle)), ARGUMENT, "kind is 5")
refused(lib.rwkv_generate(made(lib.rwkv_state_new, model), None, b"a", 1,
                          byref(GenerateOptions(grammar=date)), OnText(), None, None),
        ARGUMENT, "another model")
lib.rwkv_grammar_free(None)

# Drafts change no text, in one call or several, and are right where a text repeats itself.
prompt = b"A fox met a king. A fox met a king. A fox met a king. A fox"
plain = made(lib.rwkv_state_new, model)
expected, _ = generate(plain, new_sampler(model, 5), prompt, 80)
for more in ({"draft": NGRAM}, {"draft": NGRAM, "draft_tokens": 4},
             {"draft": MODEL_DRAFT, "draft_model": small},
             {"draft": MODEL_DRAFT, "draft_model": small, "draft_tokens": 3}):
    drafted, sampler = made(lib.rwkv_state_new, model), new_sampler(model, 5)
    first, counts = generate(drafted, sampler, prompt, 30, **more)
    rest, later = generate(drafted, sampler, b"", 50, **more)
    check(first + rest == expected, f"the same text with {more}")
    check(state_bytes(drafted) == state_bytes(plain), f"the same state with {more}")
    guessed, accepted = counts.guessed + later.guessed, counts.accepted + later.accepted
    check(accepted <= guessed, "what was right was guessed")
    if "draft_tokens" in more:
        check(0 < accepted, f"some guesses of {more} are right")
    # A copy, another text, threads that change, and no draft for once.
    copy = made(lib.rwkv_state_copy, drafted)
    check(lib.rwkv_eval(drafted, tokens, 8, None, None) == OK, "eval")
    check(lib.rwkv_set_threads(small, 2) == OK, "set_threads")
    ends = [generate(state, new_sampler(model, 2), b"", 20, **how)[0]
            for state, how in ((drafted, more), (copy, more), (plain, {}))]
    check(ends[1] == ends[2], "a copy goes on alike")
    check(lib.rwkv_state_assign(plain, copy) == OK, "assign")
    again = made(lib.rwkv_state_new, model)
    generate(again, new_sampler(model, 5), prompt, 80)
    check(lib.rwkv_state_assign(plain, again) == OK, "assign")
refused(lib.rwkv_generate(plain, None, b"a", 1, byref(GenerateOptions(draft=3)), OnText(), None,
                          None), ARGUMENT, "draft is 3")
refused(lib.rwkv_generate(plain, None, b"a", 1, byref(GenerateOptions(draft=MODEL_DRAFT)), OnText(),
                          None, None), ARGUMENT, "both or neither")

# A program that was compiled with version 0.7 has smaller structures.
old = made(lib.rwkv_state_new, model)
old_result = OldGenerateResult()
check(lib.rwkv_generate(old, new_sampler(model, 5), prompt, len(prompt),
                        byref(OldGenerateOptions(max_tokens=80)), OnText(), None,
                        byref(old_result)) == OK and old_result.tokens == 80, "an old program")
check(state_bytes(old) == state_bytes(made(lib.rwkv_state_copy, plain)), "does the same")

# Misuse.
refused(lib.rwkv_open(b"/no/such/model", None, byref(handle)), IO, "/no/such/model")
refused(lib.rwkv_open(None, None, byref(handle)), ARGUMENT, "path is NULL")
refused(lib.rwkv_open(MODEL.encode(), None, None), ARGUMENT, "NULL")
refused(lib.rwkv_open(MODEL.encode(), byref(OpenOptions(threads=2**31)), byref(handle)),
        ARGUMENT, "2147483648 threads")
refused(lib.rwkv_open(MODEL.encode(), byref(OpenOptions(vocabulary=b"/tmp")), byref(handle)),
        IO, "/tmp: cannot open this file: it is a directory")
refused(lib.rwkv_open(MODEL.encode(), byref(OpenOptions(matrix_type=b"q9")), byref(handle)),
        ARGUMENT, "q9")
refused(lib.rwkv_open_memory(b"abc", 3, None, byref(handle)), FORMAT, "no model file")
refused(lib.rwkv_state_new(None, byref(handle)), ARGUMENT, "model is NULL")
handle = c_void_p(1)
refused(lib.rwkv_state_from_bytes(model, None, 5, byref(handle)), ARGUMENT, "data is NULL")
check(not handle, "what could not be made is NULL")
refused(lib.rwkv_eval(state, (c_uint32 * 1)(256), 1, None, None), ARGUMENT, "token 256")
refused(lib.rwkv_eval(state, tokens, 0, None, None), ARGUMENT, "no tokens")
refused(lib.rwkv_eval(None, tokens, 1, None, None), ARGUMENT, "NULL")
refused(lib.rwkv_eval_batch((c_void_p * 2)(state, alone), starts, (c_size_t * 2)(1, 1), 2, None,
                            None), ARGUMENT, "different models")
bad = OpenOptions()
bad.struct_size = 0
refused(lib.rwkv_open(MODEL.encode(), byref(bad), byref(handle)), ARGUMENT, "struct_size")
lib.rwkv_free(model)  # what was made of it lives on
check(lib.rwkv_eval(alone, tokens, 1, logits, None) == OK, "a state keeps its model alive")
lib.rwkv_state_free(alone)
lib.rwkv_free(None)
print("the C library does what the tool does")
