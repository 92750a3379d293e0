"""The rows of a source, whatever its format."""

from __future__ import annotations

import pyarrow as pa

TEXT_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("native_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
    ]
)
"""What a source yields. Corpus, file and domain follow from the file and the subset."""
