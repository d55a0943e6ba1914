// A picture dropped on the page: the captions nearest to it, at several numbers of tokens.
import { $, cosine, embed, info, make, newest } from "./app.js";

const CAPTIONS = [
  "a cat", "a dog", "a red apple", "a car in the street", "a house with a garden", "a smiling face", "a flower", "the sun over the sea",
  "一只猫", "一只狗", "红苹果", "街上的汽车", "带花园的房子", "笑脸", "一朵花", "海上的太阳",
];
const SHOWN = [1, 4, 16, 49];
let picture = null;

const asDataUrl = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("The file cannot be read.")));
    reader.readAsDataURL(file);
  });

const look = () =>
  newest("picture", 0, async (signal) => {
    if (!picture) return;
    const captions = $("captions").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const said = (await embed(captions, {}, signal)).vectors;
    const rows = [];
    for (const tokens of SHOWN.filter((count) => info.picture_tokens.includes(count))) {
      const seen = await embed([{ image: picture }], { image_tokens: tokens }, signal);
      const best = captions.map((caption, i) => ({ caption, score: cosine(seen.vectors[0], said[i]) })).sort((a, b) => b.score - a.score).slice(0, 3);
      const nearest = best.map(({ caption, score }) => `${caption} ${score.toFixed(2)}`).join(" · ");
      rows.push(make("tr", {}, make("td", { textContent: tokens }), make("td", { textContent: nearest }), make("td", { textContent: seen.ms.toFixed(0) })));
    }
    $("seen").replaceChildren(...rows);
  });

async function take(file) {
  if (!file) return;
  picture = await asDataUrl(file);
  $("preview").src = picture;
  $("preview").hidden = false;
  $("preview").alt = file.name;
  look();
}

const zone = $("drop");
$("picture").addEventListener("change", () => take($("picture").files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  zone.addEventListener(name, (event) => (event.preventDefault(), zone.classList.toggle("over", name === "dragover")));
}
zone.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
$("captions").value = CAPTIONS.join("\n");
$("captions").addEventListener("change", look);
