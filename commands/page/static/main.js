// The frame: which view is shown, the search for a document, and keys.

import "./theme.js";
import { get, toast } from "./api.js";
import { fill, h } from "./dom.js";
import { blocks } from "./blocks.js";
import { compare } from "./compare.js";
import { documentView } from "./document.js";
import { explore } from "./explore.js";
import { overview } from "./overview.js";
import { tuning } from "./tuning.js";
import { whatIf } from "./what_if.js";

const VIEWS = [
  ["overview", "Overview", overview],
  ["explore", "Explore", explore],
  ["what-if", "What if", whatIf],
  ["document", "Document", documentView],
  ["blocks", "Blocks", blocks],
  ["tuning", "Tuning", tuning],
  ["compare", "Compare", compare],
];
const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
let run;
let leave = null;

/** `#/document/NAME?run=1` as [view, rest, options]. */
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  return [view || "overview", rest.map(decodeURIComponent).join("/"), Object.fromEntries(new URLSearchParams(query ?? ""))];
}

async function show() {
  const [name, rest, options] = route();
  const found = VIEWS.find(([view]) => view === name) ?? VIEWS[0];
  for (const link of tabs.querySelectorAll("a")) {
    if (link.dataset.view === found[0]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${found[1]} · ${run.name} · fox1`;
  leave?.();
  leave = null;
  const place = h("div", { class: `view ${found[0]}` });
  fill(main, h("h1", { class: "hidden" }, `${found[1]} of ${run.name}`), place);
  try {
    leave = (await found[2](place, run, rest, options)) ?? null;
  } catch (error) {
    fill(place, h("p", { class: "error", role: "alert" }, error.message));
  }
  place.dataset.ready = "";
}

function frame() {
  fill(document.getElementById("run-name"), h("strong", {}, run.name), run.other ? [" and ", h("strong", {}, run.other)] : null);
  const shown = VIEWS.filter(([view]) => (view !== "compare" || run.other) && (view !== "tuning" || run.tuning));
  fill(tabs, shown.map(([view, label], i) =>
    h("a", { href: `#/${view}`, "data-view": view, "aria-keyshortcuts": String(i + 1) }, label, h("kbd", { "aria-hidden": "true" }, i + 1))));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range]), textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("find-value").focus();
    }
    const link = tabs.querySelectorAll("a")[Number(event.key) - 1];
    if (/^[1-9]$/.test(event.key) && link) {
      location.hash = link.getAttribute("href");
      main.focus({ preventScroll: true });
    }
  });
}

const find = document.getElementById("find");
find.addEventListener("submit", async (event) => {
  event.preventDefault();
  const value = document.getElementById("find-value").value.trim();
  if (!value) return;
  try {
    const found = await get("/api/find", { kind: document.getElementById("find-kind").value, value });
    if (!found.length) toast("No document has it.");
    else {
      if (found.length > 1) toast(`${found.length} documents have it; this is the first.`);
      location.hash = `#/document/${encodeURIComponent(found[0].id)}`;
    }
  } catch (error) {
    toast(error.message);
  }
});

try {
  run = await get("/api/run");
  frame();
  addEventListener("hashchange", show);
  await show();
} catch (error) {
  fill(main, h("p", { class: "error", role: "alert" }, error.message));
}
