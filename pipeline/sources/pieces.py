"""Where large files are cut, so that many tasks read one of them.

    plain JSON lines             before lines; newlines are counted in ranges of bytes, side by side
    zstd of several frames       before the first line of a frame; decoded up to the first damage
    Parquet                      before row groups, by the footer alone

Cuts follow from the file and from constants, never from the machine. Whatever begins within a line, a frame or a row group
belongs to the piece before. gz, bz2, CSV, single frames, Arrow files and what other readers read stay whole; the tables that scan
makes of them are cut all the same (`signals/stage.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..engine.engine import Engine
from ..engine.tasks import Task
from ..run.identity import Piece, SourceFile
from .formats import CHUNK, Damaged, can_be_cut, chunks, is_separated, open_source
from .listing import check_unchanged
from .tables import row_groups

VERSION = 1
PLAIN, TABLE = (".jsonl", ".json", ".ndjson"), ".parquet"
"""Suffixes of the files that can always be cut; of compressed ones only their frames tell."""
MOST_TEXT = 512 << 20
"""Bytes of text from which a file is cut; pieces are between half of it and all, but for what stays whole in them."""
ROWS_TEXT = 4 * MOST_TEXT
"""Bytes of text from which a file that stays whole is cut while it is scanned, and with which such a piece is full. One task
reads all of them, so that they need only be small enough for the steps that do not read text."""
MOST_PER_BYTE = 8
"""Most bytes of text that a byte of compressed text or of Parquet is expected to hold: smaller files are not looked at."""
RANGES = 8
"""Pieces of plain text that one task counts."""
SINGLE = 8
"""A first frame of more than so many times `MOST_TEXT` is taken for the only one, so that its file is not decoded for a count."""


@dataclass(frozen=True)
class Cut:
    """Where a piece begins; see `Piece`."""

    begin: int
    skip: int
    row: int
    text: int
    """Bytes of text before it."""


START = Cut(0, 0, 0, 0)


@dataclass(frozen=True)
class CountedLines:
    """The newlines of consecutive ranges of a plain file."""

    newlines: tuple[int, ...]
    first: tuple[int, ...]
    """Where the line after the first newline of each range begins; -1 where there is none."""


@dataclass(frozen=True)
class CountedParts:
    """Where a file of frames or row groups can be cut."""

    cuts: tuple[Cut, ...]
    text: int
    """Bytes of all its text; of frames up to the first damage."""


def cut_files(engine: Engine, files: Sequence[SourceFile], step: str = "scan.count") -> list[SourceFile]:
    """The files in their order, large ones as their pieces.

    Args:
        step: what counts them.

    Raises:
        ValueError: a file changed since planning.
    """
    plain = [f for f in files if _is_cut(f, PLAIN, MOST_TEXT)]
    bounds = {f.name: _bounds(f.size) for f in plain}
    tasks: list[Task[object]] = []
    for file in plain:
        for k in range(0, len(bounds[file.name]) - 1, RANGES):
            own = bounds[file.name][k : k + RANGES + 1]
            tasks.append(Task(f"{file.name}/{k // RANGES:05d}", count_lines, (file, own), weight=own[-1] - own[0]))
    for suffix, count in ((".zst", count_frames), (TABLE, count_row_groups)):
        large = [f for f in files if _is_cut(f, (suffix,), MOST_TEXT // MOST_PER_BYTE)]
        tasks += [Task(f.name, count, (f, MOST_TEXT), weight=f.size) for f in large]
    if not tasks:
        return list(files)
    found: dict[str, list[object]] = {}
    for task, counted in zip(tasks, engine.run(step, VERSION, tasks), strict=True):
        found.setdefault(task.args[0].name, []).append(counted)
    pieces: list[SourceFile] = []
    for file in files:
        counted = found.get(file.name, [])
        lines = [c for c in counted if isinstance(c, CountedLines)]
        parts = [c for c in counted if isinstance(c, CountedParts)]
        if lines:
            pieces += _pieces(file, line_cuts(lines, file.size), file.size)
        else:
            pieces += _pieces(file, parts[0].cuts, parts[0].text) if parts else [file]
    return pieces


def _is_cut(file: SourceFile, suffixes: tuple[str, ...], least: int) -> bool:
    if file.reader or file.extracted or file.size <= least:
        return False
    # A row of CSV may hold a newline.
    return not is_separated(file.path) and file.path.endswith(suffixes)


def up_to_damage(files: Sequence[SourceFile], damage: Mapping[str, str]) -> Iterator[SourceFile]:
    """The files and pieces that are used: of a damaged file no piece after the damage is, as if it had not been cut.

    Args:
        damage: by `SourceFile.table`, what is wrong; empty: nothing.
    """
    damaged = set[str]()
    for file in files:
        if file.name not in damaged:
            yield file
        if damage[file.table]:
            damaged.add(file.name)


def _bounds(size: int) -> tuple[int, ...]:
    """Where equal ranges of a plain file begin and end, each a byte early: a newline there begins a line at the cut."""
    count = -(-size // MOST_TEXT)
    return (0, *(k * size // count - 1 for k in range(1, count)), size)


def _pieces(file: SourceFile, cuts: Iterable[Cut], text: int) -> list[SourceFile]:
    """A file cut where its text, or its row groups, were counted."""
    starts = [START, *cuts]
    if len(starts) == 1:
        return [file]
    lines = not file.path.endswith(".parquet")
    found = []
    for number, (cut, after) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        size = (after.text if after else text) - cut.text
        length = -1 if after is None else size if lines else after.begin - cut.begin
        piece = Piece(number, cut.begin, cut.skip, length, cut.row, cut.text if lines else -1, size)
        found.append(replace(file, piece=piece))
    return found


def count_lines(file: SourceFile, bounds: Sequence[int]) -> CountedLines:
    """Count the newlines between some bytes of a plain file; of a file that gives no ranges, none."""
    check_unchanged(file)
    ranges = len(bounds) - 1
    newlines, first = [0] * ranges, [-1] * ranges
    if not can_be_cut(file.url):
        return CountedLines(tuple(newlines), tuple(first))
    with open_source(file.url) as raw:
        raw.seek(bounds[0])
        for k in range(ranges):
            at = bounds[k]
            while at < bounds[k + 1]:
                data = raw.read(min(CHUNK, bounds[k + 1] - at))
                if not data:
                    raise OSError(f"{file.name} ended at byte {at:,}, before byte {bounds[-1]:,}")
                if first[k] < 0 and (place := data.find(b"\n")) >= 0:
                    first[k] = at + place + 1
                newlines[k] += data.count(b"\n")
                at += len(data)
    check_unchanged(file)
    return CountedLines(tuple(newlines), tuple(first))


def line_cuts(counted: Iterable[CountedLines], size: int) -> list[Cut]:
    """The cuts of a plain file from the ranges of all its tasks, in their order."""
    cuts, rows = list[Cut](), 0
    for k, (newlines, first) in enumerate((n, f) for c in counted for n, f in zip(c.newlines, c.first, strict=True)):
        # A range without a newline lies within a line. Nothing begins after the last newline of a file.
        if k and 0 <= first < size:
            cuts.append(Cut(first, 0, rows + 1, first))
        rows += newlines
    return cuts


def count_row_groups(file: SourceFile, most: int) -> CountedParts:
    """Spread the row groups of a Parquet file over as many pieces of equal text as it takes.

    Args:
        most: bytes of text of a piece.
    """
    check_unchanged(file)
    groups = row_groups(file.url)
    total, cuts, rows, text, piece = sum(size for _, size in groups), list[Cut](), 0, 0, 0
    if any(min(facts) < 0 for facts in groups):
        # The scan says what is wrong with it.
        return CountedParts((), total)
    count = -(-total // most)
    for number, (n, size) in enumerate(groups):
        if text * count // max(total, 1) > piece and rows > (cuts[-1].row if cuts else 0) and n:
            cuts.append(Cut(number, 0, rows, text))
            piece = text * count // total
        rows, text = rows + n, text + size
    return CountedParts(tuple(cuts), total)


def count_frames(file: SourceFile, most: int) -> CountedParts:
    """Decode a zstd file up to its end or the first damage, and cut it where frames begin.

    Args:
        most: bytes of text of a piece.
    """
    check_unchanged(file)
    frames, lines = list[tuple[int, int]](), _FrameCuts(most * 3 // 4)
    try:
        for chunk in chunks(file.url, frames=frames) if can_be_cut(file.url) else ():
            lines.add(chunk, frames)
            frames.clear()
            if not lines.frames and lines.text > SINGLE * most:
                break
    except Damaged:
        pass
    check_unchanged(file)
    cuts = [cut for cut in lines.cuts if cut.text < lines.text]
    if cuts and lines.text - cuts[-1].text < most // 4:
        cuts.pop()
    return CountedParts(tuple(cuts), lines.text)


class _FrameCuts:
    """The cuts of a text that comes chunk by chunk, each at the first line that begins in a frame."""

    def __init__(self, least: int) -> None:
        """
        Args:
            least: bytes of text between two cuts.
        """
        self._least = least
        self._last = b"\n"
        self._rows = 0
        self.text = 0
        self.frames: list[tuple[int, int]] = []
        """(stored byte, byte of the text) where a frame begins; only the last one is kept."""
        self.cuts: list[Cut] = []

    def add(self, chunk: bytes, frames: Sequence[tuple[int, int]]) -> None:
        """
        Args:
            frames: where others begin in the chunk, or at its end.
        """
        begins = [*self.frames, *frames]
        least = self.cuts[-1].text + self._least if self.cuts else self._least
        while frame := next((f for f in begins if f[1] >= least), None):
            # A newline before the frame begins a line with it.
            start = self._line_after(chunk, frame[1] - 1)
            if start < 0:
                break
            stored, at = [f for f in begins if f[1] <= start][-1]
            rows = self._rows + chunk.count(b"\n", 0, start - self.text)
            self.cuts.append(Cut(stored, start - at, rows, start))
            least = start + self._least
        self.frames = begins[-1:]
        self._rows += chunk.count(b"\n")
        self.text += len(chunk)
        self._last = chunk[-1:] or self._last

    def _line_after(self, chunk: bytes, at: int) -> int:
        """Where a line begins after the first newline from a byte of the text on; -1 where none does in the chunk."""
        if at == self.text - 1 and self._last == b"\n":
            return self.text
        place = chunk.find(b"\n", max(0, at - self.text))
        return self.text + place + 1 if place >= 0 else -1
