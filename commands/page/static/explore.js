// Histograms and bars that follow each other, the documents that they leave, SQL, and exports.

import { get, post, toast } from "./api.js";
import { counted, fill, h, number, percent, table, words } from "./dom.js";
import { Category } from "./category.js";
import { Histogram } from "./histogram.js";

const CATEGORIES = ["reason", "corpus", "domain", "language", "kind", "subset"];
const NOTES = { reason: "the first rule that drops a document", kind: "of a dropped duplicate" };
const PAGE = 25;

/** The selection outlives the view: one comes back from a document to it. */
const state = { ranges: {}, values: {}, kept: null, where: "", all: false, root: false, order: "mixed" };
let waiting = null;

/** Go to Explore with the documents of some categories, by their texts. */
export function choose(texts) {
  Object.assign(state, { ranges: {}, values: {}, kept: null, where: "" });
  waiting = texts;
  location.hash = "#/explore";
}

export function selection() {
  const filters = [
    ...Object.entries(state.ranges).map(([column, [first, last]]) => ({ column, first, last })),
    ...Object.entries(state.values).map(([column, values]) => ({ column, values })),
  ];
  return { filters, kept: state.kept, where: state.where };
}

export async function explore(place, run) {
  let facets = await get("/api/facets");
  const left = h("aside", { class: "facets", "aria-label": "Categories" });
  const right = h("div", { class: "charts" });
  const status = h("p", { class: "status", role: "status" });
  const documents = h("section", { class: "card documents" });
  place.append(bar(), h("div", { class: "columns" }, h("details", { class: "fold", open: matchMedia("(min-width: 1081px)").matches }, h("summary", {}, "Categories"), left), h("div", { class: "side" }, right, more(), documents, sqlBox(run))));

  const histograms = new Map();
  const categories = new Map();
  const wholes = new Map();
  let page = 0;
  let asked = false;
  let shown = 0;
  let again = false;
  let gone = false;

  function bar() {
    const kept = h("div", { class: "choice", role: "group", "aria-label": "Kept or dropped" },
      [["all", null], ["kept", true], ["dropped", false]].map(([label, value]) => h("button", { type: "button", "aria-pressed": String(state.kept === value), on: { click: (event) => {
        state.kept = value;
        for (const button of kept.children) button.setAttribute("aria-pressed", String(button === event.currentTarget));
        changed();
      } } }, label)));
    const where = h("input", { type: "text", id: "where", value: state.where, spellcheck: "false", placeholder: "SQL condition, e.g. words > 900 and not kept", autocomplete: "off" });
    const form = h("form", { class: "where", on: { submit: (event) => { event.preventDefault(); state.where = where.value.trim(); changed(); } } },
      h("label", { class: "hidden", for: "where" }, "Condition in SQL"), where, h("button", { type: "submit" }, "Apply"));
    const root = h("button", { type: "button", class: "quiet", "aria-pressed": String(state.root), title: "Heights by square root: small bins become visible", on: { click: (event) => {
      state.root = !state.root;
      event.currentTarget.setAttribute("aria-pressed", String(state.root));
      for (const histogram of histograms.values()) { histogram.root = state.root; if (histogram.counts) histogram.paint(histogram.counts); }
    } } }, "√");
    const reset = h("button", { type: "button", class: "quiet", on: { click: () => {
      Object.assign(state, { ranges: {}, values: {}, kept: null, where: "" });
      where.value = "";
      [...kept.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === 0)));
      histograms.forEach((histogram) => histogram.setRange(null));
      categories.forEach((category) => category.setChosen([]));
      changed();
    } } }, "Reset");
    const exports = h("div", { class: "choice", role: "group", "aria-label": "Export the selection" },
      [["Parquet", "parquet"], ["JSON lines", "jsonl"], ["Exclude list", "txt"]].map(([label, format]) => h("button", { type: "button", on: { click: () => download(format) } }, label)));
    return h("div", { class: "toolbar" }, kept, form, root, reset, h("span", { class: "grow" }), exports, status);
  }

  async function download(format) {
    try {
      const found = await post("/api/export", { selection: selection(), format });
      h("a", { href: found.address, download: "" }).click();
      toast(`${counted(found.documents, "document")} to save.`);
    } catch (error) {
      toast(error.message);
    }
  }

  function more() {
    const button = h("button", { type: "button", class: "quiet", "aria-expanded": String(state.all), on: { click: () => {
      state.all = !state.all;
      button.setAttribute("aria-expanded", String(state.all));
      button.textContent = label();
      build();
      changed();
    } } });
    const label = () => (state.all ? "Only the signals of rules" : `All ${facets.signals.length} signals`);
    button.textContent = label();
    return h("p", { class: "more" }, button);
  }

  function build() {
    const names = state.all ? facets.signals.map((signal) => signal.name) : facets.leading;
    for (const signal of facets.signals) {
      if (!names.includes(signal.name)) {
        histograms.get(signal.name)?.element.remove();
        histograms.delete(signal.name);
      }
    }
    for (const name of names) {
      if (!histograms.has(name)) {
        const histogram = new Histogram(facets.signals.find((signal) => signal.name === name), (column, range) => {
          if (range) state.ranges[column] = range;
          else delete state.ranges[column];
          changed();
        });
        histogram.root = state.root;
        histogram.range = state.ranges[name] ?? null;
        histograms.set(name, histogram);
      }
      right.append(histograms.get(name).element);
    }
  }

  function changed() {
    page = 0;
    count();
  }

  /** One question at a time: while it is answered the latest selection waits, and none between. */
  async function count() {
    if (asked) {
      again = true;
      return;
    }
    asked = true;
    place.dataset.busy = "";
    const began = performance.now();
    const columns = [...CATEGORIES, ...(facets.hosts ? ["host"] : []), ...histograms.keys()];
    try {
      const fresh = columns.filter((name) => histograms.has(name) && !wholes.has(name));
      if (fresh.length) {
        const all = await post("/api/counts", { selection: {}, columns: fresh });
        for (const name of fresh) wholes.set(name, all.columns[name]);
      }
      const found = await post("/api/counts", { selection: selection(), columns });
      if (gone) return;
      paint(found);
      await painted();
      place.dataset.painted = String(performance.now() - began);
    } catch (error) {
      fill(status, h("span", { class: "error" }, error.message));
    } finally {
      asked = false;
    }
    if (again) {
      again = false;
      await count();
    } else await rows();
  }

  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));

  const labelOf = (name, text) => (name === "reason" ? words(text) : text) || { reason: "kept", kind: "no duplicate" }[name] || "none";

  function paint(found) {
    for (const [name, histogram] of histograms) {
      if (found.columns[name]) histogram.paint(found.columns[name], histogram.whole ? null : wholes.get(name));
    }
    for (const [name, category] of categories) {
      if (name === "host") category.paint(found.hosts.map(([value, label, dropped, kept]) => [value, label, dropped, kept]));
      else {
        const [dropped, kept] = found.columns[name];
        category.paint(dropped.map((n, value) => [value, labelOf(name, category.labels[value] ?? ""), n, kept[value]]));
      }
    }
    fill(status, h("strong", {}, number(found.passed)), ` of ${number(facets.documents)} documents, ${percent(found.passed_kept, found.passed)} kept`,
      partly() ? h("span", { class: "note" }, partly()) : null);
  }

  function partly() {
    const [held, all] = Object.values(facets.shares).reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
    return held < all ? ` of ${number(all)} in the run: whole files, chosen by hash` : "";
  }

  /** The documents of the latest selection; an answer that another question has overtaken is left. */
  async function rows() {
    shown += 1;
    const own = shown;
    let found;
    try {
      found = await post("/api/rows", { selection: selection(), first: page * PAGE, number: PAGE, order: state.order });
    } catch (error) {
      if (own === shown) fill(documents, h("p", { class: "error" }, error.message));
      return;
    } finally {
      if (own === shown && !asked) delete place.dataset.busy;
    }
    if (gone || own !== shown) return;
    const { columns, rows: cells } = found.table;
    const at = Object.fromEntries(columns.map((name, i) => [name, i]));
    const heads = ["document", "subset", "language", "quality", "words", "outcome"];
    const order = h("button", { type: "button", class: "quiet", "aria-pressed": String(state.order === "mixed"), title: "Mix the files by hash, or show them one after the other", on: { click: () => { state.order = state.order === "mixed" ? "file" : "mixed"; page = 0; rows(); } } }, "Mixed");
    const turn = (label, by, possible) => h("button", { type: "button", class: "quiet", disabled: !possible, on: { click: () => { page += by; rows(); } } }, label);
    fill(documents, h("header", {}, h("h2", {}, "Documents"), order, h("span", { class: "grow" }),
      h("span", { class: "note" }, found.documents ? `${number(page * PAGE + 1)}–${number(page * PAGE + cells.length)} of ${number(found.documents)}` : "none"),
      turn("Back", -1, page > 0), turn("Next", 1, (page + 1) * PAGE < found.documents)),
    table(heads, cells.map((row) => [
      h("a", { href: `#/document/${encodeURIComponent(row[at.doc_id])}` }, row[at.document]),
      row[at.subset], row[at.language], number(row[at.quality]), number(row[at.words]),
      row[at.kept] ? h("span", { class: "tag kept" }, "kept") : h("span", { class: "tag dropped" }, words(row[at.reason]), row[at.similarity] ? ` ${number(row[at.similarity])}` : "")]),
    { text: [1, 2, 5], label: "Documents of the selection" }));
  }

  for (const name of [...CATEGORIES.slice(0, 4), ...(facets.hosts ? ["host"] : []), ...CATEGORIES.slice(4)]) {
    const category = new Category(name, facets.categories[name] ?? [], (column, values) => {
      if (values) state.values[column] = values;
      else delete state.values[column];
      changed();
    }, NOTES[name]);
    categories.set(name, category);
    left.append(category.element);
  }
  build();
  fill(status, "Reading the signals of the run …");
  await post("/api/counts", { selection: {}, columns: CATEGORIES });
  facets = await get("/api/facets");
  for (const [name, category] of categories) category.labels = facets.categories[name] ?? [];
  for (const [column, text] of Object.entries(waiting ?? {})) {
    const value = facets.categories[column].indexOf(text);
    if (value >= 0) state.values[column] = [value];
  }
  waiting = null;
  for (const [name, category] of categories) category.setChosen(state.values[name] ?? []);
  await count();
  return () => { gone = true; };
}

function sqlBox(run) {
  const text = h("textarea", { id: "sql", rows: 3, spellcheck: "false" }, "select corpus, reason, count(*) as documents from documents group by all order by documents desc");
  const result = h("div", { "aria-live": "polite" });
  const ask = async (event) => {
    event?.preventDefault();
    fill(result, h("p", { class: "note" }, "asking …"));
    try {
      const found = await post("/api/sql", { query: text.value });
      fill(result, h("p", { class: "note" }, found.rows > found.table.rows.length ? `the first ${number(found.table.rows.length)} of ${number(found.rows)} rows` : counted(found.rows, "row")),
        table(found.table.columns, found.table.rows.map((row) => row.map((cell) => (typeof cell === "number" ? number(cell) : cell === null ? "" : typeof cell === "object" ? JSON.stringify(cell) : String(cell)))), { plain: true, label: "Answer", text: found.table.columns.map((_, i) => i).filter((i) => typeof found.table.rows[0]?.[i] !== "number") }));
    } catch (error) {
      fill(result, h("p", { class: "error", role: "alert" }, error.message));
    }
  };
  text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask(event); });
  return h("details", { class: "card sql" }, h("summary", {}, "Ask in SQL"),
    h("form", { on: { submit: ask } }, h("label", { for: "sql" }, "One SELECT over the table ", h("code", {}, "documents"), ", which has a row for each document of the run. It can change nothing and reach nothing else."), text,
      h("button", { type: "submit" }, "Ask"), h("span", { class: "note" }, " Ctrl+Enter")),
    result,
    h("details", {}, h("summary", {}, `${run.columns.length} columns`), h("p", { class: "names" }, run.columns.map((column) => h("code", { title: column.type }, column.name)))));
}

