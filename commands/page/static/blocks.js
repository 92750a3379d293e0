// A packed block: its documents, every token, and which tokens the loss counts.

import { get } from "./api.js";
import { colour, counted, h, number, percent } from "./dom.js";

export async function blocks(place, run, rest, options) {
  const sets = await get("/api/sets");
  const chosen = sets.find((set) => set.name === options.phase) ?? sets[0];
  if (!chosen) {
    place.append(h("section", { class: "card span empty" }, h("h2", {}, "The run has no blocks")));
    return;
  }
  const splits = chosen.splits;
  const split = splits.find((s) => String(s.length) === options.length) ?? splits.find((s) => s.blocks) ?? splits[0];
  const at = Math.min(Number(options.number ?? 0) || 0, Math.max(split.blocks - 1, 0));
  const go = (values) => {
    location.hash = `#/blocks?${new URLSearchParams({ phase: chosen.name, length: split.length, number: at, ...values })}`;
  };
  const select = (id, label, values, current, pick) => [h("label", { for: id }, label), h("select", { id, on: { change: (event) => pick(event.target.value) } },
    values.map(([value, text]) => h("option", { value, selected: String(value) === String(current) }, text)))];
  const input = h("input", { id: "block", type: "number", min: 0, max: Math.max(split.blocks - 1, 0), value: at, on: { change: (event) => go({ number: event.target.value }) } });
  place.append(h("div", { class: "toolbar" },
    select("phase", "Phase", sets.map((s) => [s.name, s.name]), chosen.name, (phase) => { location.hash = `#/blocks?phase=${encodeURIComponent(phase)}`; }),
    select("length", "Length", splits.map((s) => [s.length, `${number(s.length)} tokens, ${number(s.blocks)} blocks`]), split.length, (length) => go({ length, number: 0 })),
    h("label", { for: "block" }, "Block"), input,
    h("button", { type: "button", on: { click: () => go({ number: Math.max(at - 1, 0) }) } }, "Back"),
    h("button", { type: "button", on: { click: () => go({ number: Math.min(at + 1, split.blocks - 1) }) } }, "Next"),
    h("button", { type: "button", on: { click: () => go({ number: Math.floor(Math.random() * split.blocks) }) } }, "Another")));
  if (!split.blocks) {
    place.append(h("p", { class: "note" }, "This split has no blocks."));
    return;
  }
  const found = await get("/api/block", { phase: chosen.name, length: split.length, number: at });
  const corpora = run.corpora.map((c) => c.name);
  const used = found.length - found.padding;
  const outline = h("div", { class: "stack tall", role: "img", "aria-label": `${counted(found.segments.length, "document")} in ${number(found.length)} tokens` },
    found.segments.map((s, k) => h("a", { class: "part", href: `#segment-${k}`, "data-segment": k, title: `${s.name}: ${number(s.tokens.length)} tokens`, vars: { "--c": colour(corpora, s.source[0]), "--share": s.tokens.length / found.length } })),
    found.padding ? h("div", { class: "part pad", title: `${number(found.padding)} tokens of padding`, vars: { "--share": found.padding / found.length } }) : null);
  const trained = found.segments.reduce((sum, s) => sum + s.trained.reduce((n, [a, b]) => n + b - a, 0), 0);
  const whole = h("div", { class: "segments" }, found.segments.map((s, k) => segment(s, k, corpora)));
  outline.addEventListener("click", (event) => {
    const part = event.target.closest("[data-segment]");
    if (!part) return;
    event.preventDefault();
    whole.children[part.dataset.segment].scrollIntoView({ block: "start" });
    whole.children[part.dataset.segment].querySelector("a").focus();
  });
  const borders = h("button", { type: "button", class: "quiet", "aria-pressed": "false", on: { click: (event) => {
    const on = whole.classList.toggle("tokens");
    event.currentTarget.setAttribute("aria-pressed", String(on));
  } } }, "Show tokens");
  place.append(h("section", { class: "card span" },
    h("header", {}, h("h2", {}, `Block ${number(found.number)} of ${found.phase}`), borders),
    h("p", { class: "lead" }, `${counted(found.segments.length, "document")} in ${number(used)} tokens, ${percent(found.padding, found.length, 2)} padding; the loss counts ${number(trained)} tokens (${percent(trained, used)}).`,
      found.masked ? " What it does not count is pale." : " The first token of each document is no target."),
    outline, whole));
}

function segment(s, k, corpora) {
  const counted = new Uint8Array(s.tokens.length);
  for (const [a, b] of s.trained) counted.fill(1, a, b);
  const special = new Set(s.special);
  const runs = [];
  s.tokens.forEach((token, i) => {
    runs.push(h("span", { class: `t${counted[i] ? "" : " off"}${special.has(i) ? " special" : ""}` }, token));
  });
  return h("article", { class: "segment", id: `segment-${k}`, vars: { "--c": colour(corpora, s.source[0]) } },
    h("header", {}, h("a", { href: `#/document/${encodeURIComponent(String(s.doc_id))}` }, s.name),
      h("span", { class: "note" }, `${s.source.slice(1).join(", ")}; tokens ${number(s.start)}–${number(s.start + s.tokens.length)} of the document`)),
    h("div", { class: "run-of-tokens" }, runs));
}
