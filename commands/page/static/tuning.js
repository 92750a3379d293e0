// What a tuning found. The server describes the cards, as those of a report.

import { grown } from "./dom.js";

export function tuning(place, run) {
  if (!run.tuning) throw new Error("No tuning is shown: name one, as in `fox1 inspect RUN --tuning TUNE`.");
  place.append(...run.tuning.map(grown));
}
