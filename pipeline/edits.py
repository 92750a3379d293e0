"""The one function that applies edits: used wherever a document's final text is made or shown."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def apply_edits(text: pa.LargeStringArray, edits: pa.ListArray) -> pa.LargeStringArray:
    """Replace the edited spans of every document.

    Args:
        text: documents [n].
        edits: lists [n] of `EDIT_TYPE` structs, spans in raw UTF-8 bytes, sorted and disjoint.

    Returns:
        The edited documents; the same array where no document has an edit.
    """
    touched = pc.indices_nonzero(pc.greater(pc.list_value_length(edits), 0))
    if len(touched) == 0:
        return text
    changed = []
    for i in touched.to_pylist():
        raw = text[i].as_py().encode()
        parts, at = [], 0
        for edit in edits[i].as_py():
            parts += [raw[at : edit["start"]], edit["replacement"].encode()]
            at = edit["end"]
        changed.append(b"".join([*parts, raw[at:]]).decode())
    mask = pa.array([False] * len(text), pa.bool_()).to_numpy(zero_copy_only=False).copy()
    mask[touched.to_numpy()] = True
    return pc.replace_with_mask(text, pa.array(mask), pa.array(changed, pa.large_string()))
