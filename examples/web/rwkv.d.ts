// SPDX-License-Identifier: Apache-2.0

/** What the library says went wrong, in a sentence. */
export class RwkvError extends Error {}

export interface ModelOptions {
  /** "q8_0", "q4_0", "f32", "f16" or "bf16": how the matrices are held. Default: as in the file. */
  type?: string;
  /** The content of an official vocabulary file, for models that carry none. */
  vocabulary?: string | ArrayBuffer | Uint8Array;
  /** Multiplies quantised matrices with inputs that are not rounded. */
  exactInputs?: boolean;
  /** rwkv.wasm: where it is, or what it is. Default: beside this script. */
  wasm?: string | URL | ArrayBuffer | ArrayBufferView | WebAssembly.Module;
}

export interface Shape {
  readonly layers: number;
  readonly embed: number;
  readonly vocab: number;
  readonly weightBytes: number;
}

export interface GenerateOptions {
  /** 256 */
  maxTokens?: number;
  /** 1; 0: always the most probable token. */
  temperature?: number;
  /** 0.85 */
  topP?: number;
  /** 0: off */
  topK?: number;
  /** 0: off */
  minP?: number;
  /** 0.2 */
  presencePenalty?: number;
  /** 0.2 */
  frequencyPenalty?: number;
  /** 0.996 */
  penaltyDecay?: number;
  /** The same seed gives the same text. Default: a random one. */
  seed?: number;
  /** Texts that end the text; they are not shown. */
  stop?: string[];
  /** Stops between two tokens. */
  signal?: AbortSignal;
}

/** Why a text ended, and how many tokens it has. */
export interface TextEnd {
  reason: "max_tokens" | "stop_token" | "stop_string" | "cancelled" | "complete";
  tokens: number;
}

/** A model, with WebAssembly memory of its own, which goes when nothing refers to it any more. */
export class Model {
  /** Opens the content of a safetensors or GGUF file. Throws RwkvError. */
  static open(file: ArrayBuffer | ArrayBufferView, options?: ModelOptions): Promise<Model>;
  readonly shape: Shape;
  /** A text that begins. */
  session(): Session;
  tokenize(text: string): Uint32Array;
  detokenize(tokens: Iterable<number>): string;
}

/** All that a text has led to: a state of constant size. One call at a time. */
export class Session {
  readonly model: Model;
  /** Of the last text. */
  readonly last?: TextEnd;
  /**
   * Reads the prompt and goes on, piece by piece; others get their turn in between. Without a prompt
   * it goes on where the last text ended. A loop that is left ends the text.
   */
  generate(prompt?: string, options?: GenerateOptions): AsyncGenerator<string, void, void>;
  /** Reads tokens and returns the logits after them. */
  forward(tokens: Iterable<number>): Float32Array;
  /** Another text with the same past. */
  fork(): Session;
  /** The state as bytes, for `restore` of a session of the same model. */
  save(): Uint8Array;
  restore(bytes: ArrayBuffer | Uint8Array): void;
  /** Gives the memory back. */
  free(): void;
}
