// SPDX-License-Identifier: Apache-2.0
import type { GenerateOptions, ModelOptions, Shape, TextEnd } from "./rwkv.js";

/** A model that runs in a worker of its own, for pages: with one text, which goes on. */
export class RemoteModel {
  /** See Model.open. An ArrayBuffer goes over to the worker, and is empty here afterwards. */
  static open(file: ArrayBuffer | ArrayBufferView, options?: ModelOptions): Promise<RemoteModel>;
  readonly shape: Shape;
  /** Of the last text that ended by itself. */
  readonly last?: TextEnd;
  /** See Session.generate; with a prompt, another text begins unless `options.goOn` is true. */
  generate(prompt?: string, options?: GenerateOptions & { goOn?: boolean }): AsyncGenerator<string, void, void>;
  /** Ends the worker. */
  close(): void;
}
