const $ = (id) => document.getElementById(id);
const SPEED_TEXTS = 6, ROUNDS = 3, SHOWN = 5, CHIPS = 6;
const facts = await fetch("model/facts.json").then((r) => r.json());
const { passages, questions } = await fetch("samples.json").then((r) => r.json());
passages.sort((a, b) => a.text.length - b.text.length); // the first results come soon
let worker, ready = false, vectors = [], version = 0, asked = null;

// One message, one answer.
const waiting = new Map();
function call(task, options) {
  const id = Math.random();
  worker.postMessage({ id, task, options });
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}
function say(text, share = null, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
  $("progress").hidden = share === null;
  if (share !== null) $("progress").value = share;
}
const number = (value) => value.toLocaleString("en");
const ratio = () => Number($("ratio").value);
const threshold = () => Math.max(1, Math.trunc(Number($("threshold").value)) || facts.threshold);
const prompt = (name) => facts.prompts[name] ?? "";
const embed = (text, at = ratio()) => call("embed", { text, ratio: at, threshold: threshold() });
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b) || 1);
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

function compressed(tokens, at) {
  const wanted = tokens <= threshold() ? tokens : Math.trunc(threshold() + (tokens - threshold()) * at);
  return Math.min(wanted, facts.positions);
}

function later(ms, action) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, ms); };
}

// The passages, again whenever asked to.
async function embedPassages() {
  const mine = ++version, at = ratio();
  vectors = [];
  $("at").textContent = at.toFixed(2);
  $("again").hidden = true;
  for (const [i, passage] of passages.entries()) {
    const { vector } = await embed(prompt("document") + passage.text, at);
    if (mine !== version) return;
    vectors.push(vector);
    $("embedded").textContent = `${vectors.length} of ${passages.length}`;
    say("embedding the passages …", (i + 1) / passages.length);
    if (asked && i % 24 === 23) await search();
  }
  say("ready");
  if (asked) await search();
}

async function search() {
  const query = $("query").value.trim();
  if (!ready || !query) return;
  asked = questions.find((q) => q.question === query) ?? { question: query };
  const { vector, ms } = await embed(prompt("query") + query);
  const order = vectors.map((v, i) => [cosine(vector, v), i]) // a sample question is asked across languages
    .filter(([, i]) => passages[i].lang !== asked.lang).sort((a, b) => b[0] - a[0]);
  const rank = order.findIndex(([, i]) => passages[i].id === asked.passage) + 1;
  const expected = rank ? ` Of the passages in the other language, the one it was written for is number ${rank}.` : "";
  $("search-note").textContent = `${ms.toFixed(0)} ms for the question.${expected}`;
  $("hits").replaceChildren(...order.slice(0, SHOWN).map(([score, i]) => {
    const [item, text, note] = ["li", "p", "small"].map((tag) => document.createElement(tag));
    text.textContent = passages[i].text;
    item.classList.toggle("right", passages[i].id === asked.passage);
    note.textContent = `${score.toFixed(3)} · ${passages[i].lang} · ${passages[i].topic}`;
    item.append(text, note);
    return item;
  }));
}

async function showText() {
  if (!ready) return;
  const text = prompt("document") + $("text").value;
  const here = await embed(text), whole = await embed(text, 1);
  $("n-tokens").textContent = number(here.tokens);
  $("n-compressed").textContent = number(compressed(here.tokens, ratio()));
  $("n-ms").textContent = here.ms.toFixed(0);
  $("n-cosine").textContent = cosine(here.vector, whole.vector).toFixed(4);
}

async function measure() {
  $("measure").disabled = true;
  const long = passages.filter((p) => p.text.length > (p.lang === "zh" ? 180 : 800));
  const chosen = Array.from({ length: SPEED_TEXTS }, (_, i) => long[Math.floor((i * long.length) / SPEED_TEXTS)]);
  const ratios = [...new Set([1, 0.33, ratio()])].sort((a, b) => b - a);
  const times = new Map(ratios.map((r) => [r, []])), tokens = new Map();
  for (let round = 0; round < ROUNDS; round++) {
    for (const at of ratios) {
      let total = 0, count = 0;
      for (const passage of chosen) {
        const { ms, tokens: length } = await embed(prompt("document") + passage.text, at);
        total += ms;
        count += compressed(length, at);
      }
      times.get(at).push(total / chosen.length);
      tokens.set(at, count);
    }
    say("measuring …", (round + 1) / ROUNDS);
  }
  say("ready");
  const slowest = median(times.get(1));
  $("speed").tBodies[0].replaceChildren(...ratios.map((at) => {
    const row = document.createElement("tr"), ms = median(times.get(at));
    row.dataset.ratio = at;
    const cells = [at, number(tokens.get(at)), ms.toFixed(0), `${(slowest / ms).toFixed(2)}×`];
    row.append(...cells.map((value) => Object.assign(document.createElement("td"), { textContent: value })));
    return row;
  }));
  $("speed-note").textContent =
    `${chosen.length} passages, one at a time, median of ${ROUNDS} interleaved rounds; texts up to ${threshold()} tokens are never compressed.`;
  $("measure").disabled = false;
}

// A page that a service worker serves works offline and may use threads; both need one reload.
async function isolate() {
  if (!navigator.serviceWorker) return false;
  await navigator.serviceWorker.register(`sw.js?${facts.fingerprint}`);
  await navigator.serviceWorker.ready;
  if (!crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
    sessionStorage.setItem("reloaded", "yes");
    location.reload();
    await new Promise(() => {});
  }
  return Boolean(navigator.serviceWorker.controller);
}

function prepare() {
  $("model").textContent = `${facts.model} (${(facts.bytes / 1e6).toFixed(0)} MB, ${facts.weights})`;
  $("facts").textContent =
    `Licence of the model: ${facts.licence.replace(/\.$/, "")}. ${facts.dims} dimensions; written by jaspertc ${facts.version}; computed by ONNX Runtime Web.`;
  $("threshold").value = facts.threshold ?? 80;
  if (facts.ratio === null) $("ratio").disabled = $("threshold").disabled = true;
  $("text").value = passages.find((p) => p.text.length > 800)?.text ?? passages[0].text;
  const language = new Map(passages.map((p) => [p.id, p.lang]));
  const crossing = questions.filter((q) => q.lang !== language.get(q.passage));
  const chosen = Array.from({ length: CHIPS }, (_, i) => crossing[Math.floor((i * crossing.length) / CHIPS)]);
  $("query").value = chosen[0].question;
  $("questions").replaceChildren(...chosen.map((q) => {
    const chip = Object.assign(document.createElement("button"), { type: "button", textContent: q.question });
    chip.onclick = () => { $("query").value = q.question; search(); };
    return chip;
  }));
  const changed = later(150, () => { showText(); if (asked) search(); });
  $("ratio").oninput = () => {
    $("ratio-out").textContent = ratio().toFixed(2);
    $("again").hidden = !vectors.length;
    changed();
  };
  $("threshold").oninput = changed;
  $("text").oninput = later(300, showText);
  $("search").onsubmit = (event) => { event.preventDefault(); search(); };
  $("again").onclick = embedPassages;
  $("measure").onclick = measure;
}

prepare();
try {
  const kept = await isolate().catch(() => false);
  worker = new Worker("worker.js", { type: "module" });
  worker.onerror = (event) => say(event.message || "the worker could not start", null, true);
  worker.onmessage = ({ data: { id, result, error, progress } }) => {
    if (progress !== undefined) return say("loading the model …", progress);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    error ? reject(new Error(error)) : resolve(result);
  };
  say("loading the model …", 0);
  const { threads } = await call("load", { bytes: facts.bytes });
  ready = true;
  $("offline").textContent = kept ? "It now works offline." : "";
  $("facts").textContent += ` Threads: ${threads}.`;
  await showText();
  await search();
  await embedPassages();
  await measure();
} catch (error) {
  say(error.message, null, true);
}
