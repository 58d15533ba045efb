#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decoding and reading a prompt side by side with other programs: the same weights, the same tokens,
the same threads, turn by turn, so that what else the machine does falls on all of them. Every turn
is a process of its own. The table says tokens per second (median, and from the slowest to the fastest
turn) and how much faster we are (median of the ratios within a round).

    peers.py build/release/examples/rwkv --shape 0.1b 0.4b --type f16 q8_0 q4_0 --threads 1 2
    peers.py build/release/examples/rwkv --model model-q4_k.gguf
    peers.py build/release/examples/rwkv --model model-q4_k.gguf --agree tokens.txt

Shapes are models with random weights, which `rwkv convert` writes into the folder --models if they are
not there yet. Peers are what can be imported: llama_cpp (llama-cpp-python), and rwkv (the official
package, with PyTorch; f32 and bf16 only). Builds and downloads nothing.

--agree compares our logits with those of llama.cpp after each token of a file instead.
"""
import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS_PER_TURN = 5  # as `rwkv bench` does


def importable(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


def turn(prefill, decode, prompt, generate):
    """Medians over some rounds of tokens per second; `decode(token)`, `prefill(tokens)`."""
    tokens = random.Random(2).choices(range(1, 256), k=prompt)
    steps = max(1, generate // ROUNDS_PER_TURN)
    prefill(tokens)
    rates = {"decode": [], "prefill": []}
    for _ in range(ROUNDS_PER_TURN):
        start = time.perf_counter()
        for i in range(steps):
            decode(tokens[i % prompt])
        rates["decode"].append(steps / (time.perf_counter() - start))
        start = time.perf_counter()
        prefill(tokens)
        rates["prefill"].append(prompt / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


class Llama:
    """A model in llama.cpp, through its C interface: no sampling, no text, only logits."""

    def __init__(self, path, threads, batch, all_logits=False):
        import llama_cpp as api

        self.api, self.position, self.all_logits = api, 0, all_logits
        self.silence = api.llama_log_callback(lambda level, text, data: None)  # must outlive the model
        api.llama_log_set(self.silence, None)
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = api.llama_model_load_from_file(str(path).encode(), options)
        if not self.model:
            sys.exit(f"{path}: llama.cpp does not load this file")
        options = api.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = batch
        options.n_threads = options.n_threads_batch = threads
        self.context = api.llama_init_from_model(self.model, options)
        self.batch = api.llama_batch_init(batch, 0, 1)
        self.vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))

    def read(self, tokens):
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, self.position + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = self.all_logits or i + 1 == len(tokens)
        if self.api.llama_decode(self.context, batch) != 0:
            sys.exit("llama.cpp cannot read these tokens")
        self.position += len(tokens)

    def logits(self, i):
        """After token i of the last batch, as a NumPy array."""
        import numpy

        pointer = self.api.llama_get_logits_ith(self.context, i)
        return numpy.ctypeslib.as_array(pointer, (self.vocab,)).copy()


def llama_turn(path, threads, prompt, generate):
    model = Llama(path, threads, prompt)
    return turn(model.read, lambda token: model.read([token]), prompt, generate)


def official_turn(path, threads, prompt, generate):
    import torch

    torch.set_num_threads(threads)
    os.environ.update(RWKV_V7_ON="1", RWKV_JIT_ON="1", RWKV_CUDA_ON="0")
    from rwkv.model import RWKV

    load = torch.load
    torch.load = lambda file, mmap=True, **options: load(file, **options)  # old PyTorch knows no mmap
    strategy = "cpu fp32" if "f32" in path.stem else "cpu bf16"
    model, state = RWKV(model=str(path.with_suffix("")), strategy=strategy), None

    def read(tokens):
        nonlocal state
        _, state = model.forward(list(tokens), state)

    with torch.no_grad():
        return turn(read, lambda token: read([token]), prompt, generate)


def pth_of(rwkv, path, type):
    """The same weights in a file that the official package reads, written beside it once."""
    import torch

    target = path.with_suffix(".pth")
    if target.exists():
        return target
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = pathlib.Path(folder) / "model.safetensors"
        subprocess.run([rwkv, "convert", path, file, "--type", type, "--no-self-test"], check=True)
        data = bytearray(file.read_bytes())
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            dtype = types[entry["dtype"]]
            tensors[name] = torch.frombuffer(
                data, dtype=dtype, offset=begin + first,
                count=(last - first) // torch.empty(0, dtype=dtype).element_size(),
            ).reshape(entry["shape"]).clone()
        torch.save(tensors, pathlib.Path(folder) / "model.pth")
        (pathlib.Path(folder) / "model.pth").rename(target)
    return target


def our_turn(rwkv, path, threads, prompt, generate):
    run = subprocess.run(
        [rwkv, "bench", path, "--json", "--threads", str(threads), "--prompt", str(prompt),
         "--generate", str(generate)], check=True, capture_output=True, text=True)
    result = json.loads(run.stdout)
    return {"decode": result["decode_tokens_per_second"],
            "prefill": result["prefill_tokens_per_second"],
            "fraction": result["decode_bandwidth_fraction"]}


def peer_turn(peer, path, threads, prompt, generate):
    run = subprocess.run(
        [sys.executable, __file__, "--turn", peer, str(path), str(threads), str(prompt),
         str(generate)], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def compare(o, name, path, type, threads, peers):
    """Runs all rounds of one row group; returns {engine: [turn, ...]}."""
    files = {peer: pth_of(o.rwkv, path, type) if peer == "official" else path for peer in peers}
    turns = {engine: [] for engine in ("rwkv", *peers)}
    for round in range(o.rounds):
        engines = list(turns) if round % 2 == 0 else list(turns)[::-1]
        for engine in engines:
            if sys.stderr.isatty():
                print(f"\r\033[K{name} {type}, {threads} thread(s), round {round + 1}: {engine}",
                      end="", file=sys.stderr, flush=True)
            turns[engine].append(
                our_turn(o.rwkv, path, threads, o.prompt, o.generate) if engine == "rwkv" else
                peer_turn(engine, files[engine], threads, o.prompt, o.generate))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return turns


def row(turns, engine, kind):
    rates = [turn[kind] for turn in turns[engine]]
    ratio = statistics.median(
        ours[kind] / theirs[kind] for ours, theirs in zip(turns["rwkv"], turns[engine]))
    return {"median": statistics.median(rates), "slowest": min(rates), "fastest": max(rates),
            "ratio": ratio}


def models_of(o):
    """(name, type, path) of every model, written first where it is missing."""
    for path in o.model:
        tail = path.stem.lower().rsplit("-", 1)[-1]
        yield path.stem, tail, path
    for shape in o.shape:
        for type in o.type:
            zeros = [] if o.ffn_zeros is None else ["--ffn-zeros", str(o.ffn_zeros)]
            path = o.models / f"random-{'-'.join([shape, *zeros[1:], type])}.gguf"
            if not path.exists():
                o.models.mkdir(parents=True, exist_ok=True)
                subprocess.run([o.rwkv, "convert", "--shape", shape, path, "--type", type, *zeros],
                               check=True)
            yield shape, type, path


def plot(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 0.6 + 0.35 * len(results)), sharey=True)
    labels = [f"{r['model']} {r['type']}, {r['threads']} thr., {r['engine']}" for r in results]
    for panel, kind in zip(panels, ("decode", "prefill")):
        panel.barh(labels, [r[kind]["median"] for r in results],
                   color=["C0" if r["engine"] == "rwkv" else "C1" for r in results])
        panel.set_xlabel(f"{kind}, tokens/s")
    panels[0].invert_yaxis()  # which both share
    figure.tight_layout()
    figure.savefig(path)


def agree(o):
    import numpy

    tokens = [int(token) for token in o.agree.read_text().split()]
    for name, _, path in models_of(o):
        model = Llama(path, o.threads[0], len(tokens), all_logits=True)
        model.read(tokens)
        theirs = numpy.stack([model.logits(i) for i in range(len(tokens))])
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "logits.npy"
            subprocess.run([o.rwkv, "logits", path, "--tokens", o.agree, "--out", out], check=True)
            ours = numpy.load(out)
        error = numpy.abs(ours - theirs)
        print(f"{name}: same likeliest token after {(ours.argmax(1) == theirs.argmax(1)).sum()} of "
              f"{len(tokens)} tokens; logits differ by {numpy.sqrt((error ** 2).mean()):.2g} "
              f"(rms), {error.max():.2g} (most); their spread is {ours.std():.2g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rwkv", help="the rwkv tool")
    parser.add_argument("--model", type=pathlib.Path, nargs="+", default=[], help="GGUF files")
    parser.add_argument("--shape", nargs="+", default=[], help="released shapes: 0.1b 0.4b 1.5b 2.9b")
    parser.add_argument("--type", nargs="+", default=["f16"], help="weight types of the shapes")
    parser.add_argument("--ffn-zeros", type=float,
                        help="fraction of the shapes' hidden units that is zero; default: half")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path("models"),
                        help="folder for models of the shapes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--prompt", type=int, default=512, help="tokens to read at once")
    parser.add_argument("--generate", type=int, default=64, help="tokens to decode per turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="write all results to this file")
    parser.add_argument("--plot", type=pathlib.Path, help="write bars to this .svg or .png")
    parser.add_argument("--agree", type=pathlib.Path, help="compare logits of these token ids")
    o = parser.parse_args()
    if not o.model and not o.shape:
        parser.error("name some --model or --shape")
    if o.agree:
        return agree(o)

    available = [peer for peer, modules in
                 (("llama", ["llama_cpp"]), ("official", ["torch", "rwkv"])) if importable(*modules)]
    print("peers: " + (", ".join(available) or "none can be imported"), file=sys.stderr)
    print("| model | type | threads | program | decode, tokens/s | we are faster by "
          "| prefill, tokens/s | by |\n|---|---|---|---|---|---|---|---|")
    results = []
    for name, type, path in models_of(o):
        peers = [p for p in available if p != "official" or type in ("f32", "bf16")]
        for threads in o.threads:
            turns = compare(o, name, path, type, threads, peers)
            for engine in turns:
                result = {"model": name, "type": type, "threads": threads, "engine": engine,
                          **{kind: row(turns, engine, kind) for kind in ("decode", "prefill")}}
                results.append(result)
                cells = [name, type, str(threads), engine]
                for kind in ("decode", "prefill"):
                    r = result[kind]
                    cells.append(f"{r['median']:.1f} [{r['slowest']:.1f}..{r['fastest']:.1f}]")
                    cells.append("" if engine == "rwkv" else f"{r['ratio']:.2f}x")
                print("| " + " | ".join(cells) + " |", flush=True)
    if o.json:
        o.json.write_text(json.dumps(results, indent=1) + "\n")
    if o.plot:
        plot(results, o.plot)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--turn"]:  # a peer's turn, in a process of its own
        run = {"llama": llama_turn, "official": official_turn}[sys.argv[2]]
        with contextlib.redirect_stdout(sys.stderr):  # the official package talks
            result = run(pathlib.Path(sys.argv[3]), *map(int, sys.argv[4:]))
        print(json.dumps(result))
    else:
        main()
