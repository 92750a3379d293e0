"""What one edge takes in dedupe's pass over all of them, with the states of as many documents as the full recipe has.

    python -m benchmarks.dedupe_pass [--documents 5.2G] [--edges 30M]

The pass is the only task of dedupe that cannot be divided. Edges lie as in a run, in the order of their better documents; the
worse one is any document. In no order at all, both are. Processor time, medians of three. The last line is JSON: nanoseconds an
edge of the pass (`walked_ns`, `walked_unordered_ns`) and of judging edges by the final states (`judged_ns`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from fox1.pipeline.dedupe.decide import LINK, _columns, _verdicts, _walk
from fox1.recipes.units import quantity

ROUNDS = 3


def links(documents: int, edges: int, ordered: bool) -> list[np.ndarray]:
    """Edges between any documents."""
    draw = np.random.default_rng(1)
    better, worse = draw.integers(0, documents, edges), draw.integers(0, documents, edges)
    if ordered:
        better.sort()
    rows = np.empty(edges, LINK)
    for name, numbers in (("better", better), ("worse", worse)):
        rows[name], rows[f"{name}_high"] = numbers & 0xFFFFFFFF, numbers >> 32
    return _columns(rows)


def nanoseconds(call: Callable[[], object], edges: int) -> float:
    """What a call takes an edge."""
    began = time.process_time()
    call()
    return (time.process_time() - began) / edges * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=quantity, default=quantity("5.2G"))
    parser.add_argument("--edges", type=quantity, default=quantity("30M"))
    options = parser.parse_args()
    documents, edges = int(options.documents), int(options.edges)
    states = np.zeros(documents // 4 + 1, np.uint8)
    some = links(documents, 10, True)
    _walk(states, *some)
    _verdicts(states, *some)
    took: dict[str, list[float]] = {"walked_ns": [], "walked_unordered_ns": [], "judged_ns": []}
    for ordered in (True, False):
        columns = links(documents, edges, ordered)
        for _ in range(ROUNDS):
            # In memory before it is timed, as it is in a pass once it is under way.
            states.fill(0)
            walked = nanoseconds(lambda: _walk(states, *columns), edges)  # noqa: B023
            took["walked_ns" if ordered else "walked_unordered_ns"].append(walked)
            if ordered:
                took["judged_ns"].append(nanoseconds(lambda: _verdicts(states, *columns), edges))  # noqa: B023
    print(json.dumps({name: round(statistics.median(values), 1) for name, values in took.items()}))


if __name__ == "__main__":
    main()
