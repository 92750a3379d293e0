// What other thresholds would change, or other weights of the phases: sliders over the recipe, what moves, and `--set` to copy.

import { copy, get, post } from "./api.js";
import { fill, grown, h, later, number, percent, short, table, words } from "./dom.js";

/** By what is tried: what is kept, or what the phases read of it. The two are never tried together. */
const tried = { kept: new Map(), mixture: new Map() };
let kind = "kept";

/** Values that a slider of a rule steps through. */
function steps(signal, value) {
  if (signal.kind === "count") {
    const most = Math.max(value * 8, 16);
    return [0, ...signal.lows.filter((low) => low <= most), value].filter((v, i, all) => all.indexOf(v) === i).sort((a, b) => a - b);
  }
  const most = signal.kind === "fraction" ? 1 : Math.max(value * 3, 1);
  const values = Array.from({ length: 101 }, (_, k) => Number(((most * k) / 100).toPrecision(4)));
  return [...values, value].filter((v, i, all) => all.indexOf(v) === i).sort((a, b) => a - b);
}

/** Weights that a slider of a weight steps through: from an eighth of it to eight times as much, since what counts is its share. */
function weightSteps(value) {
  const values = Array.from({ length: 61 }, (_, k) => Number((value * 2 ** ((k - 30) / 10)).toPrecision(3)));
  return [...values, value].filter((v, i, all) => all.indexOf(v) === i).sort((x, y) => x - y);
}

export async function whatIf(place, run) {
  const [facets, phases] = await Promise.all([get("/api/facets"), get("/api/weights")]);
  const changes = tried[kind];
  const rules = facets.signals.flatMap((signal) => signal.rules.map((rule) => ({ ...rule, signal, path: `filters.${rule.section}.${rule.key}` })));
  const result = h("div", { class: "result", "aria-live": "polite" });
  const asked = h("code", { class: "command" });
  let gone = false;
  let busy = false;

  const list = () => [...changes].map(([path, value]) => `${path}=${value}`);
  const tell = () => { asked.textContent = list().map((c) => `--set ${/[\s'"]/.test(c) ? `'${c}'` : c}`).join(" ") || "nothing is changed yet"; };

  const judge = later(350, async () => {
    if (busy || gone) { if (!gone) judge(); return; }
    if (!changes.size) { fill(result, start()); return; }
    busy = true;
    place.dataset.busy = "";
    result.classList.add("pale");
    try {
      if (kind === "mixture") {
        const found = await post("/api/what-if-mixture", { changes: list() });
        if (!gone) fill(result, found.cards.map(grown));
      } else {
        const found = await post("/api/what-if", { changes: list(), examples: 6 });
        if (!gone) fill(result, shown(found, list().some((c) => c.startsWith("dedupe."))));
      }
    } catch (error) {
      if (!gone) fill(result, h("p", { class: "error", role: "alert" }, error.message));
    } finally {
      busy = false;
      result.classList.remove("pale");
      delete place.dataset.busy;
    }
  });

  function change(path, value, before) {
    if (value === before) changes.delete(path);
    else changes.set(path, value);
    tell();
    judge();
  }

  const start = () => h("section", { class: "card empty" }, kind === "mixture"
    ? [h("h2", {}, "Move a weight"), h("p", {}, "The phases are planned again over the kept tokens, and what each would read is shown here. Nothing is written.")]
    : [h("h2", {}, "Move a threshold"), h("p", {}, "The stored signals are judged again, and what would change is shown here. Nothing is written.")]);

  function slider(rule) {
    const values = rule.signal ? steps(rule.signal, rule.value) : weightSteps(rule.value);
    const id = `rule-${rule.path}`;
    const said = h("output", { for: id });
    const now = changes.has(rule.path) ? values.indexOf(changes.get(rule.path)) : values.indexOf(rule.value);
    const input = h("input", { id, type: "range", min: 0, max: values.length - 1, step: 1, value: now < 0 ? values.indexOf(rule.value) : now, on: { input: () => tellValue(true) } });
    const undo = h("button", { type: "button", class: "quiet small gone", on: { click: () => { input.value = values.indexOf(rule.value); tellValue(true); } } }, "undo");
    function tellValue(acts) {
      const value = values[Number(input.value)];
      said.textContent = value === rule.value ? number(value) : `${number(rule.value)} → ${number(value)}`;
      input.setAttribute("aria-valuetext", number(value));
      undo.classList.toggle("gone", value === rule.value);
      row.classList.toggle("chosen", value !== rule.value);
      if (acts) change(rule.path, value, rule.value);
    }
    const row = h("div", { class: "slider" }, h("label", { for: id }, rule.signal ? words(rule.key) : rule.name), input, said, undo);
    tellValue(false);
    return row;
  }

  function near() {
    const said = h("output", { for: "jaccard" });
    const input = h("input", { id: "jaccard", type: "range", min: 50, max: 100, step: 1, value: Math.round(100 * (changes.get("dedupe.jaccard") ?? run.jaccard ?? 0.85)), on: { input: () => {
      said.textContent = (input.value / 100).toFixed(2);
      change("dedupe.jaccard", input.value / 100, run.jaccard ?? null);
    } } });
    said.textContent = (input.value / 100).toFixed(2);
    return h("div", { class: "slider" }, h("label", { for: "jaccard" }, "dedupe.jaccard"), input, said);
  }

  function other() {
    const input = h("input", { id: "change", type: "text", placeholder: kind === "mixture" ? "phases.phase1.tokens=1B" : "filters.web.min_words=80", spellcheck: "false", autocomplete: "off" });
    return h("form", { class: "where", on: { submit: (event) => {
      event.preventDefault();
      const [path, ...value] = input.value.trim().split("=");
      if (path && value.length) {
        changes.set(path, value.join("="));
        input.value = "";
        tell();
        judge();
      }
    } } }, h("label", { for: "change" }, "Another key of the recipe"), input, h("button", { type: "submit" }, "Try"));
  }

  const sections = [...new Set(rules.map((rule) => rule.section))];
  const kinds = h("div", { class: "choice", role: "group", "aria-label": "What is tried" }, [["kept", "What is kept"], ["mixture", "What the phases read"]].map(([name, label]) =>
    h("button", { type: "button", "data-kind": name, "aria-pressed": String(kind === name), on: { click: () => { kind = name; dispatchEvent(new HashChangeEvent("hashchange")); } } }, label)));
  const weights = phases.map((phase) => h("details", { class: "card", open: true }, h("summary", {}, h("h2", {}, phase.name), h("small", {}, phase.weights.length === 1 ? "1 weight" : `${phase.weights.length} weights`)),
    phase.weights.map(slider)));
  place.append(
    h("div", { class: "columns" },
      kind === "mixture" ? h("aside", { class: "facets wide-side", "aria-label": "Weights" }, kinds, weights,
        phases.length ? null : h("p", { class: "note" }, run.note || "The recipe cannot be read."), h("section", { class: "card" }, other())) :
      h("aside", { class: "facets wide-side", "aria-label": "Thresholds" }, kinds,
        run.tried.includes("dedupe") ? h("section", { class: "card" }, h("h2", {}, "Near duplicates"), near()) : null,
        sections.map((section, k) => {
          const own = rules.filter((rule) => rule.section === section);
          const open = k < 2 || own.some((rule) => changes.has(rule.path));
          return h("details", { class: "card", open }, h("summary", {}, h("h2", {}, section === "all" ? "All documents" : section), h("small", {}, own.length === 1 ? "1 rule" : `${own.length} rules`)), own.map(slider));
        }),
        rules.length ? null : h("p", { class: "note" }, run.note || "The recipe sets no thresholds."),
        h("section", { class: "card" }, other())),
      h("div", { class: "side" },
        h("section", { class: "card" }, h("header", {}, h("h2", {}, "As options"), h("button", { type: "button", on: { click: () => copy(list().map((c) => `--set '${c}'`).join(" ")) } }, "Copy as --set"),
          h("button", { type: "button", class: "quiet", on: { click: () => { changes.clear(); dispatchEvent(new HashChangeEvent("hashchange")); } } }, "Reset")),
        h("p", {}, asked)),
        result)));
  tell();
  if (changes.size) judge();
  else fill(result, start());
  return () => { gone = true; };
}

const sum = (counts) => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);

/** What would change, whatever stages were asked: filters fill `dropped` and `restored`; further figures are listed as they come. */
function shown(found, deduplicated) {
  const [lost, won] = [sum(found.dropped), sum(found.restored)];
  const kept = found.kept - lost + won;
  const known = ["documents", "kept", "dropped", "restored", "by_subset", "bytes", "groups", "changed_groups", "examples"];
  const more = Object.entries(found).filter(([name, value]) => !known.includes(name) && ["number", "string"].includes(typeof value));
  const counts = (title, which, kind) => (Object.keys(which ?? {}).length ? h("section", { class: "card" }, h("h2", {}, title),
    table(["rule", "documents", "of all"], Object.entries(which).sort((a, b) => b[1] - a[1]).map(([rule, n]) => [words(rule), number(n), percent(n, found.documents)]), { label: title })) : null);
  const examples = (found.examples ?? []).map((e) => h("article", { class: "example" },
    h("p", {}, h("span", { class: `tag ${e.reason in (found.restored ?? {}) && !(e.reason in (found.dropped ?? {})) ? "kept" : "dropped"}` }, words(e.reason)), " ", h("a", { href: `#/document/${encodeURIComponent(e.name)}` }, e.name), e.value ? h("span", { class: "note" }, ` ${e.value}`) : null),
    h("blockquote", {}, e.text)));
  return [
    h("section", { class: "card hero" }, h("dl", { class: "tiles" },
      h("div", { class: "tile" }, h("dt", {}, deduplicated ? "kept" : "pass the filters"), h("dd", {}, number(kept), h("small", {}, `${number(found.kept)} now`))),
      h("div", { class: "tile" }, h("dt", {}, "would be dropped"), h("dd", {}, number(lost), h("small", {}, percent(lost, found.documents)))),
      h("div", { class: "tile" }, h("dt", {}, "would be kept"), h("dd", {}, number(won), h("small", {}, percent(won, found.documents)))),
      h("div", { class: "tile" }, h("dt", {}, "bytes of text"), h("dd", {}, `${found.bytes > 0 ? "+" : ""}${short(found.bytes ?? 0)}`)),
      found.groups ? h("div", { class: "tile" }, h("dt", {}, "groups to redo"), h("dd", {}, number(found.changed_groups), h("small", {}, `of ${number(found.groups)}`))) : null,
      more.map(([name, value]) => h("div", { class: "tile" }, h("dt", {}, words(name)), h("dd", {}, typeof value === "number" ? number(value) : value))))),
    found.before_passages ? h("p", { class: "note" }, "These are decisions on whole documents, before passages are cut.") : null,
    h("div", { class: "pair" }, counts("Dropped for", found.dropped), counts("Kept again, until now dropped for", found.restored)),
    Object.keys(found.by_subset ?? {}).length ? h("section", { class: "card" }, h("h2", {}, "By subset"), table(["subset", "dropped", "kept again"],
      Object.entries(found.by_subset).sort((a, b) => sum(b[1]) - sum(a[1])).map(([name, [a, b]]) => [name, number(a), number(b)]), { label: "By subset" })) : null,
    examples.length ? h("section", { class: "card" }, h("h2", {}, "Examples"), examples) : lost + won === 0 ? h("section", { class: "card empty" }, h("h2", {}, "Nothing would change")) : null,
  ];
}
