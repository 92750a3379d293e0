"""What damage weighs against `max_bad_rows`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.signals.scan import FileSignals
from fox1.pipeline.stats.ledger import CorpusFunnel, check_bad_rows, scan_funnels

WHOLE = ("", 0, False)


def funnel(*files: tuple[int, int, tuple[str, int, bool]], root: str = "/data") -> CorpusFunnel:
    """Of one corpus, from (stored bytes, rows that were read, (damage, intact bytes, cut)) of its files."""
    sources, signals = [], {}
    for number, (size, rows, (damage, intact, cut)) in enumerate(files):
        sources.append(SourceFile("web", f"{number}.gz", f"{root}/{number}.gz", size, "", "pile", False, number + 1))
        signals[sources[-1].name] = FileSignals(
            Artifact("", 0, rows, ""), Artifact("", 0, rows, ""), None, rows, 0, 0, 0, damage, intact, cut
        )
    return scan_funnels(sources, signals)[0]


def stops(found: CorpusFunnel, limit: float) -> bool:
    try:
        check_bad_rows([found], limit, "/run/quarantine")
    except ValueError:
        return True
    return False


FOUR = [(1000, 100, WHOLE)] * 3


@pytest.mark.parametrize(
    ("files", "share", "rows"),
    [
        ([*FOUR, (1000, 0, ("window", 0, False))], 25.0, 100),
        ([*FOUR, (1000, 99, ("garbage", 990, False))], 0.25, 1),
        ([*FOUR, (0, 0, ("empty", 0, True))], 25.0, 100),
        # Cut in half: as much again is missing.
        ([(500, 50, ("cut", 500, True))] * 4, 50.0, 200),
        # Of a tail of ten bytes, no more than of the mean file.
        ([*FOUR, (10, 1, ("cut", 10, True))], 100 * 752 / (3010 + 752), 76),
        # Parquet without its footer: none of what there is can be read either.
        ([*FOUR, (500, 0, ("cut", 0, True))], 100 * 1375 / (3500 + 875), 138),
    ],
    ids=["a window", "garbage", "empty", "cut", "a cut tail", "no footer"],
)
def test_a_damaged_file_weighs_by_its_stored_bytes(
    files: Sequence[tuple[int, int, tuple[str, int, bool]]], share: float, rows: int
) -> None:
    found = funnel(*files)
    assert found.lost_share == pytest.approx(share, rel=1e-3) and found.lost_rows == pytest.approx(rows, abs=1)
    assert stops(found, 0.001) and stops(found, 0) and not stops(found, 0.6) and not stops(found, rows + 1)


def test_files_of_unknown_size_weigh_alike() -> None:
    files = [(0, 100, WHOLE)] * 3 + [(0, 50, ("cut", 700, True))]
    assert funnel(*files, root="https://x").lost_share == pytest.approx(40)
    assert funnel((0, 0, WHOLE), (1000, 10, WHOLE)).stored_bytes == 1000


def test_a_corpus_of_which_nothing_could_be_read_stops_whatever_the_limit() -> None:
    found = funnel((1000, 0, ("window", 0, False)))
    assert stops(found, 0.99) and stops(found, 1_000_000)
    with pytest.raises(
        ValueError, match=r"0 bad rows of 0 and 1 damaged file that lost 100 % of the corpus \(web/0.gz: window\)"
    ):
        check_bad_rows([found], 0.5, "/run/quarantine")
