"""Reads checkpoints without running anything that they hold.

torch pickles the metadata of a checkpoint, and its few values other than tensors, and would call whatever a pickle names.
Here a pickle may name the classes of torch's own metadata and nothing else.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from ...storage.inside import named
from ...storage.wording import first_line

_METADATA = {
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "Metadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorProperties",
    "TensorStorageMetadata",
    "_MEM_FORMAT_ENCODING",
    "_StorageInfo",
}
_OTHERS = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        ours = module.startswith("torch.distributed.checkpoint.") and name in _METADATA
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not ours and not dtype and (module, name) not in _OTHERS:
            raise ValueError(f"its metadata names {module}.{name}, which no checkpoint needs; do not trust this file")
        return super().find_class(module, name)


class _RestrictedReader(dcp.FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / ".metadata", "rb") as file:
            metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise ValueError("its metadata is not that of a checkpoint")
        for stored in (metadata.storage_data or {}).values():
            named(Path(self.path), stored.relative_path)
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _WeightsOnlyPlanner(DefaultLoadPlanner):
    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        safe = io.BytesIO()
        # Read as weights only, then handed on in a form that is safe for torch to read without restrictions.
        torch.save(torch.load(value, weights_only=True), safe)
        safe.seek(0)
        super().load_bytes(read_item, safe)


def names_in(checkpoint: Path) -> set[str]:
    """The names of all values in a checkpoint.

    Raises:
        ValueError: its metadata is damaged, or names what no checkpoint needs.
    """
    try:
        return set(_RestrictedReader(str(checkpoint)).read_metadata().state_dict_metadata)
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"{checkpoint} cannot be read as a checkpoint ({error})") from None


def load_state(checkpoint: Path, state: dict[str, Any], no_dist: bool = False) -> None:
    """Load parts of a checkpoint into `state`, in place.

    Args:
        no_dist: load in this process alone.

    Raises:
        ValueError: the checkpoint is damaged or holds more than plain data, or a part is missing or has another shape.
    """
    try:
        dcp.load(
            state, storage_reader=_RestrictedReader(str(checkpoint)), planner=_WeightsOnlyPlanner(), no_dist=no_dist
        )
    except dcp.CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        first = first_line(cause)
        raise ValueError(f"{checkpoint} cannot be loaded (on rank {rank}: {first})") from error
