// What the page knows of a language model: load it, ask it, stop it. Here it is llama.cpp, compiled to WebAssembly.

import { Wllama } from "./wllama/index.js";

const WASM = new URL("wllama/wllama.wasm", import.meta.url).href;
const FOR_SAFARI = {
  worker: new URL("wllama/compat.js", import.meta.url).href,
  wasm: new URL("wllama/compat.wasm", import.meta.url).href,
};

export class Engine {
  /** Loads a GGUF model; `gpu`, the name of a graphics card, computes, or where there is none the processor. */
  static async load(model, { gpu, context }) {
    let layers = 0; // that are on the graphics card: where it cannot use it, llama.cpp takes the processor in silence
    const log = (line) => (layers = Number(/offloaded (\d+)\/\d+ layers to GPU/.exec(line)?.[1] ?? layers));
    const logger = { debug: log, log, warn: log, error: console.error };
    const wllama = new Wllama({ default: WASM }, { logger });
    wllama.setCompat(FOR_SAFARI);
    await wllama.loadModel([model], { n_ctx: context, n_parallel: 1, n_gpu_layers: gpu ? 99999 : 0 });
    if (!gpu || layers) return new Engine(wllama, gpu);
    await wllama.exit();
    throw new Error("llama.cpp does not use it");
  }

  /** The name of a graphics card that llama.cpp can use: it computes in float16. */
  static async gpu() {
    const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
    if (!adapter?.features.has("shader-f16")) return null;
    const { vendor, architecture } = adapter.info;
    return [vendor, architecture].filter(Boolean).join(" ") || "unnamed";
  }

  constructor(wllama, gpu) {
    this.wllama = wllama;
    this.gpu = gpu;
    const threads = wllama.isMultithread() ? wllama.getNumThreads() : 1;
    this.name = gpu ? `graphics card (WebGPU, ${gpu})` : `processor, ${threads} thread${threads > 1 ? "s" : ""}`;
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
