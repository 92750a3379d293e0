"""`--set KEY=VALUE`: settings of one call in place of those of `training.json`, written as in a recipe.

Keys are those of `training.json`, phases by their names: `optimizer.learning_rate=1e-4`, `phases.phase1.batch_tokens=4Mi`.
What comes before them in a recipe may stand there too: `training.z_loss=1e-4`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..storage.fields import Written, check_bounds
from ..storage.reading import typed
from .settings import Options, PhaseTraining, TrainSettings


def override(settings: TrainSettings, options: Options) -> TrainSettings:
    """Settings with the changes of one call.

    Raises:
        ValueError: there is no such setting, or it cannot have the value.
    """
    value = json.loads(json.dumps(asdict(settings)))
    places = dict(_places(value, TrainSettings))
    for assignment in options.set:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set {assignment}: write KEY=VALUE, for example optimizer.learning_rate=1e-4")
        key = key.strip().removeprefix("training.")
        if key not in places:
            near = get_close_matches(key, places, 1) or [k for k in places if k.startswith(f"{key}.")][:1]
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(places)}"
            raise ValueError(f"--set {assignment}: a training has no setting {key}; {hint}")
        holder, name, kind = places[key]
        try:
            holder[name] = _parsed(kind, text.strip())
        except ValueError as error:
            raise ValueError(f"--set {assignment}: {error}") from None
    for name in ("log_every", "checkpoint_minutes"):
        if getattr(options, name) is not None:
            value[name] = getattr(options, name)
    try:
        changed = typed(TrainSettings, value)
        check_bounds(changed)
    except ValueError as error:
        raise ValueError(f"{'--set ' if options.set else ''}{', '.join(options.set)}: {error}".lstrip(": ")) from None
    return changed


def _places(value: dict[str, Any], kind: Any, where: str = "") -> Iterator[tuple[str, tuple[dict[str, Any], str, Any]]]:
    """(dotted key, (the mapping that holds it, its name there, its type)) of every setting."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if is_dataclass(hint):
            yield from _places(value[name], hint, f"{where}{name}.")
        elif name == "phases":
            for phase in value[name]:
                yield from _places(phase, PhaseTraining, f"{where}phases.{phase['name']}.")
        else:
            yield f"{where}{name}", (value, name, hint)


def _parsed(hint: Any, text: str) -> Any:
    """A value as JSON has it, from a text in one of the forms that a recipe may have."""
    value: Any = text
    with suppress(ValueError):
        value = json.loads(text)
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Written):
            return mark.parse(value)
    plain = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if plain is float and isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value
