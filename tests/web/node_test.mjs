// SPDX-License-Identifier: Apache-2.0
// node node_test.mjs <folder that examples/web/build.sh wrote> [rwkv command-line tool]
// The package in Node.js: sizes, texts, states, refusals; and the texts of the tool, to the bit.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const [folder, tool] = process.argv.slice(2);
const { Model, RwkvError } = await import(pathToFileURL(`${folder}/rwkv.js`));
const tales = readFileSync(`${folder}/tales.safetensors`);
const greedy = { temperature: 0, presencePenalty: 0, frequencyPenalty: 0, maxTokens: 1000 };
const short = { ...greedy, maxTokens: 200 };

async function text(session, prompt, options) {
  let all = "";
  for await (const piece of session.generate(prompt, options)) all += piece;
  return all;
}

const wasm = readFileSync(`${folder}/rwkv.wasm`);
const compressed = gzipSync(wasm, { level: 9 }).length;
console.log(`rwkv.wasm: ${wasm.length} bytes, ${compressed} compressed`);
assert.ok(wasm.length <= 350 * 1024 && compressed <= 110 * 1024, "rwkv.wasm has become too large");

const version = readFileSync(new URL("../../include/rwkv/core/version.hpp", import.meta.url), "utf8")
  .match(/_(MAJOR|MINOR|PATCH) \d+/g).map((line) => line.split(" ")[1]).join(".");
assert.equal(JSON.parse(readFileSync(`${folder}/package.json`)).version, version);

// A thousand tokens have the bits of the host's kernels without FMA.
for (const type of ["", "f32", "q8_0", "q4_0"]) {
  const model = await Model.open(tales, { type });
  assert.deepEqual([model.shape.layers, model.shape.embed, model.shape.vocab], [6, 128, 256]);
  const all = await text(model.session(), "Once upon a time", greedy);
  assert.equal(all.length, 1000);
  if (!tool || !existsSync(tool)) continue;
  const quantise = type.startsWith("q") ? ["--quantise", type] : [];
  const expected = execFileSync(tool, ["generate", "examples/models/tales/tales.safetensors", "--prompt",
    "Once upon a time", "--tokens", "1000", "--temperature", "0", "--threads", "1", "--level", "compiled",
    ...quantise], { encoding: "utf8", cwd: new URL("../..", import.meta.url) });
  assert.equal("Once upon a time" + all + "\n", expected, `${type || "as in the file"}: another text`);
}
if (!tool || !existsSync(tool)) console.log("skipped: the texts of the command-line tool, which is not built");

const model = await Model.open(tales.buffer.slice(tales.byteOffset, tales.byteOffset + tales.length));
assert.equal(model.detokenize(model.tokenize("Zwölf")), "Zwölf");

// A text goes on where it ended, from a fork or a saved state too; the same seed gives the same text.
const session = model.session();
const seeded = { maxTokens: 40, seed: 7 };
const first = await text(session, "Once upon a time", seeded);
assert.deepEqual(session.last, { reason: "max_tokens", tokens: 40 });
const fork = session.fork();
const saved = session.save();
const next = await text(session, "", short);
assert.equal(await text(fork, "", short), next);
assert.equal(await text(model.session(), "Once upon a time", seeded), first);
const restored = model.session();
restored.restore(saved);
assert.deepEqual(restored.save(), saved);
assert.deepEqual(restored.forward([97, 98]), (() => {
  const again = model.session();
  again.restore(saved);
  again.forward([97]);
  return again.forward([98]);
})());
fork.free();

// Stops: strings, which are not shown; a signal; a loop that is left.
const all = await text(model.session(), "Once upon a time", short);
const stop = all.slice(20, 25);
const stopped = model.session();
assert.equal(await text(stopped, "Once upon a time", { ...short, stop: [stop] }), all.slice(0, all.indexOf(stop)));
assert.equal(stopped.last.reason, "stop_string");
const left = model.session();
for await (const _ of left.generate("Once", short)) break;
assert.equal(left.last.reason, "cancelled");
const aborted = new AbortController();
aborted.abort();
assert.equal(await text(left, "", { ...short, signal: aborted.signal }), "");
// Two at once take turns.
const both = [model.session(), model.session()];
assert.deepEqual(await Promise.all(both.map((s) => text(s, "Once upon a time", short))), [all, all]);

// Refusals are sentences, after which the model goes on.
const refused = async (call, sentence) => assert.rejects(async () => call(), (error) => {
  assert.ok(error instanceof RwkvError, error);
  assert.match(error.message, sentence);
  return true;
});
await refused(() => Model.open(new Uint8Array([1, 2, 3])), /no model file/);
await refused(() => Model.open(tales.subarray(0, 500_000)), /lies at bytes/);
await refused(() => Model.open(tales, { type: "q4_k" }), /quantises to q8_0 and q4_0, not to/);
await refused(() => Model.open(tales, { type: "q5" }), /no type q5/);
await refused(() => model.session().forward([]), /./);
await refused(() => model.session().forward([256]), /vocabulary/);
await refused(() => text(model.session(), "a", { temperature: -1 }), /temperature/);
await refused(() => model.session().restore(saved.subarray(8)), /another model/);
for (let i = 0; i < 2_000; ++i) await refused(() => model.session().forward([1000]), /vocabulary/);  // the stack comes back
assert.equal(await text(model.session(), "Once upon a time", short), all);

console.log("node: all as expected");
