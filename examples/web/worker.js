// SPDX-License-Identifier: Apache-2.0
// The worker behind remote.js: one model, and one text at a time.
import { Model } from "./rwkv.js";

let model, session;
let running = Promise.resolve();
const stopped = new Map();  // by the number of a call that runs or waits

onmessage = ({ data }) => {
  if (data.stop) {
    stopped.get(data.call)?.abort();
    return;
  }
  for (const other of stopped.values()) other.abort();  // a new text ends the one before
  const stopper = new AbortController();
  stopped.set(data.call, stopper);
  running = running.then(() => run(data, stopper));
};

async function run({ call, open, prompt, options }, stopper) {
  try {
    if (open) {
      model = await Model.open(open, options);
      postMessage({ call, shape: model.shape, done: true });
      return;
    }
    if (!session || (prompt && !options.goOn)) {
      session?.free();
      session = model.session();
    }
    for await (const text of session.generate(prompt, { ...options, signal: stopper.signal }))
      postMessage({ call, text });
    postMessage({ call, last: session.last, done: true });
  } catch (error) {
    postMessage({ call, error: error.message, done: true });
  } finally {
    stopped.delete(call);
  }
}
