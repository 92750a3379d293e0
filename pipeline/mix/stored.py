"""The token shards of a finished run as mix takes them, from its manifest: no text is read, and no shard is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from ...tokenize.shards import read_set
from ..run.artifacts import Artifact, read_json
from ..run.documents import RunDocuments
from ..run.identity import Group, group_files
from ..run.paths import RunPaths
from .budget import Cell
from .select import CellShard
from .steps import TokenGroup, Vocabulary


@dataclass(frozen=True)
class StoredTokens:
    """What the phases of a finished run were mixed of."""

    cells: tuple[Cell, ...]
    groups: tuple[TokenGroup, ...]
    vocabulary: Vocabulary


def stored_tokens(documents: RunDocuments) -> StoredTokens:
    """What the manifest of a run says of its token shards.

    Raises:
        ValueError: the run is not finished, or damaged.
    """
    paths, artifacts, tokenizer = documents.paths, documents.manifest["artifacts"], documents.tokenizer
    files = [*documents.files, *documents.given]
    kinds = {file.corpus: (file.format, file.domain) for file in files}
    by_name = {group.name: group for group in group_files(files)}
    found: dict[str, list[tuple[str, Artifact]]] = {}
    for name in artifacts.below("tokens/"):
        _, corpus, subset, file = name.split("/")
        shard = stored_artifact(paths, artifacts, name)
        found.setdefault(f"{corpus}/{file.removesuffix('.arrow')}", []).append((unquote(subset), shard))
    cells = sorted({(name.split("/")[0], subset) for name, shards in found.items() for subset, _ in shards})
    code = {cell: i for i, cell in enumerate(cells)}

    def decisions(group: Group) -> tuple[Artifact, ...]:
        places = (paths.decisions(f.corpus, f.part).relative_to(paths.root).as_posix() for f in group.files)
        # Of documents that came as token ids there are none.
        return tuple(stored_artifact(paths, artifacts, name) for name in places if name in artifacts)

    groups = tuple(
        TokenGroup(
            name,
            tuple(CellShard(a, code[name.split("/")[0], subset]) for subset, a in sorted(shards, key=lambda s: s[0])),
            by_name[name].held_out,
            decisions(by_name[name]),
        )
        for name, shards in sorted(found.items())
    )
    facts = read_set(paths.phase(read_json(paths.stats("mixture"))["phases"][0]["name"]))
    return StoredTokens(
        tuple(Cell.of(corpus, subset, *kinds[corpus]) for corpus, subset in cells),
        groups,
        Vocabulary(facts.vocab_size, facts.pad, facts.eos, facts.bos, tokenizer.bos, tokenizer.eos),
    )


def stored_artifact(paths: RunPaths, artifacts: Mapping[str, Any], name: str) -> Artifact:
    """A file of a run, as the artifacts of its manifest list it."""
    facts = artifacts[name]
    return Artifact(str(paths.named(name)), facts["bytes"], facts["rows"], facts["hash"])
