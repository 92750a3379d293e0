"""The tokenize stage: the second read of the text, one task per group of files, or per file that is only read from its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...tokenize.model import TokenizerSettings
from ..engine.engine import Engine
from ..engine.tasks import Task
from ..prepare.tokenizer import PreparedTokenizer
from ..run.identity import Group, read_together
from ..sources.domains import CHAT
from ..text.survivors import DecidedFile
from .shards import GroupTokens, tokenize_groups

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
    together = read_together(groups)
    tasks = [
        Task(
            some[0].name,
            tokenize_groups,
            (
                some,
                [files[f.table] for g in some for f in g.files],
                tokenizer.model,
                tokenizer.converted,
                settings.of_encoding(chat=some[0].format == CHAT),
                engine.paths,
            ),
            weight=max(1, sum(g.text for g in some)),
            unweighed=not any(g.text for g in some),
        )
        for some in together
    ]
    results = engine.run("tokenize", VERSION, tasks)
    found = {
        g.name: t
        for some, result in zip(together, results, strict=True)
        for g, t in zip(some, result.groups, strict=True)
    }
    encoded = sum(tokens.encoded.documents for tokens in found.values())
    if kept != encoded:
        raise ValueError(
            f"accounting of tokenize does not balance: {kept} documents kept, {encoded} encoded; please report this"
        )
    return Tokenized(found)
