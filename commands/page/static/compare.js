// Two runs: what changed in their recipes, their outcomes as deltas, and the documents that went from one outcome to another.

import { get } from "./api.js";
import { counted, fill, h, number, percent, table, words } from "./dom.js";

export async function compare(place, run) {
  if (!run.other) {
    place.append(h("section", { class: "card span empty" }, h("h2", {}, "One run"), h("p", {}, "Name a second one to compare it with: ", h("code", {}, "fox1 inspect RUN RUN_B"))));
    return;
  }
  place.append(h("p", { class: "note" }, "Comparing the decisions of both runs …"));
  const found = await get("/api/compare");
  const [a, b] = found.names;
  const all = {};
  for (const outcomes of Object.values(found.outcomes)) {
    for (const [name, [before, after]] of Object.entries(outcomes)) {
      const own = (all[name] ??= [0, 0]);
      own[0] += before;
      own[1] += after;
    }
  }
  const total = (which, side) => Object.values(which).reduce((n, pair) => n + pair[side], 0);
  const sums = [total(all, 0), total(all, 1)];
  const changed = found.changes.reduce((n, change) => n + change.documents, 0);
  const kept = all.kept ?? [0, 0];
  const delta = (before, after, of = sums) => {
    const points = 100 * (after / Math.max(of[1], 1) - before / Math.max(of[0], 1));
    return h("span", { class: `delta ${points > 0.005 ? "up" : points < -0.005 ? "down" : ""}` }, `${points > 0 ? "+" : points < 0 ? "−" : ""}${Math.abs(points).toFixed(2)}`);
  };
  const names = Object.keys(all).sort((x, y) => (x === "kept" ? -1 : y === "kept" ? 1 : Math.max(...all[y]) - Math.max(...all[x])));
  const documents = h("section", { class: "card", "aria-live": "polite" });
  fill(place,
    h("section", { class: "card span hero" }, h("h2", {}, `${a} and ${b}`),
      h("dl", { class: "tiles" },
        h("div", { class: "tile" }, h("dt", {}, `kept in ${a}`), h("dd", {}, number(kept[0]), h("small", {}, percent(kept[0], sums[0])))),
        h("div", { class: "tile" }, h("dt", {}, `kept in ${b}`), h("dd", {}, number(kept[1]), h("small", {}, percent(kept[1], sums[1])))),
        h("div", { class: "tile" }, h("dt", {}, "with another outcome"), h("dd", {}, number(changed), h("small", {}, percent(changed, changed + found.unchanged)))),
        h("div", { class: "tile" }, h("dt", {}, "unchanged"), h("dd", {}, number(found.unchanged))))),
    h("section", { class: "card span" }, h("h2", {}, "Keys of the recipes that differ"),
      found.settings.length ? table(["key", a, b], found.settings.map((s) => [s.key, s.before, s.after]), { text: [1, 2], label: "Keys" }) : h("p", { class: "lead" }, "The recipes say the same.")),
    h("section", { class: "card span" }, h("h2", {}, "From one outcome to another"),
      h("p", { class: "lead" }, `Rows: what became of a document in ${a}; columns: in ${b}. Choose a cell to see its documents.`), matrix(found, documents, a, b)),
    documents,
    h("section", { class: "card span" }, h("h2", {}, "Outcomes, in percentage points"),
      table(["outcome", a, "share", b, "share", "delta", ...Object.keys(found.outcomes)], names.map((name) => [
        words(name), number(all[name][0]), percent(all[name][0], sums[0]), number(all[name][1]), percent(all[name][1], sums[1]), delta(...all[name]),
        ...Object.values(found.outcomes).map((own) => (own[name] ? delta(...own[name], [total(own, 0), total(own, 1)]) : ""))]), { label: "Outcomes" })));
  documents.hidden = true;
}

function matrix(found, documents, a, b) {
  if (!found.changes.length) return h("p", { class: "lead" }, "No document has another outcome.");
  const rows = [...new Set(found.changes.map((c) => c.before))];
  const columns = [...new Set(found.changes.map((c) => c.after))];
  const most = Math.max(...found.changes.map((c) => c.documents));
  const show = (change) => {
    documents.hidden = false;
    fill(documents, h("h2", {}, `${words(change.before)} → ${words(change.after)}`),
      h("p", { class: "lead" }, `${counted(change.documents, "document")}${change.examples.length < change.documents ? `; ${change.examples.length} of them` : ""}`),
      h("ul", { class: "list" }, change.examples.map((name) => h("li", {}, h("span", {}, name), " ",
        change.before === "not in the run" ? null : h("a", { href: `#/document/${encodeURIComponent(name)}` }, `in ${a}`), " ",
        change.after === "not in the run" ? null : h("a", { href: `#/document/${encodeURIComponent(name)}?run=1` }, `in ${b}`)))));
    documents.scrollIntoView({ block: "nearest" });
  };
  return table(["", ...columns.map(words)], rows.map((row) => [words(row), ...columns.map((column) => {
    const change = found.changes.find((c) => c.before === row && c.after === column);
    if (!change) return "·";
    return h("button", { type: "button", class: "cell", vars: { "--heat": `${Math.round(12 + 60 * Math.sqrt(change.documents / most))}%` }, "aria-label": `${counted(change.documents, "document")} from ${words(row)} to ${words(column)}`, on: { click: () => show(change) } }, number(change.documents));
  })]), { label: "From one outcome to another" });
}
