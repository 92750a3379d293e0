// What came in, what stayed, what trains; findings in words. The server describes the cards, as those of a report.

import { grown } from "./dom.js";
import { choose } from "./explore.js";

export function overview(place, run) {
  place.append(...run.cards.map(grown));
  for (const button of place.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => choose({ [button.dataset.choose]: button.dataset.name }));
  }
}
