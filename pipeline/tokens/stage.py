"""The tokenize stage: the second read of the text, one task per group of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...tokenize.model import TokenizerSettings
from ..engine.engine import Engine
from ..engine.tasks import Task
from ..prepare.tokenizer import PreparedTokenizer
from ..run.identity import Group
from ..sources.domains import CHAT
from ..text.survivors import DecidedFile
from .shards import GroupTokens, tokenize_group

VERSION = 2


@dataclass(frozen=True)
class Tokenized:
    """The token shards of all survivors."""

    groups: Mapping[str, GroupTokens]
    """By name of the group."""


def tokenize(
    engine: Engine,
    groups: Sequence[Group],
    files: Mapping[str, DecidedFile],
    settings: TokenizerSettings,
    tokenizer: PreparedTokenizer,
    kept: int,
) -> Tokenized:
    """Encode the documents that the decisions keep.

    Args:
        files: by `SourceFile.table`.
        kept: documents that there must be.

    Raises:
        ValueError: a source file changed since it was scanned, or the account does not balance.
    """
    tasks = [
        Task(
            g.name,
            tokenize_group,
            (
                g,
                [files[f.table] for f in g.files],
                tokenizer.model,
                settings.of_encoding(chat=g.format == CHAT),
                engine.paths,
            ),
            weight=max(g.text, 1),
            unweighed=not g.text,
        )
        for g in groups
    ]
    results = engine.run("tokenize", VERSION, tasks)
    encoded = sum(result.encoded.documents for result in results)
    if kept != encoded:
        raise ValueError(
            f"accounting of tokenize does not balance: {kept} documents kept, {encoded} encoded; please report this"
        )
    return Tokenized({g.name: result for g, result in zip(groups, results, strict=True)})
