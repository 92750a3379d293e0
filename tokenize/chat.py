"""Conversations: one string between stages, and a chat template's pieces once they become tokens.

A conversation is its turns back to back, each after a mark that names the speaker: a control character, which every signal
takes for white space, so that words, lines and hashes are those of what is said. Tokens follow the template: a literal of
the template becomes the model's own piece (`<start_of_turn>`); the same literal within a turn never does. Only the
assistant's turns, with the piece that ends them, are trained on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from .encode import Encoder

MARKS = {"system": "\x1c", "user": "\x1d", "assistant": "\x1e", "tool": "\x1f"}
"""Role -> the mark before its turns."""
ROLES = {mark: role for role, mark in MARKS.items()}
_MARK = re.compile("[\x1c-\x1f]")
_PIECE = re.compile(r"[<\[][^\s<>\[\]]+[>\]]")
"""What templates open and close turns with: `<start_of_turn>`, `[INST]`."""
LEARNED = "assistant"
"""The role whose turns are trained on."""

Template = tuple[tuple[str, str, str], ...]
"""(role, what the template writes before its turns, what after them)."""

TEMPLATES: dict[str, Template] = {
    # Gemma's own template has no system turn; ours is written like its other two.
    "gemma": (
        ("system", "<start_of_turn>system\n", "<end_of_turn>\n"),
        ("user", "<start_of_turn>user\n", "<end_of_turn>\n"),
        ("assistant", "<start_of_turn>model\n", "<end_of_turn>\n"),
        ("tool", "<start_of_turn>tool\n", "<end_of_turn>\n"),
    ),
    "chatml": tuple((role, f"<|im_start|>{role}\n", "<|im_end|>\n") for role in MARKS),
}


def compose(turns: Sequence[tuple[str, str]]) -> str:
    """One string from turns (role, what is said).

    Raises:
        ValueError: an unknown role, a control character that is a mark, or no turn of the assistant. The quarantine of a run
            holds these texts.
    """
    parts = []
    for role, said in turns:
        if role not in MARKS:
            raise ValueError(f"no role {role!r}; a turn is of {', '.join(MARKS)}")
        if _MARK.search(said):
            raise ValueError("control character U+001C to U+001F in a turn")
        parts += [MARKS[role], said]
    if not any(role == LEARNED for role, _ in turns):
        raise ValueError("a conversation without a turn of the assistant")
    return "".join(parts)


def turns_of(text: str) -> list[tuple[str, str]]:
    """The turns (role, what is said) of a composed conversation; text before the first mark is the user's."""
    found = [(ROLES[m.group()], m.end()) for m in _MARK.finditer(text)]
    if not found or not _MARK.match(text):
        found.insert(0, ("user", 0))
    ends = [begin - 1 for _, begin in found[1:]] + [len(text)]
    return [(role, text[begin:end]) for (role, begin), end in zip(found, ends, strict=True)]


def spoken(text: str) -> str:
    """A composed conversation as a person reads it."""
    return _MARK.sub(lambda m: f"\n[{ROLES[m.group()]}] ", text).lstrip("\n")


def rendered(text: str, template: Template) -> str:
    """A composed conversation as text in the form of the template.

    A piece of the template in what somebody says gets a space after its first character: whoever reads the text would take it
    for the end of the turn.
    """
    around = {role: (before, after) for role, before, after in template}
    pieces = {piece for _, *parts in template for part in parts for piece in _PIECE.findall(part)}
    literal = re.compile("|".join(f"(?<={re.escape(p[0])})(?={re.escape(p[1:])})" for p in sorted(pieces)) or "(?!)")
    return "".join(literal.sub(" ", said).join(around.get(role, ("", ""))) for role, said in turns_of(text))


def closing_pieces(template: Template) -> list[str]:
    """What may end the assistant's turns in a template, by its form; the first one that a model has a piece for does."""
    after = next((after for role, _, after in template if role == LEARNED), "")
    return _PIECE.findall(after)


@dataclass(frozen=True)
class EncodedChats:
    """The ids of a batch of conversations, and which of them are trained on."""

    ids: np.ndarray
    """int32 [total]."""
    offsets: np.ndarray
    """int64 [n + 1]."""
    spans: np.ndarray
    """int32 [2 s]: begin and exclusive end of every span that is trained on, relative to its conversation."""
    span_offsets: np.ndarray
    """int64 [n + 1]: where the spans of each conversation begin in `spans`."""
    with_control: int
    """Stretches of text between template pieces that held a literal of a control piece."""
    with_reserved: int
    """Stretches of text between template pieces that held a literal of a reserved piece."""


class ChatEncoder:
    """Encodes conversations by a template.

    Text between two pieces of the template is encoded in one go, as it is when a rendered prompt is tokenized.

    Raises:
        ValueError: the model puts a space before everything it encodes, so that parts cannot be encoded one by one.
    """

    def __init__(self, encoder: Encoder, template: Template) -> None:
        if encoder.prefixed:
            raise ValueError(
                "conversations need a tokenizer without a dummy prefix; name another one in `tokenizer.model`"
            )
        self._encoder = encoder
        self._template = {role: (self._parts(before), self._parts(after)) for role, before, after in template}

    def _parts(self, literal: str) -> list[int | str]:
        """A literal of the template as ids of reserved pieces, and the text between them."""
        if not self._encoder.reserved_ids:
            return [literal]
        pattern = "(" + "|".join(map(re.escape, self._encoder.reserved_ids)) + ")"
        return [self._encoder.reserved_ids.get(part, part) for part in re.split(pattern, literal) if part]

    def encode(self, texts: pa.LargeStringArray) -> EncodedChats:
        """Encode composed conversations in order.

        Raises:
            ValueError: a conversation has a role that the template does not have.
        """
        plans = [self._plan(text) for text in texts.to_pylist()]
        units = [part.text for plan in plans for part in plan if part.piece < 0]
        encoded = self._encoder.encode(pa.array(units, pa.large_string()))
        unit = 0
        ids: list[np.ndarray] = [np.empty(0, np.int32)]
        lengths, spans, span_counts = [], [], []
        for plan in plans:
            at, open_at, span_count = 0, -1, 0
            for part in plan:
                if part.piece >= 0:
                    part_ids = np.array([part.piece], np.int32)
                else:
                    part_ids = encoded.ids[encoded.offsets[unit] : encoded.offsets[unit + 1]]
                    unit += 1
                if part.opens >= 0:
                    # A token that straddles the header's end belongs to the answer.
                    inside = np.cumsum(self._encoder.piece_bytes[part_ids])
                    open_at = at + int(np.searchsorted(inside, part.opens, "right"))
                ids.append(part_ids)
                at += len(part_ids)
                if part.closes and open_at >= 0:
                    spans += [open_at, at]
                    span_count += 2
                    open_at = -1
            if not span_count:
                # An empty list would mean that all of it is trained on.
                spans += [0, 0]
                span_count = 2
            lengths.append(at)
            span_counts.append(span_count)
        return EncodedChats(
            np.concatenate(ids),
            np.r_[0, np.cumsum(lengths)].astype(np.int64),
            np.array(spans, np.int32),
            np.r_[0, np.cumsum(span_counts)].astype(np.int64),
            encoded.with_control,
            encoded.with_reserved,
        )

    def byte_bounds(self, text: str) -> list[int]:
        """Where every token of a composed conversation begins in its UTF-8, and where the last one ends; what the template
        adds has length zero."""
        bounds, at = [], 0
        for part in self._plan(text):
            if part.piece >= 0:
                bounds.append(at)
                continue
            data = part.text.encode()
            ids = self._encoder.encode(pa.array([part.text], pa.large_string())).ids.tolist()
            inside = self._encoder.byte_bounds(data, ids)
            for k in inside:
                within = [(place, where, size) for place, where, size in part.said if place <= k]
                if within:
                    place, where, size = within[-1]
                    at = where + min(k - place, size)
                bounds.append(at)
            bounds.pop()
        return [*bounds, len(text.encode())]

    def _plan(self, text: str) -> list[_TurnPart]:
        """The pieces and texts of a rendered conversation, in order; adjacent texts are joined."""
        plan: list[_TurnPart] = []
        held = ""
        opens = -1
        inside: list[tuple[int, int, int]] = []
        where = 0

        def flush() -> None:
            nonlocal held, opens
            if held:
                plan.append(_TurnPart(text=held, opens=opens, said=tuple(inside)))
                held, opens = "", -1
                inside.clear()

        for role, said in turns_of(text):
            where += int(bool(where) or text[:1] in ROLES)
            if role not in self._template:
                raise ValueError(f"the chat template has no role {role!r}; add the role to `tokenizer.chat_template`")
            before, after = self._template[role]
            closed = role != LEARNED
            for part in before:
                if isinstance(part, int):
                    flush()
                    plan.append(_TurnPart(piece=part))
                else:
                    held += part
            if role == LEARNED:
                opens = len(held.encode())
            inside.append((len(held.encode()), where, len(said.encode())))
            held += said
            where += len(said.encode())
            for part in after:
                if isinstance(part, int):
                    if not held and opens >= 0:
                        # An empty turn: the span begins with the piece that ends it.
                        plan.append(_TurnPart(text="", opens=0))
                        opens = -1
                    flush()
                    plan.append(_TurnPart(piece=part, closes=not closed))
                    closed = True
                else:
                    held += part
            if not closed and held:
                # A template without a piece after the turn: the span ends with the text.
                flush()
                plan[-1] = replace(plan[-1], closes=True)
        flush()
        return plan


@dataclass(frozen=True)
class _TurnPart:
    """A piece of the template, or text to encode."""

    piece: int = -1
    """Id of the piece; -1: this is text."""
    text: str = ""
    opens: int = -1
    """Bytes of the text before the assistant's turn begins in it; -1: none begins here."""
    closes: bool = False
    """Whether a span that is trained on ends here."""
    said: tuple[tuple[int, int, int], ...] = ()
    """(byte in the text, byte in the conversation, length in bytes) of every turn in it."""
