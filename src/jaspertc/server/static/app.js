// The playground. Plain JavaScript, no dependencies; text reaches the page through textContent only.
const $ = (id) => document.getElementById(id);
const STOPS = [0.1, 0.2, 0.33, 0.5, 0.66, 0.8, 1];
const SHOWN_TOKENS = 1500;
const COLOURS = 6;
const LINES = [
  "Bread rises because yeast turns sugar into carbon dioxide.",
  "面包发酵时，酵母把糖变成二氧化碳。",
  "Tides are caused mainly by the Moon's gravity.",
  "潮汐主要由月球引力引起。",
  "The ferry leaves the harbour at noon.",
  "渡轮中午离开港口。",
];
let info = { prompts: {} };
let samples = { passages: [], questions: [] };

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  Object.assign(node, attributes);
  node.append(...children);
  return node;
};
const dial = () => ({ compression_ratio: Number($("ratio").value), threshold: threshold() });
const threshold = () => Math.max(1, Math.round(Number($("threshold").value)) || 80);
const promptOf = () => ($("prompt").value ? { prompt_name: $("prompt").value } : { prompt: "" });

// One run at a time for each panel: a newer one aborts the older, whose request the server then drops.
const running = new Map();
async function newest(name, wait, work) {
  running.get(name)?.abort();
  const control = new AbortController();
  running.set(name, control);
  try {
    await pause(wait, control.signal);
    await work(control.signal);
    if (running.get(name) === control) problem(name, "");
  } catch (error) {
    if (!control.signal.aborted) problem(name, error.message);
  }
}
const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(new Error("superseded"))));
  });
const problems = new Map();
function problem(name, message) {
  problems.set(name, message);
  const found = [...problems.values()].find(Boolean);
  $("problem").textContent = found ?? "";
  $("problem").hidden = !found;
}

async function call(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const key = sessionStorage.getItem("jaspertc-key");
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, body === undefined ? { headers, signal } : { method: "POST", headers, signal, body: JSON.stringify(body) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.status === 429) {
    await pause(1000 * (Number(answer.headers.get("retry-after")) || 1), signal ?? new AbortController().signal);
    return call(path, body, signal);
  }
  if (answer.status === 401) askForKey();
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error?.message ?? answer.statusText);
  const compute = /compute;dur=([\d.]+)/.exec(answer.headers.get("server-timing") ?? "");
  return { ...content, ms: compute ? Number(compute[1]) : NaN };
}

async function embed(texts, options, signal) {
  const found = await call("v1/embeddings", { model: info.model, input: texts, encoding_format: "base64", ...options }, signal);
  const vectors = found.data.map(({ embedding }) => {
    const bytes = Uint8Array.from(atob(embedding), (letter) => letter.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  });
  return { vectors, ms: found.ms, compressed: found.compression.compressed_tokens };
}
function cosine(a, b) {
  let dot = 0, left = 0, right = 0;
  for (let i = 0; i < a.length; i++) (dot += a[i] * b[i]), (left += a[i] * a[i]), (right += b[i] * b[i]);
  return dot / Math.sqrt(left * right || 1);
}

// --- one text ---------------------------------------------------------------------------------------
let text = { pieces: [], whole: null, points: new Map() };

function target(length) {
  const { compression_ratio: ratio, threshold: least } = dial();
  const wanted = length <= least || !info.can_compress ? length : Math.floor(least + (length - least) * ratio);
  return Math.min(wanted, info.max_positions ?? wanted);
}

function drawTokens() {
  const length = text.pieces.length;
  const count = target(length);
  $("n-tokens").textContent = length || "–";
  $("n-compressed").textContent = length ? count : "–";
  $("bar-out").style.width = length ? `${(100 * count) / length}%` : "0";
  const owner = new Array(length), shared = new Set();
  for (let i = 0; i < count; i++)
    for (let at = Math.floor((i * length) / count); at < Math.ceil(((i + 1) * length) / count); at++)
      owner[at] === undefined ? (owner[at] = i) : shared.add(at);
  const box = $("tokens");
  const shown = Math.min(length, SHOWN_TOKENS);
  while (box.childElementCount > shown) box.lastElementChild.remove();
  while (box.childElementCount < shown) box.append(make("span"));
  for (let at = 0; at < shown; at++) {
    const node = box.children[at];
    const marks = [`c${owner[at] % COLOURS}`];
    if (owner[at - 1] !== owner[at]) marks.push("first");
    if (owner[at + 1] !== owner[at]) marks.push("last");
    if (shared.has(at)) marks.push("shared");
    node.className = marks.join(" ");
    if (node.textContent !== text.pieces[at]) node.textContent = text.pieces[at];
  }
  const rest = length > shown ? ` The first ${shown} tokens are shown.` : "";
  $("windows-note").textContent =
    count === length
      ? `Nothing is merged: ${length <= threshold() ? `the text has no more than ${threshold()} tokens` : "the ratio keeps every token"}.${rest}`
      : `Each run of one colour becomes one token for the transformer; underlined tokens are shared with the run before.${rest}`;
}

const changeText = () =>
  newest("text", 250, async (signal) => {
    const value = $("text").value;
    if (!value.trim()) return;
    const options = { ...promptOf(), threshold: threshold() };
    const found = await call("tokenize", { input: value, ...promptOf() }, signal);
    text = { pieces: found.data[0].pieces, whole: null, points: new Map() };
    drawTokens();
    const full = await embed([value], { ...options, compression_ratio: 1 }, signal);
    text.whole = full;
    text.points.set(1, { cosine: 1, ms: full.ms });
    $("n-full").textContent = full.ms.toFixed(1);
    await measure(signal);
    for (const stop of [...STOPS].reverse()) {
      if (!info.can_compress || text.points.has(stop)) continue;
      const at = await embed([value], { ...options, compression_ratio: stop }, signal);
      text.points.set(stop, { cosine: cosine(at.vectors[0], full.vectors[0]), ms: at.ms });
      drawCurve();
    }
  });

async function measure(signal) {
  if (!text.whole) return;
  const now = await embed([$("text").value], { ...promptOf(), ...dial() }, signal);
  const agreement = cosine(now.vectors[0], text.whole.vectors[0]);
  $("n-compressed").textContent = now.compressed;
  $("n-cosine").textContent = Math.min(1, agreement).toFixed(4);
  $("n-ms").textContent = now.ms.toFixed(1);
  drawCurve();
}
const turn = () => {
  $("ratio-out").textContent = Number($("ratio").value).toFixed(2);
  drawTokens();
  drawCurve();
  newest("turn", 120, measure);
  newest("heat", 300, drawHeat);
  note("");
};

function drawCurve() {
  const svg = $("curve"), left = 38, right = 312, top = 8, bottom = 108;
  const x = (ratio) => left + (right - left) * ratio;
  const points = [...text.points].sort((a, b) => a[0] - b[0]);
  const lowest = Math.min(0.9, ...points.map(([, point]) => Math.floor(point.cosine * 20) / 20));
  const y = (value) => bottom - ((bottom - top) * (value - lowest)) / (1 - lowest);
  const slowest = Math.max(...points.map(([, point]) => point.ms), 1);
  const draw = (tag, attributes, content) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (content) node.textContent = content;
    return node;
  };
  const parts = [lowest, (lowest + 1) / 2, 1].flatMap((value) => [
    draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    draw("text", { x: left - 5, y: y(value) + 3, "text-anchor": "end" }, value.toFixed(3)),
  ]);
  for (const ratio of STOPS)
    parts.push(draw("text", { x: x(ratio), y: bottom + 16, "text-anchor": ratio === 1 ? "end" : "middle" }, String(ratio)));
  for (const [ratio, point] of points) {
    const height = ((bottom - top) * point.ms) / slowest;
    const end = Math.min(right, x(ratio) + 7);
    parts.push(draw("rect", { class: "cost", x: end - 14, width: 14, y: bottom - height, height, rx: 2 }));
  }
  parts.push(draw("polyline", { class: "trace", points: points.map(([ratio, point]) => `${x(ratio)},${y(point.cosine)}`).join(" ") }));
  for (const [ratio, point] of points) parts.push(draw("circle", { class: "dot", cx: x(ratio), cy: y(point.cosine), r: 3 }));
  const now = x(Number($("ratio").value));
  parts.push(draw("line", { class: "now", x1: now, x2: now, y1: top, y2: bottom }));
  svg.replaceChildren(...parts);
}

// --- several texts ----------------------------------------------------------------------------------
async function drawHeat(signal) {
  const texts = $("texts").value.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, 12);
  if (texts.length < 2) return $("heat").replaceChildren();
  const { similarities } = await call("similarity", { input: texts, ...promptOf(), ...dial() }, signal);
  const others = similarities.flatMap((row, i) => row.filter((_, j) => i !== j));
  const low = Math.min(...others), high = Math.max(...others);
  const head = make("tr", {}, make("td", { className: "self" }), ...texts.map((_, j) => make("th", { scope: "col", textContent: j + 1 })));
  const rows = similarities.map((row, i) => {
    const line = make("tr", {}, make("th", { scope: "row", title: texts[i], textContent: `${i + 1} ${texts[i]}` }));
    row.forEach((value, j) => {
      const cell = make("td", { textContent: i === j ? "·" : value.toFixed(2), title: i === j ? "" : `${texts[i]} — ${texts[j]}: ${value.toFixed(4)}` });
      const share = high > low ? (value - low) / (high - low) : 1;
      if (i === j) cell.className = "self";
      else cell.style.setProperty("--p", `${Math.round(6 + 94 * share)}%`);
      if (i !== j && share > 0.55) cell.className = "strong";
      line.append(cell);
    });
    return line;
  });
  $("heat").replaceChildren(head, ...rows);
  $("heat-low").textContent = low.toFixed(2);
  $("heat-high").textContent = high.toFixed(2);
}

// --- search -----------------------------------------------------------------------------------------
const indexes = new Map();
const sizes = { short: (length) => length < 400, medium: (length) => length >= 400 && length < 2000, all: () => true };
const note = (message) =>
  ($("search-note").textContent = message || ($("corpus").value === INDEX ? "By meaning and by words." : "The passages are embedded at the dial's ratio when you search."));
const promptNamed = (...names) => {
  const name = names.find((candidate) => candidate in info.prompts);
  return name ? { prompt_name: name } : { prompt: "" };
};

async function passages(signal) {
  const chosen = samples.passages.filter((passage) => sizes[$("corpus").value](passage.text.length));
  const at = JSON.stringify([$("corpus").value, dial()]);
  if (indexes.has(at)) return { chosen, ...indexes.get(at), fresh: false };
  const bar = $("progress");
  const vectors = [];
  let ms = 0, compressed = 0;
  Object.assign(bar, { hidden: false, max: chosen.length, value: 0 });
  try {
    for (let begin = 0; begin < chosen.length; begin += 8) {
      const part = chosen.slice(begin, begin + 8).map((passage) => passage.text);
      const found = await embed(part, { ...promptNamed("document", "passage"), ...dial() }, signal);
      vectors.push(...found.vectors);
      (ms += found.ms), (compressed += found.compressed), (bar.value = vectors.length);
    }
  } finally {
    bar.hidden = true;
  }
  indexes.set(at, { vectors, ms, compressed });
  return { chosen, vectors, ms, compressed, fresh: true };
}

// The user's own index, if the server has one: it ranks there, and a hit shows its passage.
const INDEX = "index";
async function searchIndex(query, signal) {
  const begin = performance.now();
  const { data } = await call("v1/search", { query, k: 5 }, signal);
  $("hits").replaceChildren(
    ...data.map(({ id, score, text, start, stop, heading }) => {
      const letters = [...text]; // Python counts characters, JavaScript UTF-16 units
      const place = stop - start < letters.length ? ` · ${Math.floor((100 * start) / letters.length)} %${heading ? ` · ${heading}` : ""}` : "";
      const item = make("li", {}, make("header", {}, make("b", { textContent: score.toFixed(4) }), make("span", { textContent: `${id}${place}` })));
      const part = letters.slice(start, stop).join("");
      item.append(part.length > 220 ? `${part.slice(0, 220)}…` : part);
      return item;
    }),
  );
  note(`${info.index.documents} documents of ${info.index.name}, searched in ${(performance.now() - begin).toFixed(0)} ms.`);
}

const search = () =>
  newest("search", 0, async (signal) => {
    const query = $("query").value.trim();
    if (!query) return;
    if ($("corpus").value === INDEX) return searchIndex(query, signal);
    const { compression_ratio: ratio } = dial();
    const { chosen, vectors, ms, compressed } = await passages(signal);
    const [asked] = (await embed([query], { ...promptNamed("query"), ...dial() }, signal)).vectors;
    const scores = chosen.map((passage, i) => ({ passage, score: cosine(asked, vectors[i]) })).sort((a, b) => b.score - a.score);
    const question = samples.questions.find((row) => row.question === query);
    const rank = question ? scores.findIndex(({ passage }) => passage.id === question.passage) + 1 : 0;
    const low = scores.at(-1).score;
    $("hits").replaceChildren(
      ...scores.slice(0, 5).map(({ passage, score }) => {
        const meter = make("meter", { min: 0, max: 1, value: (score - low) / (1 - low || 1), title: "above the worst passage" });
        const item = make("li", {}, make("header", {}, make("b", { textContent: score.toFixed(4) }), make("span", { textContent: `${passage.lang} · ${passage.topic}` }), meter));
        item.append(passage.text.length > 220 ? `${passage.text.slice(0, 220)}…` : passage.text);
        if (question?.passage === passage.id) item.className = "expected";
        return item;
      }),
    );
    const place = rank ? ` The expected passage is number ${rank}.` : "";
    note(`${chosen.length} passages as ${compressed} compressed tokens at ρ = ${ratio.toFixed(2)}, computed in ${(ms / 1000).toFixed(2)} s.${place}`);
  });

// --- start ------------------------------------------------------------------------------------------
function askForKey() {
  if (!$("key-dialog").open) $("key-dialog").showModal();
}
$("open-key").addEventListener("click", askForKey);
$("key-cancel").addEventListener("click", () => $("key-dialog").close("cancel"));
$("key-dialog").addEventListener("close", () => {
  if ($("key-dialog").returnValue !== "ok") return;
  sessionStorage.setItem("jaspertc-key", $("key").value.trim());
  start();
});
$("ratio").addEventListener("input", turn);
$("threshold").addEventListener("input", () => (turn(), changeText()));
$("prompt").addEventListener("change", () => (changeText(), newest("heat", 0, drawHeat)));
$("text").addEventListener("input", changeText);
$("texts").addEventListener("input", () => newest("heat", 500, drawHeat));
$("search").addEventListener("submit", (event) => (event.preventDefault(), search()));
$("corpus").addEventListener("change", search);

function chips(box, entries, choose) {
  box.replaceChildren(
    ...entries.map(([label, value]) => {
      const button = make("button", { type: "button", textContent: label });
      button.addEventListener("click", () => choose(value));
      return button;
    }),
  );
}

function fill() {
  const paragraphs = samples.passages.filter((passage) => sizes.medium(passage.text.length));
  const pick = (lang, at) => paragraphs.filter((passage) => passage.lang === lang).at(at);
  const offered = [pick("en", 0), pick("zh", 0), pick("en", 2), pick("zh", 2), samples.passages.at(-1)].filter(Boolean);
  chips($("text-samples"), offered.map((passage) => [`${passage.topic}, ${passage.lang}, ${passage.text.length} characters`, passage.text]), (value) => {
    $("text").value = value;
    changeText();
  });
  const known = new Set(paragraphs.map((passage) => passage.id));
  const asked = samples.questions.filter((row) => known.has(row.passage));
  chips($("questions"), [0, 0.3, 0.6, 0.9].map((share) => asked[Math.floor(share * asked.length)]).filter(Boolean).map((row) => [row.question, row.question]), (value) => {
    $("query").value = value;
    search();
  });
  if (!$("text").value) $("text").value = offered[0]?.text ?? "";
  if (!$("texts").value) $("texts").value = LINES.join("\n");
}

function start() {
  newest("start", 0, async (signal) => {
    $("dot").className = "dot off";
    info = await call("info", undefined, signal);
    samples = await call("samples", undefined, signal);
    $("dot").className = "dot on";
    $("model").textContent = `${info.model} · ${info.dims.at(-1)} dimensions`;
    $("prompt").replaceChildren(
      make("option", { value: "", textContent: "none" }),
      ...Object.keys(info.prompts).map((name) => make("option", { value: name, textContent: name, selected: name === info.default_prompt })),
    );
    if (info.index && !$("corpus").querySelector(`[value=${INDEX}]`)) {
      $("corpus").prepend(make("option", { value: INDEX, textContent: `your index, ${info.index.documents} documents` }));
      $("corpus").value = INDEX;
      $("h-search").textContent = "Search your documents";
    }
    $("threshold").value = info.threshold;
    $("ratio").value = info.ratio;
    $("ratio").disabled = !info.can_compress;
    $("pictures").hidden = !info.picture_tokens.length;
    fill();
    turn();
    changeText();
  });
}
start();

export { $, cosine, embed, info, make, newest };
