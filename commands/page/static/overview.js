// What came in, what stayed, what trains; findings in words.

import { bytes, colour, h, number, percent, short, table, words } from "./dom.js";
import { choose } from "./explore.js";

const LOST = ["unreadable", "taken out on request", "licence", "blocked URLs", "benchmark items", "filtered", "held-out copies", "exact duplicates", "near duplicates", "older pages of a URL", "repeated passages"];

/** A bar divided in shares, with its parts in words for who does not see it. */
export function stack(parts, total, label) {
  const shown = parts.filter((part) => part.value > 0);
  return h("div", { class: "stack", role: "img", "aria-label": `${label}: ${shown.map((p) => `${p.name} ${percent(p.value, total)}`).join(", ")}` },
    shown.map((part) => h("div", { class: "part", title: `${part.name}: ${number(part.value)} (${percent(part.value, total)})`, vars: { "--c": part.colour, "--share": part.value / Math.max(total, 1) } },
      part.value / Math.max(total, 1) > 0.07 ? h("span", {}, percent(part.value, total, 0)) : null)));
}

export const legend = (entries) => h("ul", { class: "legend" }, entries.map(([name, paint]) => h("li", {}, h("i", { vars: { "--c": paint } }), name)));

const lostColour = (name) => `var(--lost${Math.max(LOST.indexOf(name), 0) % 11})`;
const outcomeColour = (name) => (name === "kept" ? "var(--kept)" : lostColour(name));

const tile = (label, value, more) => h("div", { class: "tile" }, h("dt", {}, label), h("dd", {}, value, more ? h("small", {}, more) : null));

function funnel(run) {
  const names = [...new Set(run.corpora.flatMap((c) => Object.keys(c.outcomes)))];
  const order = ["kept", ...LOST.filter((name) => names.includes(name))];
  const most = Math.max(...run.corpora.map((c) => c.rows), 1);
  return h("section", { class: "card span" },
    h("h2", {}, "From documents to what is kept"),
    h("p", { class: "lead" }, "Each bar is a corpus, divided by what became of its documents. Choose one to see its documents."),
    h("div", { class: "rows" }, run.corpora.map((c) => h("button", { type: "button", class: "row", on: { click: () => choose({ corpus: c.name }) } },
      h("span", { class: "name" }, c.name, h("small", {}, `${number(c.rows)} documents, ${bytes(c.bytes)}`)),
      stack(order.map((name) => ({ name, value: c.outcomes[name] ?? 0, colour: outcomeColour(name) })), c.rows, c.name),
      h("span", { class: "figure" }, percent(c.kept, c.rows), h("small", {}, "kept")),
      h("span", { class: "size", "aria-hidden": "true" }, h("i", { vars: { "--w": `${(100 * c.rows) / most}%` } }))))),
    legend(order.map((name) => [name, outcomeColour(name)])));
}

function phases(run) {
  const domains = [...new Set([...run.domains.map((d) => d.name), ...run.phases.flatMap((p) => Object.keys(p.domains))])];
  const share = (p) => Object.entries(p.domains).map(([name, value]) => ({ name, value, colour: colour(domains, name) })).sort((a, b) => b.value - a.value);
  return h("section", { class: "card span" },
    h("h2", {}, "What trains"),
    h("p", { class: "lead" }, "Tokens of each phase by domain, and how much of what was wanted is reached."),
    h("div", { class: "rows" }, run.phases.map((p) => h("div", { class: "row plain" },
      h("span", { class: "name" }, p.name, h("small", {}, `${number(p.documents)} documents`)),
      stack(share(p), p.tokens, p.name),
      h("span", { class: "figure" }, short(p.tokens), h("small", {}, `of ${short(p.wanted)} wanted`)),
      h("a", { class: "read", href: `#/blocks?phase=${encodeURIComponent(p.name)}` }, "Read it")))),
    legend(domains.map((name) => [name, colour(domains, name)])),
    losses(run),
    run.phases.map((p) => h("details", {}, h("summary", {}, `Pools of ${p.name}: wanted against reached`),
      table(["pool", "wanted", "reached", "share of phase", "documents", "available", "times read"],
        p.pools.map((pool) => [pool.pool, short(pool.wanted_tokens), short(pool.tokens), percent(pool.tokens, p.tokens), number(pool.documents), short(pool.available_tokens), pool.epochs.toFixed(2)]),
        { label: `Pools of ${p.name}` }))));
}

/** Losses by corpus beside the shares of its tokens, where the page was given a training. */
function losses(run) {
  if (!run.losses) return null;
  const rows = run.phases.flatMap((p) => Object.entries(run.losses.phases[p.name] ?? {}).map(([corpus, [first, last]]) =>
    [`${p.name}, ${corpus}`, percent(p.corpora[corpus] ?? 0, p.tokens), first.toFixed(3), last.toFixed(3), (last - first).toFixed(3)]));
  return h("details", { open: true }, h("summary", {}, `Loss by corpus in ${run.losses.training}`),
    rows.length ? table(["phase and corpus", "share of tokens", "loss at its begin", "at its end", "change"], rows, { label: "Loss by corpus" })
      : h("p", { class: "note" }, "The training has not reported any losses yet."));
}

function languages(run) {
  const most = Math.max(...run.languages.map((l) => l.rows), 1);
  const row = (l) => h("button", { type: "button", class: "bar", on: { click: () => choose({ language: l.name }) }, title: `${number(l.kept)} of ${number(l.rows)} are kept` },
    h("span", { class: "label" }, l.name || "unknown"),
    h("span", { class: "track" }, h("i", { class: "all", vars: { "--w": `${(100 * l.rows) / most}%` } }), l.kept ? h("i", { class: "kept", vars: { "--w": `${(100 * l.kept) / most}%` } }) : null),
    h("span", { class: "count" }, percent(l.kept, l.rows, 0), h("small", {}, ` of ${short(l.rows)}`)));
  const rest = run.languages.slice(12);
  return h("section", { class: "card" }, h("h2", {}, "Languages"), h("p", { class: "lead" }, "Documents read, and the share that is kept."),
    h("div", { class: "bars" }, run.languages.slice(0, 12).map(row)),
    rest.length ? h("details", {}, h("summary", {}, `${rest.length} more`), h("div", { class: "bars" }, rest.map(row))) : null);
}

function domains(run) {
  const most = Math.max(...run.domains.map((d) => d.tokens), 1);
  return h("section", { class: "card" }, h("h2", {}, "Domains"), h("p", { class: "lead" }, "Tokens of the documents that are kept for training."),
    h("div", { class: "bars" }, run.domains.map((d) => h("button", { type: "button", class: "bar", on: { click: () => choose({ domain: d.name }) }, title: `${number(d.documents)} documents` },
      h("span", { class: "label" }, d.name),
      h("span", { class: "track" }, h("i", { class: "kept", vars: { "--w": `${(100 * d.tokens) / most}%` } })),
      h("span", { class: "count" }, short(d.tokens))))));
}

const asked = (run) => {
  const { recipe, set = [], limit, from } = run.asked;
  if (!recipe) return null;
  return h("p", { class: "asked" }, "curated by ", h("code", {}, ["fox1 curate", recipe, ...set.map((s) => `--set ${s}`), limit && limit !== 1 ? `--limit ${100 * limit}%` : "", from ? `--from ${from}` : ""].filter(Boolean).join(" ")));
};

export function overview(place, run) {
  place.append(
    h("section", { class: "card span hero" },
      h("h2", {}, run.place), asked(run),
      run.finished ? null : h("p", { class: "warning" }, "The last curation of this run did not finish: later stages are missing or out of date."),
      run.note ? h("p", { class: "warning" }, run.note) : null,
      h("dl", { class: "tiles" },
        tile("documents read", number(run.rows), bytes(run.bytes)),
        tile("kept", number(run.kept), percent(run.kept, run.rows)),
        tile("tokens kept", short(run.kept_tokens), `${short(Math.round(run.kept_tokens / Math.max(run.kept, 1)))} a document`),
        tile("documents that train", number(run.used), `${number(run.unused)} not needed`),
        tile("tokens trained on", short(run.trained_tokens), `${run.phases.length} phases`),
        tile("held out", number(run.held_out), "documents"))),
    h("section", { class: "card" }, h("h2", {}, "Findings"), h("ul", { class: "findings" }, run.findings.map((text) => h("li", {}, words(text))))),
    h("section", { class: "card" }, h("h2", {}, "Warnings"),
      run.warnings.length ? h("ul", { class: "findings warn" }, run.warnings.map((text) => h("li", {}, text))) : h("p", { class: "lead" }, "Nothing that whoever answers for this run would ask about.")),
    funnel(run), phases(run), languages(run), domains(run));
}
