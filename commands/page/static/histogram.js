// A histogram of a signal: kept upon dropped, the whole run behind, thresholds, and a range chosen by pointer or keys.

import { h, number, percent, short, words } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 84;

/** What a bin holds, in words. */
export function binName(signal, bin) {
  const { lows, kind } = signal;
  const low = bin ? lows[bin - 1] : 0;
  const high = lows[bin];
  if (kind === "count") return high === undefined ? `${short(low)} or more` : high - low <= 1 || !bin ? number(low) : `${short(low)}–${short(high - 1)}`;
  return high === undefined ? `${number(low)}${kind === "fraction" ? "" : " or more"}` : `${number(low)}–${number(high)}`;
}

/** Where a value lies on the axis, in bins. */
function placeOf(signal, value) {
  const { lows } = signal;
  let bin = 0;
  while (bin < lows.length && lows[bin] <= value) bin += 1;
  const low = bin ? lows[bin - 1] : 0;
  const high = lows[bin] ?? low + 1;
  return bin + Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
}

export class Histogram {
  /**
   * @param signal name, kind, lows and rules, as the server describes it
   * @param change called with (name, [first, last] or null) when another range is chosen
   */
  constructor(signal, change) {
    this.signal = signal;
    this.change = change;
    this.bins = signal.lows.length + 1;
    this.range = null;
    this.root = false;
    this.all = h("path", { class: "h-all" });
    this.dropped = h("path", { class: "h-dropped" });
    this.kept = h("path", { class: "h-kept" });
    this.shade = h("rect", { class: "h-range", y: 0, height: HEIGHT, width: 0, x: 0 });
    this.marks = h("g", {});
    this.svg = h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.all, this.shade, this.dropped, this.kept, this.marks);
    this.from = this.slider("from", 0);
    this.to = this.slider("to", this.bins - 1);
    this.said = h("output", { class: "h-said" });
    this.ends = [h("span", {}), h("span", {})];
    this.clear = h("button", { type: "button", class: "quiet small", hidden: true, on: { click: () => this.choose(null) } }, "all");
    const rules = signal.rules.map((rule) => `${rule.key} ${number(rule.value)}${rule.section === "all" ? "" : ` (${rule.section})`}`);
    this.element = h("section", { class: "histogram", "aria-label": words(signal.name) },
      h("header", {}, h("h3", {}, words(signal.name)), this.clear),
      rules.length ? h("p", { class: "rules", title: rules.join(", ") }, rules.join(", ")) : null,
      h("div", { class: "plot" }, this.svg, h("div", { class: "range" }, this.from, this.to)),
      h("div", { class: "ends", "aria-hidden": "true" }, this.ends), this.said);
    this.drag();
  }

  slider(end, value) {
    return h("input", { type: "range", min: 0, max: this.bins - 1, step: 1, value, "aria-label": `${words(this.signal.name)}, ${end}`,
      on: { input: () => this.slid(end), keydown: (event) => { if (event.key === "Escape") this.choose(null); } } });
  }

  slid(end) {
    let [first, last] = [Number(this.from.value), Number(this.to.value)];
    if (first > last) [first, last] = end === "from" ? [last, last] : [first, first];
    this.choose(first === this.low && last === this.high ? null : [first, last]);
  }

  drag() {
    let start = null;
    const binAt = (event) => {
      const box = this.svg.getBoundingClientRect();
      const share = Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width));
      return this.low + Math.floor(share * (this.high - this.low + 1));
    };
    this.svg.addEventListener("pointerdown", (event) => {
      start = binAt(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => {
      const at = binAt(event);
      if (start !== null && at !== start) this.choose([Math.min(start, at), Math.max(start, at)]);
      else if (start === null && this.counts) this.hover(at);
    });
    this.svg.addEventListener("pointerup", (event) => {
      if (start !== null && binAt(event) === start) this.choose(this.range ? null : [start, start]);
      start = null;
    });
    this.svg.addEventListener("pointerleave", () => this.tell());
  }

  hover(bin) {
    const [dropped, kept] = [this.counts[0][bin], this.counts[1][bin]];
    this.said.textContent = `${binName(this.signal, bin)}: ${number(dropped + kept)}, ${percent(kept, dropped + kept, 0)} kept`;
  }

  choose(range) {
    this.setRange(range);
    this.change(this.signal.name, range);
  }

  setRange(range) {
    this.range = range;
    this.element.classList.toggle("chosen", Boolean(range));
    this.clear.hidden = !range;
    if (this.low !== undefined) {
      this.from.value = range ? range[0] : this.low;
      this.to.value = range ? range[1] : this.high;
      this.from.setAttribute("aria-valuetext", binName(this.signal, Number(this.from.value)));
      this.to.setAttribute("aria-valuetext", binName(this.signal, Number(this.to.value)));
    }
    this.paintRange();
    this.tell();
  }

  /** Repaint with other counts: [dropped, kept] by bin. `whole` is that of the run, once. */
  paint(counts, whole) {
    if (whole) {
      this.whole = whole;
      const there = whole[0].map((n, i) => n + whole[1][i]);
      this.low = Math.max(there.findIndex((n) => n > 0), 0);
      this.high = Math.max(there.findLastIndex((n) => n > 0), this.low);
      for (const slider of [this.from, this.to]) {
        slider.min = this.low;
        slider.max = this.high;
      }
      this.ends[0].textContent = binName(this.signal, this.low);
      this.ends[1].textContent = binName(this.signal, this.high);
      this.paintMarks();
      this.setRange(this.range);
    }
    this.counts = counts;
    const sum = (both, i) => both[0][i] + both[1][i];
    let most = 1;
    let mostOfAll = 1;
    for (let i = this.low; i <= this.high; i += 1) {
      most = Math.max(most, sum(counts, i));
      mostOfAll = Math.max(mostOfAll, sum(this.whole, i));
    }
    this.all.setAttribute("d", this.bars((i) => sum(this.whole, i), mostOfAll));
    this.dropped.setAttribute("d", this.bars((i) => sum(counts, i), most));
    this.kept.setAttribute("d", this.bars((i) => counts[1][i], most));
    this.tell();
  }

  bars(value, most) {
    const step = WIDTH / (this.high - this.low + 1);
    const gap = step > 5 ? 0.6 : 0;
    const scale = this.root ? (n) => Math.sqrt(n / most) : (n) => n / most;
    let path = "";
    for (let i = this.low; i <= this.high; i += 1) {
      const n = value(i);
      if (!n) continue;
      const top = HEIGHT - Math.max(scale(n) * (HEIGHT - 4), 1);
      const x = (i - this.low) * step + gap;
      path += `M${x.toFixed(2)} ${HEIGHT}V${top.toFixed(2)}h${(step - 2 * gap).toFixed(2)}V${HEIGHT}z`;
    }
    return path;
  }

  paintMarks() {
    const span = this.high - this.low + 1;
    this.marks.replaceChildren();
    for (const rule of this.signal.rules) {
      const at = ((placeOf(this.signal, rule.value) - this.low) / span) * WIDTH;
      if (at >= 0 && at <= WIDTH) this.marks.append(h("line", { class: "threshold", x1: at, x2: at, y1: 0, y2: HEIGHT }, h("title", {}, `${rule.key} ${rule.value} (${rule.section})`)));
    }
  }

  paintRange() {
    if (this.low === undefined) return;
    const span = this.high - this.low + 1;
    const [first, last] = this.range ?? [this.low, this.low - 1];
    this.shade.setAttribute("x", ((first - this.low) / span) * WIDTH);
    this.shade.setAttribute("width", Math.max(0, ((last - first + 1) / span) * WIDTH));
    this.element.querySelector(".range").style.setProperty("--from", `${(100 * (first - this.low)) / span}%`);
  }

  tell() {
    if (!this.range) this.said.textContent = "";
    else {
      const [first, last] = this.range;
      this.said.textContent = first === last ? binName(this.signal, first) : `${binName(this.signal, first)} to ${binName(this.signal, last)}`;
    }
  }
}
