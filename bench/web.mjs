// SPDX-License-Identifier: Apache-2.0
// node bench/web.mjs <rwkv command-line tool> [folder that examples/web/build.sh wrote] [rounds]
// Tokens per second of tales in WebAssembly beside the same machine's native kernels without AVX2
// (level "compiled") and with it, one thread, in turns: the medians of some rounds.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [tool, folder = "build/web", rounds = "5"] = process.argv.slice(2);
const { Model } = await import(pathToFileURL(`${resolve(folder)}/rwkv.js`));
const file = "examples/models/tales/tales.safetensors";
const tokens = 1000;
const prompt = new TextEncoder().encode("Once upon a time");

function native(type, level) {
  const quantise = type.startsWith("q") ? ["--quantise", type] : type ? ["--type", type] : [];
  const out = execFileSync(tool, ["bench", file, ...quantise, "--threads", "1", "--generate", `${tokens}`,
    "--level", level, "--json"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return JSON.parse(out).decode_tokens_per_second;
}

function wasm(model) {
  const session = model.call("session");
  model.give(prompt);
  model.call("begin", session, prompt.length, tokens, 0, 1, 0, 0, 0, 0, 1, 1);
  model.call("step", session);  // reads the prompt
  const start = performance.now();
  while (model.call("step", session));
  const speed = (tokens / (performance.now() - start)) * 1000;
  model.call("free_session", session);
  return speed;
}

const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
const show = (cells) => console.log(`| ${cells.join(" | ")} |`);
show(["type", "wasm", "native without AVX2", "ratio", "native with AVX2", "ratio"]);
show(["---", "---", "---", "---", "---", "---"]);
for (const type of ["f16", "f32", "q8_0", "q4_0"]) {
  const model = await Model.open(readFileSync(file), { type: type === "f16" ? "" : type });
  for (let i = 0; i < 3; ++i) wasm(model);  // the engine optimises meanwhile
  const measured = [[], [], []];
  for (let i = 0; i < +rounds; ++i) {
    measured[0].push(wasm(model));
    measured[1].push(native(type === "f16" ? "" : type, "compiled"));
    measured[2].push(native(type === "f16" ? "" : type, "avx2"));
  }
  const [here, sse2, avx2] = measured.map(median);
  show([type, here.toFixed(0), sse2.toFixed(0), (here / sse2).toFixed(2), avx2.toFixed(0), (here / avx2).toFixed(2)]);
}
