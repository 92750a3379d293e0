"""What the trainer, checkpoints and exports know of a tokenizer, beside its model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TokenizerFacts:
    """Special ids of the tokenizer, and the chat template: (role, before its turns, after them)."""

    pad: int
    eos: int
    bos: int
    chat: tuple[tuple[str, str, str], ...] = ()
    add_bos: bool = True
    """In training, documents began with bos."""
    template: str = ""
    """The chat template of an imported model, as `transformers` renders it; empty: `chat` is all there is."""
    stops: tuple[int, ...] = ()
    """Further ids that end what an imported model writes."""

    def check(self, vocab_size: int) -> None:
        """Raise ValueError for ids that a model of `vocab_size` pieces does not have."""
        for name in ("pad", "eos", "bos"):
            if not 0 <= getattr(self, name) < vocab_size:
                raise ValueError(f"the id of {name} is {getattr(self, name)}, and the model has {vocab_size} pieces")
        if wrong := [i for i in self.stops if not 0 <= i < vocab_size]:
            raise ValueError(f"an id that ends a text is {wrong[0]}, and the model has {vocab_size} pieces")

    def to_json(self) -> str:
        """The contents of the file `FACTS`; what only an imported model has is left out where there is none."""
        values = {k: v for k, v in asdict(self).items() if v or k not in ("template", "stops")}
        return json.dumps(values, indent=1) + "\n"

    @property
    def prefix(self) -> int:
        """The id that the first token of a text is predicted from."""
        return self.bos if self.add_bos else self.eos

    @property
    def opening(self) -> list[int]:
        """The ids that a text begins with."""
        return [self.bos] if self.add_bos else []
