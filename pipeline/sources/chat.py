"""Instruction and dialogue data as conversations: JSON lines or Parquet in the shapes that public sets have.

A row has turns (`messages` of role and content, or `conversations` of from and value), or one question and its answer:
`instruction` (and `input`) with `output` or `response`, `prompt` with `completion` or `response`, `inputs` with `targets`,
`question` with `answer`. `source` names the subset. Turns become one string (tokenize/chat.py); the run's chat template
renders it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...tokenize.chat import compose
from .adapter import Adapter, Facts, as_text, as_timestamp

_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "function": "tool"}
_PAIRS = (
    ("instruction", ("output", "response")),
    ("prompt", ("completion", "response")),
    ("inputs", ("targets",)),
    ("question", ("answer",)),
)
"""(field that asks, fields that may answer)."""
MAX_LINE = 16 << 20
"""Turns become objects: a line of empty ones takes more than twenty times its own bytes in memory."""


class ChatRow(msgspec.Struct, gc=False):
    messages: list[dict[str, Any]] | None = None
    conversations: list[dict[str, Any]] | None = None
    system: str | None = None
    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    prompt: str | None = None
    completion: str | None = None
    response: str | None = None
    inputs: str | None = None
    targets: str | None = None
    question: str | None = None
    answer: str | None = None
    id: Any = None
    url: Any = None
    timestamp: Any = None
    source: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        self.text = compose([*([("system", self.system)] if self.system else []), *_turns(self)])


def _turns(row: ChatRow) -> list[tuple[str, str]]:
    if row.messages is not None:
        return [_turn(m.get("role"), m.get("content")) for m in row.messages]
    if row.conversations is not None:
        return [_turn(m.get("from", m.get("role")), m.get("value", m.get("content"))) for m in row.conversations]
    for asks, answers in _PAIRS:
        asked = getattr(row, asks)
        answer = next((a for a in (getattr(row, name) for name in answers) if a is not None), None)
        if asked is not None and answer is not None:
            more = f"\n\n{row.input}" if asks == "instruction" and row.input else ""
            return [("user", asked + more), ("assistant", answer)]
    raise ValueError("no turns: give `messages`, `conversations`, or a question with its answer")


def _turn(role: object, said: object) -> tuple[str, str]:
    if not isinstance(role, str) or not isinstance(said, str):
        raise ValueError("a turn needs a role and text")
    return _ROLES.get(role, role), said


def _facts(row: ChatRow, path: str) -> Facts:
    return Facts(row.source or "train", as_text(row.id), as_text(row.url), as_timestamp(row.timestamp))


ADAPTER = Adapter(ChatRow, "text", _facts, composed=True, max_line=MAX_LINE)
