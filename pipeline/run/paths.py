"""Where everything of one run lies."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import xxhash

from ...storage.inside import is_partial, named
from ...storage.lease import Lease
from .artifacts import Artifact, remove


@dataclass(frozen=True)
class RunPaths:
    """Where everything of one run lies. Names that come from files of the run never lead out of it."""

    root: Path
    state: str = ""
    """Folder below the root of records and timings; empty: the root."""
    lease: Lease | None = field(default=None, compare=False, repr=False)
    """What its files are written under; None: they are only read."""

    def named(self, name: str) -> Path:
        """A file of the run by its name in a record or the manifest.

        Raises:
            ValueError: the name leads out of the run, or through a symbolic link.
        """
        return named(self.root, name)

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def training(self) -> Path:
        return self.root / "training.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def tokenizer(self) -> Path:
        return self.named("prepare/tokenizer.model")

    def prepare(self, name: str) -> Path:
        return self.named(f"prepare/{name}")

    def extracted(self, corpus: str, path: str) -> Path:
        return self.named(f"extracted/{corpus}/{path}.parquet")

    def signals(self, corpus: str, path: str) -> Path:
        return self.named(f"signals/{corpus}/{path}.parquet")

    def signatures(self, corpus: str, path: str) -> Path:
        return self.named(f"signatures/{corpus}/{path}.parquet")

    def scores(self, corpus: str, path: str) -> Path:
        return self.named(f"scores/{corpus}/{path}.parquet")

    def quarantine(self, corpus: str, path: str) -> Path:
        return self.named(f"quarantine/{corpus}/{path}.jsonl")

    def filtered(self, group: str) -> Path:
        return self.named(f"filtered/{group}.parquet")

    def dedupe(self, name: str) -> Path:
        return self.named(f"dedupe/{name}")

    def decisions(self, corpus: str, path: str) -> Path:
        return self.named(f"decisions/{corpus}/{path}.parquet")

    def first_decisions(self, corpus: str, path: str) -> Path:
        """The decisions on documents, where passages are cut after them."""
        return self.named(f"dedupe/decided/{corpus}/{path}.parquet")

    def cuts(self, corpus: str, path: str) -> Path:
        return self.named(f"cuts/{corpus}/{path}.parquet")

    def tokens(self, corpus: str, subset: str, index: str) -> Path:
        # Subsets are read from rows: no name of theirs may leave the folder. Dots are quoted too, for `..`.
        place = Path("tokens", corpus, quote(subset, safe="").replace(".", "%2E"), f"{index}.arrow")
        return self.named(place.as_posix())

    def mix(self, name: str) -> Path:
        return self.named(f"mix/{name}")

    def counts(self, name: str) -> Path:
        """What tasks counted, for others that add it together."""
        return self.named(f"counts/{name}")

    def phase(self, name: str) -> Path:
        return self.named(f"phases/{name}")

    @property
    def held_out(self) -> Path:
        return self.named("held_out")

    def index(self, name: str) -> Path:
        return self.named(f"index/{name}")

    def stats(self, name: str) -> Path:
        return self.named(f"stats/{name}.json")

    def record(self, stage: str, task: str) -> Path:
        return self.records / stage / self.record_name(task)

    @staticmethod
    def record_name(task: str) -> str:
        """Of the file in the folder of its step."""
        name = quote(task, safe="")
        if len(name) > 200:  # file systems end names at 255 bytes
            name = f"{name[:150]}-{xxhash.xxh3_64_hexdigest(task.encode())}"
        return f"{name}.json"

    @property
    def records(self) -> Path:
        return self.root / self.state / "records"

    @property
    def parts(self) -> Path:
        return self.root / self.state / "parts"

    def lists(self, name: str) -> Path:
        return self.root / self.state / "lists" / f"{name}.json"

    def timings(self, name: str) -> Path:
        return self.root / self.state / "timings" / name

    def relative(self, artifact: Artifact) -> Artifact:
        """An artifact with its name in the run."""
        return replace(artifact, path=self.name_of(artifact))

    def name_of(self, artifact: Artifact) -> str:
        """The name in the run of a file of it."""
        root = f"{self.root}/"
        assert artifact.path.startswith(root), f"{artifact.path} is no file of {self.root}"
        return artifact.path[len(root) :]


def remove_partial(run: Path) -> None:
    """Delete what killed attempts and drivers left behind. Only the holder of the lease may call this."""
    for path in (run / "lists").glob("*.json"):
        remove(path)
    for directory, _, names in os.walk(str(run)):
        for name in filter(is_partial, names):
            remove(Path(directory, name))
