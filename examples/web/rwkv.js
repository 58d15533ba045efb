// SPDX-License-Identifier: Apache-2.0
// RWKV-7 models in WebAssembly, for browsers, workers and Node.js. Types and documentation: rwkv.d.ts.

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const reasons = ["none", "max_tokens", "stop_token", "stop_string", "cancelled", "complete"];

export class RwkvError extends Error {}

/** Lets others do something; setTimeout would wait for milliseconds. */
const { port1, port2 } = new MessageChannel();
const resting = [];
port1.onmessage = () => {
  resting.shift()();
  if (resting.length === 0) port1.unref?.();  // Node.js may end
};
port1.unref?.();
const rest = () => new Promise((resolve) => {
  resting.push(resolve);
  port1.ref?.();
  port2.postMessage(0);
});

/** The compiled module; compiled once however many models there are. */
let compiled;
async function compile(source) {
  if (source instanceof WebAssembly.Module) return source;
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return WebAssembly.compile(source);
  const url = new URL(source ?? "./rwkv.wasm", import.meta.url);
  if (url.protocol === "file:" && globalThis.process?.versions?.node) {
    const { readFile } = await import("node:fs/promises");
    return WebAssembly.compile(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new RwkvError(`${url}: ${response.status} ${response.statusText}`);
  return WebAssembly.compile(await response.arrayBuffer());  // whatever type the server says
}

export class Model {
  #exports;
  #broken = null;

  static async open(file, options = {}) {
    const module = options.wasm ? await compile(options.wasm) : await (compiled ??= compile());
    const model = new Model();
    const failed = (from, size) => {
      throw new RwkvError(decoder.decode(model.#bytes(from, size)));
    };
    const clock_time_get = (id, precision, to) => {
      new DataView(model.#exports.memory.buffer).setBigUint64(
        to, BigInt(Math.round(performance.now() * 1e6)), true);
      return 0;
    };
    const proc_exit = () => { throw new RwkvError("the module has ended"); };
    const wasi = new Proxy({ clock_time_get, proc_exit }, { get: (known, name) => known[name] ?? (() => 52) });
    const instance = await WebAssembly.instantiate(module, { rwkv: { failed }, wasi_snapshot_preview1: wasi });
    model.#exports = instance.exports;
    model.call("_initialize");
    const { vocabulary = "", type = "", exactInputs = false } = options;
    const [words, name] = [vocabulary, type].map((t) => (typeof t === "string" ? encoder.encode(t) : new Uint8Array(t)));
    model.give(words, name, file instanceof ArrayBuffer ? new Uint8Array(file) : new Uint8Array(file.buffer, file.byteOffset, file.byteLength));
    model.call("open", words.length, name.length, exactInputs);
    const [layers, embed, vocab, weightBytes] = [0, 1, 2, 3].map((what) => model.call("shape", what));
    model.shape = { layers, embed, vocab, weightBytes };
    return model;
  }

  #bytes(from, size) { return new Uint8Array(this.#exports.memory.buffer, from, size); }

  /** Calls an export; after an error the stack is as it was, after a trap nothing works any more. */
  call(name, ...args) {
    if (this.#broken) throw this.#broken;
    const stack = this.#exports.__stack_pointer, before = stack.value;
    try {
      return this.#exports[name](...args);
    } catch (error) {
      stack.value = before;
      if (error instanceof RwkvError) throw error;
      this.#broken = new RwkvError(`the module has failed, for want of memory perhaps: ${error.message}`);
      throw this.#broken;
    }
  }

  /** Puts bytes where the next call expects them. */
  give(...parts) {
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    let at = this.call("give", size);
    if (at === 0) throw new RwkvError(`there is no memory for ${size} bytes`);
    for (const part of parts) {
      this.#bytes(at, part.length).set(part);
      at += part.length;
    }
  }

  /** A copy of what the last call has to say. */
  out() { return this.#bytes(this.call("out"), this.call("out_size")).slice(); }

  tokenize(text) {
    this.give(encoder.encode(text));
    this.call("tokenize");
    return new Uint32Array(this.out().buffer);
  }

  detokenize(tokens) {
    this.give(new Uint8Array(Uint32Array.from(tokens).buffer));
    this.call("detokenize");
    return decoder.decode(this.out());
  }

  session() { return new Session(this, this.call("session")); }
}

export class Session {
  #at;
  #telling = false;

  constructor(model, at) {
    this.model = model;
    this.#at = at;
  }

  async *generate(prompt = "", options = {}) {
    const { maxTokens = 256, temperature = 1, topP = 0.85, topK = 0, minP = 0, presencePenalty = 0.2,
      frequencyPenalty = 0.2, penaltyDecay = 0.996, seed = Math.random() * 2 ** 32, stop = [], signal } = options;
    if (this.#telling) throw new RwkvError("the session tells another text");
    const text = encoder.encode(prompt);
    this.model.give(text, encoder.encode(stop.map((s) => s + "\0").join("")));
    this.model.call("begin", this.#here(), text.length, maxTokens, temperature, topP, topK, minP, presencePenalty,
      frequencyPenalty, penaltyDecay, seed);
    const streaming = new TextDecoder();
    let rested = performance.now();
    this.#telling = true;
    try {
      for (let more = true; more && !signal?.aborted;) {
        more = this.model.call("step", this.#here()) !== 0;
        const piece = streaming.decode(this.model.out(), { stream: true });
        if (piece) yield piece;
        if (performance.now() - rested < 12) continue;
        await rest();
        rested = performance.now();
      }
    } finally {
      this.#telling = false;
      if (this.#at !== 0) {
        const result = this.model.call("end", this.#at);
        this.last = { reason: reasons[result % 16], tokens: result >>> 4 };
      }
    }
  }

  forward(tokens) {
    this.model.give(new Uint8Array(Uint32Array.from(tokens).buffer));
    this.model.call("forward", this.#here());
    return new Float32Array(this.model.out().buffer);
  }

  fork() { return new Session(this.model, this.model.call("fork", this.#here())); }

  save() {
    this.model.call("save", this.#here());
    return this.model.out();
  }

  restore(bytes) {
    this.model.give(new Uint8Array(bytes));
    this.model.call("restore", this.#here());
  }

  free() {
    if (this.#at !== 0) this.model.call("free_session", this.#at);
    this.#at = 0;
  }

  #here() {
    if (this.#at === 0) throw new RwkvError("the session is free");
    return this.#at;
  }
}
