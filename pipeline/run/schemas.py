"""What files of a run hold: schemas, sizes of row groups, and the names of its stages and folders."""

from __future__ import annotations

import pyarrow as pa

STAGES = ("prepare", "scan", "filter", "dedupe", "tokenize", "mix", "stats")
"""In their order; a step of a stage is named `<stage>.<step>`."""

ROW_GROUP_ROWS = 8192
"""Rows of a Parquet row group: a constant of the format, so that bytes do not depend on how rows arrived."""
SIGNAL_GROUP_ROWS = 65_536
"""The same of `signals/` and `signatures/`, of which a few columns are read at a time: fewer rows of one would not be worth
a request to a store."""

FINAL = (
    *("extracted", "prepare", "signals", "signatures", "scores", "decisions", "cuts"),
    *("tokens", "phases", "held_out", "index", "stats"),
)
"""Folders of a run whose files are equal byte for byte, whatever the workers, the order of files, retries or kills."""

EDIT_TYPE = pa.list_(
    pa.field(
        "edit",
        pa.struct(
            [
                pa.field("start", pa.int64(), nullable=False),
                pa.field("end", pa.int64(), nullable=False),
                pa.field("kind", pa.uint8(), nullable=False),
                pa.field("replacement", pa.string(), nullable=False),
            ]
        ),
        nullable=False,
    )
)
"""Sorted byte spans in the raw UTF-8, each with a kind and a replacement."""


def _field(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


DECISION_SCHEMA = pa.schema(
    [
        _field("corpus", pa.string()),
        _field("file", pa.string()),
        _field("row", pa.int64()),
        _field("doc_id", pa.uint64()),
        _field("kept", pa.bool_()),
        _field("reason", pa.string()),
        _field("reasons", pa.list_(pa.field("reason", pa.string(), nullable=False))),
        _field("duplicate_of", pa.uint64()),
        _field("similarity", pa.float32()),
        _field("kind", pa.string()),
        _field("cluster_size", pa.uint32()),
    ]
)
"""One row per document of a source file, in row order. `duplicate_of` is 0 and `kind` empty where there is none."""

CUT_SCHEMA = pa.schema(
    [
        _field("doc_id", pa.uint64()),
        _field("edits", EDIT_TYPE),
        _field(
            "passages",
            pa.list_(
                pa.field(
                    "passage",
                    pa.struct(
                        [
                            pa.field("start", pa.int64(), nullable=False),
                            pa.field("end", pa.int64(), nullable=False),
                            pa.field("kind", pa.uint8(), nullable=False),
                            pa.field("kept_in", pa.uint64(), nullable=False),
                            pa.field("held_out", pa.bool_(), nullable=False),
                        ]
                    ),
                    nullable=False,
                )
            ),
        ),
    ]
)
"""One row per document of a source file, in row order: all its edits, and the passages that were cut, as spans of the raw UTF-8
with the document that keeps each, and whether that one is held out. Those of several kinds may overlap."""
