// SPDX-License-Identifier: Apache-2.0
// A model in a worker. Types and documentation: remote.d.ts.
import { RwkvError } from "./rwkv.js";

export class RemoteModel {
  #worker;
  #calls = new Map();  // what is waited for, by number
  #next = 0;

  static async open(file, options = {}) {
    const remote = new RemoteModel();
    remote.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    remote.#worker.onmessage = ({ data }) => remote.#calls.get(data.call)?.(data);
    remote.#worker.onerror = (event) => {
      for (const tell of remote.#calls.values()) tell({ error: event.message ?? "the worker has failed" });
    };
    const call = remote.#post({ open: file, options }, file instanceof ArrayBuffer ? [file] : []);
    remote.shape = (await call.next()).value.shape;
    await call.return();
    return remote;
  }

  /** Sends a request and yields the answers. */
  async *#post(request, transfer = []) {
    const call = this.#next++, answers = [];
    let wake = () => {};
    this.#calls.set(call, (answer) => {
      answers.push(answer);
      wake();
    });
    this.#worker.postMessage({ call, ...request }, transfer);
    try {
      for (let done = false; !done;) {
        while (answers.length === 0) await new Promise((resolve) => (wake = resolve));
        const answer = answers.shift();
        if (answer.error) throw new RwkvError(answer.error);
        done = answer.done;
        yield answer;
      }
    } finally {
      this.#calls.delete(call);
      this.#worker.postMessage({ call, stop: true });
    }
  }

  async *generate(prompt = "", { signal, ...options } = {}) {
    for await (const { text, last } of this.#post({ prompt, options })) {
      if (signal?.aborted) return;
      if (text) yield text;
      if (last) this.last = last;
    }
  }

  close() { this.#worker.terminate(); }
}
