// The OpenAPI document, as a page. Text reaches the page through textContent only.
const api = document.getElementById("api");
const key = sessionStorage.getItem("jaspertc-key");
const make = (tag, text, ...children) => {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
};

const kind = (schema) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const) return JSON.stringify(schema.const);
  if (schema.type === "array") return schema.items ? `list of ${kind(schema.items)}` : "list";
  return schema.type ?? "any";
};

function fields(schema) {
  const table = make("table", "", make("tr", "", ...["field", "type", "meaning"].map((name) => make("th", name))));
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    const needed = (schema.required ?? []).includes(name) ? " (required)" : "";
    table.append(make("tr", "", make("td", "", make("code", name)), make("td", kind(part)), make("td", (part.description ?? "") + needed)));
  }
  return table;
}

function operation(path, verb, entry, schemas) {
  const card = make("section");
  card.className = "card";
  const label = make("span", verb.toUpperCase());
  label.className = "verb";
  card.append(make("h2", "", label, make("code", path)), make("p", entry.description ?? entry.summary ?? ""));
  const body = entry.requestBody?.content?.["application/json"]?.schema?.$ref?.split("/").pop();
  if (body) card.append(fields(schemas[body]));
  const codes = Object.entries(entry.responses ?? {}).map(([code, answer]) => `${code}: ${answer.description}`);
  const note = make("p", codes.join("  ·  "));
  note.className = "quiet";
  card.append(note);
  return card;
}

try {
  const answer = await fetch("openapi.json", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error?.message ?? answer.statusText);
  const example = make("pre", `curl ${location.origin}/v1/embeddings \\
  -H 'Content-Type: application/json' \\
  -d '{"model": "NAME", "input": ["a text", "一段文字"], "compression_ratio": 0.33}'`);
  api.replaceChildren(example);
  for (const [path, verbs] of Object.entries(found.paths))
    for (const [verb, entry] of Object.entries(verbs)) api.append(operation(path, verb, entry, found.components.schemas));
} catch (error) {
  api.replaceChildren(make("p", `The document could not be read: ${error.message}. If this server asks for a key, enter it on the playground page first.`));
}
