"""From YAML to a checked recipe: `extends`, `${VAR}`, `--set`, then the schema; errors are one line that name the key."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..pipeline.curate import CurateSettings
from ..pipeline.sources.globs import escape
from ..storage.lease import enclosing
from ..storage.reading import read_bounded
from ..storage.store import shown
from ..storage.wording import printable
from .check import absent_pools
from .json_schema import nearest
from .multilingual import expand_sections
from .presets import PRESETS, expand
from .schema import Recipe
from .settings import curate_settings
from .travel import find_data, find_lists, find_plugins, move_data
from .trust import named_code

PACKAGE = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
_GLOBS = re.compile(r"(sources|held_out|scores|contamination\.benchmarks)\..+\.files\.\d+")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
RECIPE_BYTES = 16 << 20
MAX_VALUES, MAX_DEPTH, MAX_TEXT = 100_000, 32, 1 << 20
"""Of a recipe with its aliases written out, variables included: nine lines of YAML can stand for a billion values."""

_OWN = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""For the package's recipes: faster, but text of others that is nested deeply enough would end the process."""


class RecipeError(ValueError):
    """What is wrong with a recipe, one problem a line in `problems`."""

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        self.problems = tuple(printable(p) for p in problems)
        more = f" (and {len(problems) - 1} more; see `fox1 recipe check`)" if len(problems) > 1 else ""
        super().__init__(f"{printable(path)}: {self.problems[0]}{more}")


def find(name: str, beside: Path | None = None) -> Path:
    """A recipe file: one of the package's by its bare name (`fox1`, `sample`), else a path, with a separator or a suffix.

    Args:
        beside: folder of the recipe that names it; without, paths are relative to the current folder.

    Raises:
        ValueError: there is no such file.
    """
    own = PACKAGE / (name if name.endswith(".yaml") else f"{name}.yaml")
    is_bare = Path(name).name == name
    if is_bare and not name.endswith(SUFFIXES):
        places = [own]
    else:
        places = [(beside or Path()) / name, *([own] if is_bare else [])]
    # Of `os.path`, since a name may be one that no file can have.
    if found := next(filter(os.path.isfile, places), None):
        return found
    known = ", ".join(sorted(p.name for p in PACKAGE.glob("*.yaml")))
    hint = f" (for the file of the current folder, write ./{name})" if is_bare and os.path.isfile(name) else ""
    raise ValueError(f"no recipe {printable(name)}{printable(hint)}; give a path, or one of the package's: {known}")


def ambiguity(name: str) -> str:
    """Which recipe a name stands for, where both the package and the current folder have something of that name."""
    stem = name.removesuffix(".yaml")
    if not is_own(stem) or not os.path.lexists(name):
        return ""
    if name == stem:
        return f"{name} is the recipe of the package; to name what is in the current folder, write ./{name}"
    return f"{name} is the file in the current folder; for the recipe of the package, write {stem}"


def is_own(name: str) -> bool:
    """Whether a bare name is that of a recipe of the package."""
    return Path(name).name == name and os.path.isfile(PACKAGE / f"{name}.yaml")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = _yaml(read_bounded(path, RECIPE_BYTES).decode(), _OWN if path.parent == PACKAGE else yaml.SafeLoader)
    except ValueError as error:
        raise RecipeError(str(path), [f"not YAML: {error}"]) from None
    if not isinstance(value, dict):
        raise RecipeError(str(path), ["a recipe is a mapping of keys"])
    return value


def _yaml(text: str, loader: type = yaml.SafeLoader) -> Any:
    """The value of a YAML text.

    Args:
        loader: of PyYAML.

    Raises:
        ValueError: it is none, or stands for more than a recipe can hold.
    """
    try:
        value = yaml.load(text, loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1} " if mark else ""
        raise ValueError(f"{where}{getattr(error, 'problem', None) or str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # constructors of dates and numbers fail in ways of their own
        raise ValueError(f"it has a value that cannot be read ({type(error).__name__}: {error})") from None
    _check_values(value)
    return value


def _check_values(value: Any) -> None:
    """Raise ValueError for what JSON cannot hold, and for more values, or more text in one, than a recipe can."""
    left = [(value, 0)]
    seen = 0
    while left:
        part, depth = left.pop()
        seen += 1
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply, or too large once its aliases are written out")
        if isinstance(part, str) and len(part) > MAX_TEXT:
            raise ValueError("it has a value of more than a million characters")
        if not isinstance(part, dict | list | str | int | float | None):
            raise ValueError(f"{part} is a {type(part).__name__}; quote it")
        if isinstance(part, dict) and (key := next((k for k in part if not isinstance(k, str)), "")) != "":
            raise ValueError(f"the key {key!r} is not text; quote it")
        parts = [*part, *part.values()] if isinstance(part, dict) else part if isinstance(part, list) else ()
        left += [(p, depth + 1) for p in parts]


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`change` over `base`: mappings merge, anything else is replaced."""
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _extended(path: Path, chain: list[Path]) -> dict[str, Any]:
    """A recipe with those that it extends below it; appends their files to `chain`, its own first."""
    if path.resolve() in chain:
        raise RecipeError(str(path), ["`extends` goes in a circle"])
    chain.append(path.resolve())
    value = _read(path)
    parent = value.pop("extends", "")
    find_plugins(value, path.parent)
    find_data(value, path.parent)
    value = _expanded(value)
    if not parent:
        return value
    return _merge(_extended(find(str(parent), path.parent), chain), value)


def _expanded(value: dict[str, Any]) -> dict[str, Any]:
    """With the settings of its preset; what no preset can stand beside stays for the schema to refuse."""
    try:
        return expand(value)
    except (TypeError, ValueError):
        return value


def _substitute(value: Any, variables: Mapping[str, str], where: str, problems: list[str]) -> Any:
    if isinstance(value, dict):
        return {k: _substitute(v, variables, f"{where}.{k}" if where else str(k), problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, variables, f"{where}.{i}", problems) for i, v in enumerate(value)]
    if isinstance(value, str):

        def one(match: re.Match[str]) -> str:
            if match[2] is not None and match[1] not in variables:
                return match[2]
            if match[1] not in variables:
                problems.append(f"{where}: the variable {match[1]} is not set; export {match[1]}=...")
                return ""
            return escape(variables[match[1]]) if _GLOBS.fullmatch(where) else variables[match[1]]

        # Innermost first, so that a default may hold a variable; a bounded number of times.
        for _ in range(4):
            value = _VARIABLE.sub(one, value)
            if len(value) > MAX_TEXT:
                raise ValueError(f"{where}: too long once its variables are replaced")
        return value
    return value


def _set(value: dict[str, Any], assignment: str) -> None:
    """Apply one `--set a.b.c=value`; the value is YAML."""
    key, equals, text = assignment.partition("=")
    option = f"--set {printable(assignment[:200])}"
    if not equals or not key:
        raise ValueError(f"{option}: write key=value, for example phases.phase1.tokens=1B")
    if key == "extends":
        raise ValueError(f"{option}: write `extends` in a recipe file")
    *path, last = key.split(".")
    at: Any = value
    for part in path:
        at = (
            at[int(part)]
            if isinstance(at, list) and part.isdigit() and int(part) < len(at)
            else at.setdefault(part, {})
            if isinstance(at, dict)
            else None
        )
        if not isinstance(at, dict | list):
            raise ValueError(f"{option}: {printable(part)} is not a mapping")
    try:
        new = _yaml(text)
    except ValueError as error:
        raise ValueError(f"{option}: the value is not YAML ({printable(str(error))}); quote it") from None
    if isinstance(at, list):
        if not last.isdigit() or int(last) >= len(at):
            raise ValueError(f"{option}: {printable(last)} is not an index of the list")
        at[int(last)] = new
    else:
        at[last] = new


def load_recipe(
    name: str, overrides: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> tuple[Recipe, dict[str, Any]]:
    """Read, resolve and check a recipe.

    Returns:
        The recipe, and the resolved mapping it was made from (no `extends`, no variables): what a run stores.

    Raises:
        RecipeError: naming the key and what to do; also where it lies in a run's folder, and names what runs code: whoever
            made the run chose it.
    """
    path = find(name)
    chain: list[Path] = []
    value = _extended(path, chain)
    for assignment in overrides:
        _set(value, assignment)
        if assignment.startswith("dedupe.preset="):
            value = _merge(value, _expanded({"dedupe": {"preset": value["dedupe"]["preset"]}}))
    _leave_out(value)
    _rank_sources(value)
    if "filters" in value:
        try:
            value["filters"] = expand_sections(value["filters"])
        except ValueError as error:
            raise RecipeError(str(path), [str(error)]) from None
    problems: list[str] = []
    # Unset variables matter only where they are used: a `--set` may have replaced the value.
    value = _substitute(value, os.environ if variables is None else variables, "", problems)
    if problems:
        raise RecipeError(str(path), _once(problems))
    find_plugins(value, path.parent)  # of a `--set` or a variable
    find_lists(value, path.parent)
    recipe = parse(value, str(path))
    if absent := absent_pools(recipe):
        raise RecipeError(str(path), absent)
    _refuse_code_of_runs(recipe, value, chain)
    return recipe, value


def _refuse_code_of_runs(recipe: Recipe, value: Mapping[str, Any], chain: Sequence[Path]) -> None:
    """Raise RecipeError for a recipe that runs code and is partly that of a run, which may be somebody else's."""
    if code := next(named_code(recipe, value, plans=True), None):
        for file in chain:
            if folder := enclosing(file):
                why = f"it lies in {folder}, which fox1 wrote, and names {code}, which runs code"
                raise RecipeError(str(file), [f"{why}; if you trust it, copy it to another folder and use the copy"])


def _leave_out(value: dict[str, Any]) -> None:
    """Sources that are null leave the recipe, and with them what it says of them by name (not weights: they are for the
    user to change)."""
    sources = value.get("sources")
    if not isinstance(sources, dict) or not (gone := {name for name, source in sources.items() if source is None}):
        return

    def stays(entry: Any) -> bool:
        name = entry.get("corpus") if isinstance(entry, dict) else entry
        return not (isinstance(name, str) and name.partition("/")[0] in gone)

    def kept(part: Any, depth: int = 0) -> Any:
        """A mapping or list without entries of these sources."""
        if isinstance(part, list):
            return [entry for entry in part if stays(entry)]
        if isinstance(part, dict):
            return {k: kept(v, depth - 1) if depth else v for k, v in part.items() if stays(k)}
        return part

    value["sources"] = kept(sources)
    for key, depth in (("held_out", 0), ("expected", 0), ("licence", 1), ("filters", 0), ("quality", 2), ("dedupe", 2)):
        if key in value:
            value[key] = kept(value[key], depth)
    if isinstance(scores := value.get("scores"), dict):
        for name, score in list(scores.items()):
            if isinstance(score, dict) and isinstance(corpora := score.get("corpora"), list) and corpora:
                # A score that no corpus has is none; without the list, all would have it.
                scores[name] = {**score, "corpora": kept(corpora)}
                if not scores[name]["corpora"]:
                    del scores[name]
    if isinstance(steps := value.get("before_scan"), dict):
        value["before_scan"] = {name: _still_serving(step, gone) for name, step in steps.items()}
    if isinstance(models := value.get("quality"), dict):
        # One without examples is none: the formula judges that domain.
        value["quality"] = {d: m for d, m in models.items() if not isinstance(m, dict) or all(m.values())}


def _still_serving(step: Any, gone: set[str]) -> Any:
    """A step before the scan without the sources that are gone; None if it served no others."""
    named = step.get("sources") if isinstance(step, dict) else None
    if not isinstance(named, list):
        return step
    left = [name for name in named if name not in gone]
    return {**step, "sources": left} if left or not named else None


def _once(problems: list[str]) -> list[str]:
    """Of problems `key: what`, each what once, with the first key that has it."""
    keys: dict[str, list[str]] = {}
    for problem in problems:
        key, _, what = problem.partition(": ")
        keys.setdefault(what, []).append(key)
    return [f"{k[0]}{f' and {len(k) - 1} more' if len(k) > 1 else ''}: {what}" for what, k in keys.items()]


def _rank_sources(value: dict[str, Any]) -> None:
    """Of a preset's ranking, keep the corpora that the recipe has."""
    dedupe, sources = value.get("dedupe"), value.get("sources")
    if not isinstance(dedupe, dict) or not isinstance(sources, dict):
        return
    preset = PRESETS.get(str(dedupe.get("preset", "")))
    if preset and preset.ranking and dedupe.get("priority") == list(preset.ranking):
        dedupe["priority"] = [name for name in preset.ranking if name in sources]


def stored_recipe(
    stored: Path, trust: bool = False, plans: bool = False, moves: Sequence[str] = ()
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe a run stored, and its mapping.

    Args:
        trust: what it names may run code.
        plans: it is asked for to curate a sample with it, not only to read the run's sources.
        moves: places of data that moved since, as `--data` takes them.

    Raises:
        ValueError: there is none, it names what runs code (names that), or it names nothing that moved.
    """
    if not stored.exists():
        raise ValueError(f"{stored} is missing; is this a run that `fox1 curate` made?")
    value = _read(stored)
    find_lists(value, stored.parent)
    move_data(value, moves)
    recipe = parse(value, str(stored))
    if code := None if trust else next(named_code(recipe, value, plans), None):
        raise ValueError(f"{stored} names {code}, which runs code; add --trust if you trust whoever made this run")
    return recipe, value


def stored_mapping(stored: Path) -> dict[str, Any]:
    """What a run's recipe says, to be shown: nothing of it is checked, opened or run.

    Raises:
        ValueError: there is none, or it is not YAML.
    """
    if not stored.exists():
        raise ValueError(f"{shown(stored)} is missing; is this a run that `fox1 curate` made?")
    return _read(stored)


def stored_settings(stored: Path, trust: bool = False, moves: Sequence[str] = ()) -> CurateSettings:
    """What a run was curated with, to read its sources again; arguments and errors are those of `stored_recipe`.

    Whoever trusts a recipe to run code also lets its lists lead to private addresses.
    """
    return curate_settings(stored_recipe(stored, trust, moves=moves)[0]).reaching(private_hosts=trust)


def stored_tuning_recipe(
    stored: Path, changes: Sequence[str], trust: bool = False, moves: Sequence[str] = ()
) -> tuple[Recipe, str]:
    """(the recipe a run stored, with other settings of `tune`; the same as YAML).

    Raises:
        ValueError: there is no recipe, it names what runs code, or a change is of something else.
    """
    _, value = stored_recipe(stored, trust, moves=moves)
    for change in changes:
        if not change.startswith("tune."):
            raise ValueError(f"--set {change}: a tuning reads a finished run; only keys of `tune` can change")
        _set(value, change)
    return parse(value, str(stored)), yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


_REFILTERED = re.compile(
    r"filters\.|licence\.|exclude\.(lists\b|copies=)|plugins\.[^.=]+\.drop=|scores\.[^.=]+\.missing=|contamination\.action=|"
    r"dedupe\.(?!preset=|near_limits\b|passages\b)"
)
"""What can be changed without a scan, and nothing but what filter and dedupe drop changes."""


_REMIXED = re.compile(r"phases\.|mix\.|scale=|total_tokens=")
"""What can be changed without another read of the text, and nothing but which kept documents the phases read."""


def changes_mixture(changes: Sequence[str]) -> bool:
    """Whether some changes are of the mixture; none may be of anything else then.

    Raises:
        ValueError: some are, and some are of what is kept.
    """
    remixed = [change for change in changes if _REMIXED.match(change)]
    if remixed and len(remixed) < len(changes):
        other = next(change for change in changes if change not in remixed)
        raise ValueError(
            f"--what-if {remixed[0]} and {other} cannot be tried together: what the phases read depends on what is kept, which "
            "has no tokens yet; try one after the other"
        )
    return bool(remixed)


def change_mixture(
    stored: Path, changes: Sequence[str], trust: bool = False, moves: Sequence[str] = ()
) -> tuple[Recipe, Recipe]:
    """(the recipe a run stored, the same with another mixture); arguments and errors are those of `change_filters`."""
    before, value = stored_recipe(stored, trust, moves=moves)
    changed = copy.deepcopy(value)
    for change in changes:
        _set(changed, change)
    after = parse(changed, "--what-if")
    if absent := absent_pools(after):
        raise RecipeError("--what-if", absent)
    return before, after


def change_filters(
    stored: Path, changes: Sequence[str], trust: bool = False, moves: Sequence[str] = ()
) -> tuple[Recipe, Recipe]:
    """(the recipe a run stored, the same with other filters).

    Args:
        moves: places of data that moved since, as `--data` takes them.

    Raises:
        ValueError: there is no recipe, it names what runs code, or a change is of something that needs another read of the
            text.
    """
    before, value = stored_recipe(stored, trust, moves=moves)
    changed = copy.deepcopy(value)
    for change in changes:
        if not _REFILTERED.match(change):
            raise ValueError(
                f"--what-if {change}: only filters.SECTION.THRESHOLD=VALUE, licence keys, exclude keys, plugins.NAME.drop, "
                "scores.NAME.missing, contamination.action and keys of dedupe besides its preset, near_limits and passages can "
                "change what is dropped without a new scan"
            )
        _set(changed, change)
    changed["filters"] = expand_sections(changed.get("filters", {}))
    after = parse(changed, "--what-if")
    actions = before.contamination.action, after.contamination.action
    if "cut" in actions and actions[0] != actions[1]:
        raise ValueError("--what-if contamination.action: cutting text needs a new scan; choose between drop and keep")
    return before, after


_KINDS = {
    "tuple_type": "write a list, such as [a, b]",
    "list_type": "write a list, such as [a, b]",
    "dict_type": "write a mapping, such as {key: value}",
    "dataclass_type": "write a mapping, such as {key: value}",
    "model_type": "write a mapping, such as {key: value}",
    "missing": "is required and missing",
    "too_short": "must not be empty",
}
"""Kinds of errors whose own words are those of Python."""


def parse(value: dict[str, Any], path: str) -> Recipe:
    """Check a resolved mapping against the schema."""
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        # What a value of several kinds could have been is one problem.
        problems: dict[str, str] = {}
        for e in error.errors():
            where = ".".join(str(p) for p in e["loc"] if not str(p).startswith(("function-", "constrained")))
            message = _KINDS.get(e["type"], e["msg"].removeprefix("Value error, "))
            if e["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
                message = f"unknown key{nearest(Recipe.model_json_schema(), e['loc'])}"
            before = problems.get(where)
            problems[where or message] = (
                f"{before} (or: {message})" if before else f"{where}: {message}" if where else message
            )
        raise RecipeError(path, list(problems.values())) from None
    except ArithmeticError as error:
        raise RecipeError(path, [f"a number is too large or too small to compute with ({error})"]) from None
