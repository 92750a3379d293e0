"""The tokenize stage: the second read of the text, one task per group of files, or per file that is only read from its start;
and documents that come as token ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...tokenize.model import TokenizerSettings
from ...tokenize.token_files import DATATROVE, id_type
from ..engine.engine import Engine
from ..engine.tasks import Task
from ..filter.judge import Exclusion
from ..prepare.tokenizer import PreparedTokenizer
from ..run.artifacts import merge_counts
from ..run.identity import Group, SourceFile, group_files, read_together
from ..sources.domains import CHAT
from ..sources.listing import SourceSettings
from ..sources.token_files import subset_of
from ..text.survivors import DecidedFile
from .given import GivenTokens, read_given
from .shards import GroupTokens, tokenize_groups

VERSION = 2
GIVEN_VERSION = 1
"""Of the step that takes token ids as they are."""


@dataclass(frozen=True)
class Tokenized:
    """The token shards of all survivors."""

    groups: Mapping[str, GroupTokens]
    """By name of the group."""

    def with_given(self, given: Given) -> Tokenized:
        """The same with the shards of documents that came as token ids."""
        return Tokenized({**self.groups, **{name: found.tokens for name, found in given.found.items()}})


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


@dataclass(frozen=True)
class Given:
    """Documents that came as token ids, not as text."""

    groups: Sequence[Group]
    """Of their files."""
    found: Mapping[str, GivenTokens]
    """By name of the group."""


def take_given(
    engine: Engine,
    files: Sequence[SourceFile],
    sources: Sequence[SourceSettings],
    excluded: Sequence[Exclusion],
    settings: TokenizerSettings,
    tokenizer: PreparedTokenizer,
) -> Given:
    """Take the documents of token files as they are.

    Args:
        files: that hold token ids.
        sources: which say what the files call the tokenizer.
        excluded: subsets that the licence policy excludes.

    Raises:
        ValueError: a file was made by another tokenizer, or is damaged.
    """
    groups = group_files(files)
    names = {s.corpus: [str(name) for name in (settings.model, s.tokenizer) if name] for s in sources}
    tasks = [
        Task(
            g.name,
            read_given,
            (
                g,
                [e.subset for e in excluded if e.corpus == g.corpus],
                tokenizer.model,
                tokenizer.piece_bytes,
                names[g.corpus],
                engine.paths,
            ),
            weight=max(1, sum(f.size for f in g.files)),
        )
        for g in groups
    ]
    found = engine.run("tokenize.given", GIVEN_VERSION, tasks) if tasks else []
    return Given(groups, {g.name: given for g, given in zip(groups, found, strict=True)})


def most_given(files: Sequence[SourceFile], tokenizer: PreparedTokenizer) -> dict[str, int]:
    """The most tokens that token files can give to training, by `corpus/subset`."""
    found: dict[str, int] = {}
    size = id_type(DATATROVE, tokenizer.vocab_size).itemsize
    for file in files:
        if not file.held_out:
            merge_counts(found, {f"{file.corpus}/{subset_of(file)}": file.size // size})
    return found
