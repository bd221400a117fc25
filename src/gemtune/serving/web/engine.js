// What the page knows of a language model: load it, ask it, stop it. Here it is llama.cpp, compiled to WebAssembly.

import { Wllama } from "./wllama/index.js";

const WASM = new URL("wllama/wllama.wasm", import.meta.url).href;
const FOR_SAFARI = {
  worker: new URL("wllama/compat.js", import.meta.url).href,
  wasm: new URL("wllama/compat.wasm", import.meta.url).href,
};

export class Engine {
  /** Loads a GGUF model; `gpu` says whether WebGPU computes, or the processor. */
  static async load(model, { gpu, context }) {
    const wllama = new Wllama({ default: WASM }, { suppressNativeLog: true });
    wllama.setCompat(FOR_SAFARI);
    await wllama.loadModel([model], { n_ctx: context, n_parallel: 1, n_gpu_layers: gpu ? 99999 : 0 });
    return new Engine(wllama, gpu);
  }

  static async hasGpu() {
    return Boolean(await navigator.gpu?.requestAdapter().catch(() => null));
  }

  constructor(wllama, gpu) {
    this.wllama = wllama;
    const threads = wllama.isMultithread() ? wllama.getNumThreads() : 1;
    this.name = gpu ? "graphics card (WebGPU)" : `processor, ${threads} thread${threads > 1 ? "s" : ""}`;
  }

  /** The reply to a prompt and its tokens per second; `onText` gets the reply as far as it is. */
  async answer(prompt, { limit, temperature = 0, topP = 1, signal, onText = () => {} }) {
    const settings = { prompt, max_tokens: limit, temperature, top_p: topP, abortSignal: signal };
    let text = "";
    let speed = 0;
    for await (const piece of await this.wllama.createCompletion({ ...settings, stream: true })) {
      text += piece.choices[0]?.text ?? "";
      speed = piece.timings?.predicted_per_second ?? speed;
      onText(text);
    }
    return { text, speed };
  }

  stop() {
    return this.wllama.exit();
  }
}
