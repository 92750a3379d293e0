// A document: its text with edits and the causes of failed rules, its copies, and what became of it.

import { copy, get } from "./api.js";
import { counted, fill, h, number, percent, table, words } from "./dom.js";

/** Pieces of a text; what its failed rules count is marked by number. */
function pieces(list, edits, failed) {
  return list.map((piece) => {
    const edit = piece.edit >= 0 ? edits[piece.edit] : null;
    let node = piece.text;
    if (piece.rules.length) {
      node = h("mark", { class: `m${piece.rules[0] % 6}${piece.rules.length > 1 ? " several" : ""}`, "data-rules": piece.rules.join(" "), title: piece.rules.map((k) => words(failed[k].rule)).join(", ") }, piece.text);
    }
    if (!edit) return node;
    return [h("del", { title: `${edit.kind}: this was cut` }, edit.was), piece.text ? h("ins", { title: `${edit.kind}: this stands instead` }, node) : null];
  });
}

const differing = (list, kind) => list.map((piece) => (piece.differs ? h(kind, {}, piece.text) : piece.text));

const pair = (name, value) => (value === "" || value === null || value === undefined ? null : [h("dt", {}, name), h("dd", {}, value)]);
const link = (name, id, which = "0") => h("a", { href: `#/document/${encodeURIComponent(id ?? name)}${which === "0" ? "" : `?run=${which}`}` }, name);

export async function documentView(place, run, name, options) {
  if (!name) {
    place.append(h("section", { class: "card span empty" }, h("h2", {}, "No document yet"),
      h("p", {}, "Open one from the table of ", h("a", { href: "#/explore" }, "Explore"), ", or find one above by its name (corpus/file#row), URL, native id or content hash.")));
    return;
  }
  place.append(h("p", { class: "note" }, "Reading the document …"));
  const which = options.run ?? "0";
  const began = performance.now();
  const found = await get("/api/document", { name, run: which });
  const { decision, facts } = found;
  const copies = h("section", { class: "card", hidden: true });
  const beside = h("section", { class: "card beside", hidden: true });
  const text = h("pre", { class: "text", tabindex: "0", "aria-label": "Text of the document" }, pieces(found.pieces, found.edits, found.failed));
  const rules = found.failed.filter((rule) => !rule.rule.endsWith("_duplicate"));
  const filtered = found.failed.filter((rule) => rule.marked);
  const show = (event) => {
    const off = event.currentTarget.getAttribute("aria-pressed") === "true";
    event.currentTarget.setAttribute("aria-pressed", String(!off));
    text.classList.toggle(`hide-${event.currentTarget.dataset.rule % 6}`, off);
  };
  fill(place,
    h("section", { class: "card span head" },
      h("h2", {}, found.name, " ", h("button", { type: "button", class: "quiet small", on: { click: () => copy(found.name) } }, "copy")),
      h("p", {}, decision.kept ? h("span", { class: "tag kept" }, "kept") : h("span", { class: "tag dropped" }, words(decision.reason || "dropped")),
        which !== "0" ? h("span", { class: "tag" }, `in ${run.other}`) : null,
        decision.duplicate_name ? [" a copy of ", link(decision.duplicate_name, decision.duplicate_of, which), decision.similarity ? ` (similarity ${number(decision.similarity)})` : ""] : null,
        decision.kept && decision.cluster_size > 1 ? ` stands for ${counted(decision.cluster_size, "document")}` : null)),
    h("section", { class: "card main-text" },
      h("header", {}, h("h2", {}, "Text"),
        filtered.map((rule) => {
          const at = found.failed.indexOf(rule);
          return h("button", { type: "button", class: `key m${at % 6}`, "data-rule": at, "aria-pressed": "true", on: { click: show } }, words(rule.rule), h("small", {}, ` ${number(rule.marked)}`));
        }),
        found.edits.length ? h("span", { class: "note" }, h("del", {}, "cut"), " ", h("ins", {}, "put in its place"), ` (${found.edits.length})`) : null),
      found.note ? h("p", { class: "note" }, found.note) : null, text),
    h("div", { class: "facts" },
      rules.length ? h("section", { class: "card" }, h("h2", {}, "Failed rules"),
        table(["rule", "this document", "bound"], rules.map((rule) => [words(rule.rule), rule.value.split(" ").slice(1).join(" "), rule.bound]), { text: [1, 2], label: "Failed rules" })) : null,
      h("section", { class: "card" }, h("h2", {}, "Where it comes from"), h("dl", { class: "pairs" },
        pair("corpus", facts.corpus), pair("subset", facts.subset), pair("domain", facts.domain), pair("file", facts.file), pair("row", number(facts.row)),
        pair("URL", facts.url), pair("native id", facts.native_id), pair("language", facts.language),
        pair("time", facts.timestamp ? new Date(facts.timestamp * 1000).toISOString().slice(0, 10) : ""),
        pair("content hash", facts.content_hash), pair("document id", String(found.doc_id)), pair("held out", facts.held_out ? "yes" : ""))),
      h("section", { class: "card" }, h("h2", {}, "Blocks"), found.blocks.length ? table(["phase", "block", "length", "from token", "tokens"],
        found.blocks.map((b) => [b.phase, h("a", { href: `#/blocks?phase=${encodeURIComponent(b.phase)}&length=${b.block_length}&number=${b.block}` }, number(b.block)), number(b.block_length), number(b.doc_start), number(b.length)]), { label: "Blocks" })
        : h("p", { class: "lead" }, decision.kept ? "No phase uses it: it is held out, or the budgets were filled without it." : "A dropped document is in no block.")),
      copies,
      h("section", { class: "card" }, h("details", {}, h("summary", {}, "All signals"), table(["signal", "value"], Object.entries(found.signals).map(([key, value]) => [words(key), number(value)]), { label: "Signals" })),
        sourceRow(found.name, which))),
    beside);
  place.dataset.painted = String(performance.now() - began);
  if (decision.duplicate_name && !decision.duplicate_name.startsWith("document ")) sideBySide(beside, found.name, decision.duplicate_name, which);
  else if (decision.kept && decision.cluster_size > 1 && which === "0") listCopies(copies, found, beside);
}

/** The row as it stands in the source file, read when it is unfolded. */
function sourceRow(name, which) {
  const inside = h("div", {});
  let asked = false;
  return h("details", { class: "source-row", on: { toggle: async (event) => {
    if (!event.currentTarget.open || asked) return;
    asked = true;
    fill(inside, h("p", { class: "note" }, "reading the source …"));
    try {
      const row = await get("/api/row", { name, run: which });
      const shown = new TextEncoder().encode(row.text).length;
      fill(inside, h("p", { class: "note" }, row.kind === "line" ? "The line of the file, " : "The columns of the row, ", `${number(row.bytes)} bytes${shown < row.bytes && row.kind === "line" ? "; the beginning" : ""}.`),
        h("pre", { class: "raw", tabindex: "0" }, row.text));
    } catch (error) {
      fill(inside, h("p", { class: "error" }, error.message));
    }
  } } }, h("summary", {}, "Row in the source"), inside);
}

async function listCopies(place, found, beside) {
  place.hidden = false;
  fill(place, h("h2", {}, "Its copies"), h("p", { class: "note" }, "looking …"));
  try {
    const { number: all, documents } = await get("/api/copies", { id: String(found.doc_id) });
    fill(place, h("h2", {}, "Its copies"), h("p", { class: "lead" }, `${counted(all, "dropped document")} ${all === 1 ? "is a copy" : "are copies"} of it${documents.length < all ? `; the first ${documents.length}` : ""}.`),
      h("ul", { class: "list" }, documents.map((copy_) => h("li", {}, link(copy_.name, copy_.id), " ", h("button", { type: "button", class: "quiet small", on: { click: () => sideBySide(beside, copy_.name, found.name, "0", true) } }, "compare")))));
  } catch (error) {
    fill(place, h("h2", {}, "Its copies"), h("p", { class: "error" }, error.message));
  }
}

async function sideBySide(place, name, other, which, scroll = false) {
  place.hidden = false;
  fill(place, h("h2", {}, "Side by side"), h("p", { class: "note" }, "comparing …"));
  try {
    const found = await get("/api/beside", { name, other, run: which });
    fill(place, h("h2", {}, "Side by side"),
      h("p", { class: "lead" }, `${percent(found.same, 1)} of the dropped text stands in the kept one as well. Raw texts, as dedupe compares them.`),
      h("div", { class: "texts" },
        h("figure", {}, h("figcaption", {}, "dropped: ", link(found.name, found.name, which)), h("pre", { class: "text", tabindex: "0" }, differing(found.pieces, "del"))),
        h("figure", {}, h("figcaption", {}, "kept: ", link(found.other, found.other, which)), h("pre", { class: "text", tabindex: "0" }, differing(found.other_pieces, "ins")))));
    if (scroll) place.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  } catch (error) {
    fill(place, h("h2", {}, "Side by side"), h("p", { class: "error" }, error.message));
  }
}
