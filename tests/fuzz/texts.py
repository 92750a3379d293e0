"""Text to its signals and ids."""

from __future__ import annotations

import functools
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from .cases import Case, Fault, text_of


def make_text(rng: random.Random) -> Case:
    texts = [text_of(rng) for _ in range(rng.randrange(1, 6))]
    return Case("texts.json", json.dumps(texts).encode())


def scan(case: Case, folder: Path) -> str:
    """Signals of every text; edits that lie in it, in order, and whose result is UTF-8."""
    from fox1.pipeline.run.identity import SourceFile
    from fox1.pipeline.signals.c4 import LINE_EDITS
    from fox1.pipeline.signals.pii import KINDS
    from fox1.pipeline.signals.scan import EditSettings, Models, ScanSettings, scan_piece, scanned_schema
    from fox1.pipeline.sources.text_schema import TEXT_SCHEMA
    from fox1.pipeline.text.edits import apply_edits, raw_span

    texts = json.loads(case.data)
    edits = EditSettings(tuple((kind, f"<{kind}>") for kind in KINDS), (("code", LINE_EDITS),), True)
    settings = ScanSettings(edits=edits)
    n = len(texts)
    columns = [range(n), texts, ["Github"] * n, texts, texts, [0] * n]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, TEXT_SCHEMA, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=TEXT_SCHEMA)
    file = SourceFile("fuzz", "x.jsonl", "", 0, "", "pile", False, 1)
    signals = scan_piece(batch, file, settings, scanned_schema(settings), Models.nothing())
    signals.validate(full=True)
    final = apply_edits(batch.column("text"), signals.column("edits"))
    final.validate(full=True)
    for text, listed, edited in zip(texts, signals.column("edits").to_pylist(), final.to_pylist(), strict=True):
        bounds = [b for e in listed for b in (e["start"], e["end"])]
        if bounds != sorted(bounds) or (bounds and not 0 <= bounds[0] <= bounds[-1] <= len(text.encode())):
            raise Fault(f"edits {listed} of {len(text.encode())} bytes")
        first, end = raw_span(listed, 0, len(edited.encode()))
        if not 0 <= first <= end <= len(text.encode()):
            raise Fault(f"the edited text comes from bytes {first} to {end} of {len(text.encode())}")
    return "edited" if any(signals.column("edits").to_pylist()) else "read"


@functools.cache
def encoder() -> Any:
    """An encoder of a small model with the pieces of the chat template, and its SentencePiece processor."""
    from fox1.tokenize.encode import Encoder
    from fox1.tokenize.model import TokenizerSettings, load, train

    text = ["What does the fox say?\n\n  The fox says nothing; it is user and model 123.\n"] * 200
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(train((f"{t}{i}" for i, t in enumerate(text)), TokenizerSettings(vocab_size=370)))
        file.flush()
        path = Path(file.name)
        return Encoder(path, TokenizerSettings().reserved), load(path)


def encode(case: Case, folder: Path) -> str:
    """No text becomes a control or reserved id, alone or in a conversation, and none is lost."""
    from fox1.tokenize.chat import MARKS, TEMPLATES, ChatEncoder, compose

    texts = json.loads(case.data)
    encode, processor = encoder()
    barred = {i for i in range(processor.vocab_size()) if processor.is_control(i) or processor.is_unknown(i)}
    pieces = set(encode.reserved_ids.values())
    encoded = encode.encode(pa.array(texts, pa.large_string()))
    if barred & set(encoded.ids.tolist()) or pieces & set(encoded.ids.tolist()):
        raise Fault("a control or reserved id from text")
    for i, text in enumerate(texts):
        ids = encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]].tolist()
        if encode.decode(ids).decode().replace("\u2581", " ") != text.replace("\u2581", " "):
            raise Fault(f"decodes to another text: {text!r}")
        if encode.byte_bounds(text.encode(), ids)[-1] != len(text.encode()):
            raise Fault(f"bounds of tokens: {text!r}")
    said = ["".join(c for c in t if c not in MARKS.values()) for t in texts]
    turns = [(("user", "assistant")[i % 2], t) for i, t in enumerate([*said, "end", "end"])]
    chat = ChatEncoder(encode, TEMPLATES["gemma"]).encode(pa.array([compose(turns)], pa.large_string())).ids.tolist()
    if barred & set(chat) or sum(i in pieces for i in chat) != 2 * len(turns):
        raise Fault("what is said made a piece of the template")
    return "literals" if encoded.with_control or encoded.with_reserved else "read"


SHORT, LONG = 1 << 17, 1 << 19
SLACK = 0.05
"""Seconds that a kernel may take in any case: what is measured there is the machine."""


def make_pattern(rng: random.Random) -> Case:
    """A unit that is repeated to a long text: of literals that mean something to some kernel, and letters."""
    unit = text_of(rng, 5) or "a"
    return Case("unit.json", json.dumps(unit[: rng.randrange(1, 200)]).encode())


def take_time(case: Case, folder: Path) -> str:
    """Four times the text takes about four times as long, in scan and in encode."""
    unit = json.loads(case.data)
    for name, work in (("scan", _scan_alone), ("encode", lambda text: encoder()[0].encode(text))):
        seconds = []
        for size in (SHORT, LONG):
            text = pa.array([unit * (1 + size // len(unit.encode()))], pa.large_string())
            tries = []
            for _ in range(2):
                began = time.process_time()
                work(text)
                tries.append(time.process_time() - began)
            seconds.append(min(tries))
        # Twice what n log n allows, since caches and machines differ.
        if seconds[1] > 9 * max(seconds[0], SLACK):
            raise Fault(
                f"{name} takes {seconds[0]:.2f} s for {SHORT:,} bytes and {seconds[1]:.2f} s for {LONG:,}: {unit!r}"
            )
    return "read"


def _scan_alone(text: pa.Array) -> None:
    from fox1.pipeline.run.identity import SourceFile
    from fox1.pipeline.signals.c4 import LINE_EDITS
    from fox1.pipeline.signals.pii import KINDS
    from fox1.pipeline.signals.scan import EditSettings, Models, ScanSettings, scan_piece, scanned_schema
    from fox1.pipeline.sources.text_schema import TEXT_SCHEMA

    edits = EditSettings(tuple((kind, f"<{kind}>") for kind in KINDS), (("code", LINE_EDITS),), True)
    settings = ScanSettings(edits=edits)
    columns = [pa.array([0], pa.int64()), text, ["Github"], [""], text.cast(pa.string()), [0]]
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in zip(columns, TEXT_SCHEMA, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=TEXT_SCHEMA)
    file = SourceFile("fuzz", "x.jsonl", "", 0, "", "pile", False, 1)
    scan_piece(batch, file, settings, scanned_schema(settings), Models.nothing())
