// One tab at a time, the search, tables that sort by a column. Without it the page shows all tabs, one after another.

{
  const main = document.getElementById("main");
  const tabs = [...document.querySelectorAll(".tab")];
  const links = [...document.querySelectorAll("#tabs a")];
  document.body.classList.add("scripted");

  /** Show the tab that an address names, or that holds what it names, unfolded. */
  function go() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const shown = target?.closest(".tab") ?? tabs[0];
    tabs.forEach((tab, i) => {
      tab.classList.toggle("shown", tab === shown);
      if (tab === shown) links[i].setAttribute("aria-current", "page");
      else links[i].removeAttribute("aria-current");
    });
    if (!target || target === shown || target === main) {
      scrollTo(0, 0);
      return;
    }
    for (let place = target; place !== shown; place = place.parentElement) if (place.tagName === "DETAILS") place.open = true;
    target.scrollIntoView({ block: "center" });
    target.classList.add("here");
    setTimeout(() => target.classList.remove("here"), 2000);
    const focus = target.querySelector("summary") ?? target;
    if (!focus.matches("summary")) focus.tabIndex = -1;
    focus.focus({ preventScroll: true });
  }
  addEventListener("hashchange", go);
  go();

  // The search: names of rules, corpora, domains, languages, subsets and pools.
  const find = document.getElementById("find");
  const value = document.getElementById("find-value");
  const found = document.getElementById("found");
  const said = document.getElementById("found-number");
  const MOST = 12;
  const plain = (text) => text.toLowerCase().replaceAll("_", " ");
  const names = [...document.querySelectorAll("[data-find]")].map((place) => ({
    id: place.id, kind: place.dataset.kind, name: place.dataset.find, text: plain(`${place.dataset.kind} ${place.dataset.find}`),
    run: place.id.startsWith("b-") ? document.querySelectorAll(".run-name")[1]?.textContent ?? "" : "",
  }));
  find.hidden = !names.length;

  function close() {
    found.hidden = true;
    found.replaceChildren();
  }

  function look() {
    const words = plain(value.value).split(/\s+/).filter(Boolean);
    close();
    said.textContent = "";
    if (!words.length) return;
    const hits = names.filter((one) => words.every((word) => one.text.includes(word)));
    for (const hit of hits.slice(0, MOST)) {
      const link = document.createElement("a");
      link.href = `#${hit.id}`;
      link.append(hit.name);
      const kind = document.createElement("small");
      kind.append(hit.run ? `${hit.kind}, ${hit.run}` : hit.kind);
      link.append(kind);
      const item = document.createElement("li");
      item.append(link);
      found.append(item);
    }
    found.hidden = !hits.length;
    said.textContent = hits.length ? `${hits.length} found` : "nothing found";
    value.toggleAttribute("aria-invalid", !hits.length);
  }
  value.addEventListener("input", look);
  value.addEventListener("focus", look);
  found.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link) return;
    // The same address again is no change of it.
    if (link.hash === location.hash) go();
    close();
  });
  find.addEventListener("keydown", (event) => {
    const all = [...found.querySelectorAll("a")];
    const at = all.indexOf(document.activeElement);
    if (event.key === "ArrowDown" && all.length) all[Math.min(at + 1, all.length - 1)].focus();
    else if (event.key === "ArrowUp" && at >= 0) (at ? all[at - 1] : value).focus();
    else if (event.key === "Escape") close();
    else if (event.key === "Enter" && at < 0 && all.length) all[0].click();
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    if (!find.contains(event.target)) close();
  });
  find.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !find.contains(event.relatedTarget)) close();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "/") {
      event.preventDefault();
      value.focus();
    }
    const link = /^[1-9]$/.test(event.key) ? links[Number(event.key) - 1] : null;
    if (link) {
      link.click();
      main.focus({ preventScroll: true });
    }
  });

  // Tables sort by a column when its head is pressed.
  const valueOf = (cell) => {
    const text = cell.textContent.trim().replace("−", "-");
    const number = parseFloat(text.replace(/[, %+<]/g, ""));
    const unit = /\d([KMBT])$/.exec(text)?.[1];
    return Number.isNaN(number) ? text : number * ({ K: 1e3, M: 1e6, B: 1e9, T: 1e12 }[unit] ?? 1);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const press = document.createElement("button");
      press.type = "button";
      press.append(...head.childNodes);
      head.append(press);
      press.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") !== "descending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [x, y] = [valueOf(a.cells[column]), valueOf(b.cells[column])];
          const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? 1 : -1;
          return falling ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // On paper nothing can be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
  });
}
