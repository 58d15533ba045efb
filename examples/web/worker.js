// SPDX-License-Identifier: Apache-2.0
// The worker behind remote.js: one model, and one text at a time.
import { Model } from "./rwkv.js";

let model, session;
const stopped = new Map();  // by the number of a call that runs

onmessage = async ({ data: { call, open, prompt, options, stop } }) => {
  if (stop) {
    stopped.get(call)?.abort();
    return;
  }
  const stopper = new AbortController();
  stopped.set(call, stopper);
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
};
