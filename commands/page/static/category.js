// Bars of a category: each is a button that selects the documents of its value, beside those already selected.

import { fill, h, number, percent, short, words } from "./dom.js";

const SHOWN = 10;

export class Category {
  /**
   * @param change called with (name, values or null) when others are chosen
   * @param labels texts by number
   */
  constructor(name, labels, change, note = "") {
    this.name = name;
    this.labels = labels;
    this.change = change;
    this.chosen = new Set();
    this.more = false;
    this.list = h("div", { class: "bars" });
    this.clear = h("button", { type: "button", class: "quiet small", hidden: true, on: { click: () => this.choose(new Set()) } }, "all");
    this.rest = h("button", { type: "button", class: "quiet small", hidden: true, on: { click: () => { this.more = !this.more; this.draw(); } } });
    this.element = h("section", { class: "category", "aria-label": words(name) },
      h("header", {}, h("h3", {}, words(name)), this.clear), note ? h("p", { class: "rules" }, note) : null, this.list, this.rest);
  }

  choose(chosen) {
    this.setChosen([...chosen]);
    this.change(this.name, chosen.size ? [...chosen] : null);
    this.draw();
  }

  setChosen(values) {
    this.chosen = new Set(values);
    this.clear.hidden = !this.chosen.size;
    this.element.classList.toggle("chosen", this.chosen.size > 0);
  }

  /** Repaint with [value, label, dropped, kept] rows. */
  paint(rows) {
    this.rows = rows.filter((row) => row[2] + row[3] || this.chosen.has(row[0])).sort((a, b) => b[2] + b[3] - a[2] - a[3]);
    this.draw();
  }

  draw() {
    if (!this.rows) return;
    const shown = this.more ? this.rows : this.rows.slice(0, SHOWN);
    const most = Math.max(...this.rows.map((row) => row[2] + row[3]), 1);
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.value : null;
    fill(this.list, shown.map(([value, label, dropped, kept]) => h("button", {
      type: "button", class: "bar", "data-value": value, "aria-pressed": String(this.chosen.has(value)),
      title: `${label}: ${number(dropped + kept)} documents, ${percent(kept, dropped + kept)} kept`,
      on: { click: () => {
        const chosen = new Set(this.chosen);
        if (!chosen.delete(value)) chosen.add(value);
        this.choose(chosen);
      } },
    },
    h("span", { class: "label" }, label),
    h("span", { class: "track" }, h("i", { class: "all", vars: { "--w": `${(100 * (dropped + kept)) / most}%` } }), kept ? h("i", { class: "kept", vars: { "--w": `${(100 * kept) / most}%` } }) : null),
    h("span", { class: "count" }, short(dropped + kept)))));
    if (!shown.length) fill(this.list, h("p", { class: "none" }, "none"));
    if (focused !== null) this.list.querySelector(`[data-value="${CSS.escape(focused)}"]`)?.focus();
    this.rest.hidden = this.rows.length <= SHOWN;
    this.rest.textContent = this.more ? "fewer" : `${this.rows.length - SHOWN} more`;
  }
}
