// Elements and numbers. Text becomes text nodes, always: no string of a run is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";
const OF_SVG = new Set(["svg", "path", "rect", "line", "g", "text", "title", "circle", "polyline"]);

/** An element: `class`, `on: {event: handler}`, `vars: {"--name": value}`, other attributes by their names. */
export function h(tag, properties = {}, ...children) {
  const element = OF_SVG.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === "vars") for (const [key, part] of Object.entries(value)) element.style.setProperty(key, part);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  put(element, children);
  return element;
}

function put(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) put(element, child);
    else if (child instanceof Node) element.append(child);
    else if (child !== null && child !== undefined && child !== false) element.append(document.createTextNode(String(child)));
  }
}

/** The elements that the server describes: a text, or [tag, attributes, children]. */
export const grown = (node) => (Array.isArray(node) ? h(node[0], node[1], node[2].map(grown)) : node);

/** Put other children into an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  put(element, children);
  return element;
}

const whole = new Intl.NumberFormat("en-US");
export const number = (value) => (Number.isInteger(value) ? whole.format(value) : real(value));

function real(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  return size >= 1000 ? whole.format(Math.round(value)) : size >= 1 ? trim(value.toFixed(2)) : trim(value.toFixed(4));
}

const trim = (text) => (text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text);

/** A number in three digits: 12.3K. */
export function short(value) {
  for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["K", 1e3]]) {
    if (Math.abs(value) >= size) return trim((value / size).toPrecision(3)) + unit;
  }
  return number(value);
}

export function percent(part, total, digits = 1) {
  if (!total) return "–";
  const share = (100 * part) / total;
  return `${share && share < 0.1 ? "<0.1" : share.toFixed(share >= 99.95 ? 0 : digits)} %`;
}

/** `1 document`, `2,000 documents`. */
export const counted = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

/** `exact_duplicate` as people write it. */
export const words = (name) => name.replaceAll("_", " ");

/** A colour's place for a name, the same wherever the name is shown. */
export function colour(names, name) {
  const at = names.indexOf(name);
  return at < 0 ? "var(--c11)" : `var(--c${at % 11})`;
}

export function table(heads, rows, options = {}) {
  const body = rows.map((cells) =>
    h("tr", {}, cells.map((cell, i) => (i === 0 && !options.plain ? h("th", { scope: "row" }, cell) : h("td", { class: options.text?.includes(i) ? "text" : null }, cell)))));
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": options.label ?? "Table" },
    h("table", {},
      options.caption ? h("caption", {}, options.caption) : null,
      h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: options.text?.includes(i) ? "text" : null }, head)))),
      h("tbody", {}, body)));
}

export function later(wait, act) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), wait);
  };
}
