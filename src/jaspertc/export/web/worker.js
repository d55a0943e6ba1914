// Tokenizer and model, off the page's own thread.
import * as ort from "./vendor/ort.wasm.min.mjs";
import { Tokenizer } from "./vendor/tokenizers.min.mjs";

let tokenizer, session;

async function bytes(url, total) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const reader = response.body.getReader();
  const parts = [];
  let read = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    postMessage({ progress: (read += part.value.length) / total });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function load({ bytes: total }) {
  ort.env.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  const [json, settings] = await Promise.all(
    ["model/tokenizer.json", "model/tokenizer_config.json"].map((url) => fetch(url).then((r) => r.json())));
  tokenizer = new Tokenizer(json, settings);
  const model = await bytes("model/model.onnx", total);
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { threads: ort.env.wasm.numThreads };
}

const int64 = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);

async function embed({ text, ratio, threshold }) {
  const started = performance.now();
  const { ids } = tokenizer.encode(text);
  if (!ids.length) ids.push(0);
  const feeds = {
    input_ids: int64(ids, [1, ids.length]),
    attention_mask: int64(ids.map(() => 1), [1, ids.length]),
    ratio: new ort.Tensor("float64", Float64Array.of(ratio), [1]),
    threshold: int64([threshold], [1]),
  };
  for (const name of Object.keys(feeds)) if (!session.inputNames.includes(name)) delete feeds[name];
  const { embedding } = await session.run(feeds);
  return { vector: Float32Array.from(embedding.data), tokens: ids.length, ms: performance.now() - started };
}

const tasks = { load, embed };
let queue = Promise.resolve();
onmessage = ({ data: { id, task, options } }) => {
  queue = queue.then(() => tasks[task](options)).then(
    (result) => postMessage({ id, result }),
    (error) => postMessage({ id, error: String(error?.message ?? error) }));
};
