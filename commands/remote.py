"""From the words after `fox1 submit --` to what a job runs: the command's own parser checks them here, before anything is sent.

What a parameter holds is read from its declaration, so a new command needs no entry in a list:

    Path, or a `HoldsPlace` beside the option      a file, folder or URL: the job reads or writes it, so it cannot be relative
    a `HoldsRecipe` beside the argument            resolved here, and sent with the small files that it names

Parsing has no effects: a place stays the text that it is, and is not opened.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from ..cluster.submit import Submission
from ..storage.store import open_root
from .options import HoldsPlace, HoldsRecipe, say_which

RECIPE = "recipe.yaml"
"""The recipe that travels, in the job's folder."""
NOT_IN_A_JOB = {"submit": "a job cannot submit another one", "jobs": "it asks the cluster from outside"}

# Of Click, which newer versions of Typer bring with them: taken from what Typer itself exports.
_UsageError: Any = typer.BadParameter.__base__


def submission(root: Any, words: Sequence[str]) -> Submission:
    """What a job needs to run `fox1 WORDS`.

    Args:
        root: the Click command of the whole command line.

    Raises:
        ValueError: the command's parser, or its recipe, refuses the words; one line that names the parameter.
        typer.Exit: the words ask for help or the version, which has been printed.
    """
    options, path, command, context = _parse(root, words)
    given = {p.name: context.params[p.name] for p in command.params if _is_given(context, p)}
    files: dict[str, bytes] = {}
    for name, kinds in _kinds(command).items():
        if name in given and HoldsRecipe in kinds and not (HoldsPlace in kinds and _is_run(given[name])):
            overrides = next((p.name for p in command.params if "--set" in p.opts), "")
            files = _packed(given[name], given.pop(overrides, None) or [])
            given[name] = RECIPE
    return Submission([*options, *path, *_words(command.params, given)], files)


def _parse(root: Any, words: Sequence[str]) -> tuple[list[str], list[str], Any, Any]:
    """(options before the command, its name in one or two words, the command, its context) of a command line."""
    path: list[str] = []
    try:
        context, command = root.make_context("fox1", [*words]), root
        options, left = _split(words)
        while hasattr(command, "commands"):
            if not left:
                raise ValueError(f"{' '.join(['fox1', *path])} needs a command: {', '.join(command.commands)}")
            name, command, left = command.resolve_command(context, [*left])
            path.append(name)
            if why := NOT_IN_A_JOB.get(path[0]):
                raise ValueError(f"fox1 {path[0]} does not run as a job, since {why}: run it on this machine")
            if hasattr(command, "commands") and left:
                context = command.make_context(name, [*left], parent=context)
                left = _split(left)[1]
        command = _for_a_job(command)
        context = command.make_context(path[-1], [*left], parent=context)
    except _UsageError as error:
        said = " ".join(error.format_message().split()).rstrip(".")
        # What is wrong with a value says so itself; a list of all options and commands helps against a typo.
        listed = "" if type(error) is typer.BadParameter else f"; see `{' '.join(['fox1', *path])} --help`"
        raise ValueError(f"{' '.join(['fox1', *path])}: {said}{listed}") from None
    return options, path, command, context


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags before a subcommand, and the rest."""
    at = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    return [word for word in words[:at] if word != "--"], [*words[at:]]


def _hints(command: Any) -> dict[str, Any]:
    """The annotations of a command's function."""
    return get_type_hints(inspect.unwrap(command.callback), include_extras=True)


def _kinds(command: Any) -> dict[str, set[type]]:
    """Parameter -> what it is declared to hold: of `HoldsPlace` and `HoldsRecipe`."""
    return {name: {type(m) for m in getattr(hint, "__metadata__", ())} for name, hint in _hints(command).items()}


def _for_a_job(command: Any) -> Any:
    """A command with the same parameters whose places stay text and must not be relative."""
    function = inspect.unwrap(command.callback)
    hints = _hints(command)

    def stand_in(**_: Any) -> None: ...

    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name] = _declared(hints[parameter.name])
        parameters.append(parameter.replace(annotation=hint))
    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    stand_in.__annotations__ = hints
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(command.name, help=command.help)(stand_in)
    made = typer.main.get_command(app)
    made.callback = command.callback
    return made


def _declared(hint: Any) -> Any:
    """The annotation of a parameter as a job's command has it."""
    if get_origin(hint) is not Annotated:
        return hint
    held, *metadata = get_args(hint)
    changed = []
    for entry in metadata:
        if hasattr(entry, "param_decls"):  # Typer's own: the option or argument
            entry = copy.copy(entry)
            # Variables of this machine are not those of the job.
            entry.envvar = None
            marks = [m for m in metadata if isinstance(m, HoldsPlace)]
            if HoldsRecipe in map(type, metadata) and marks:
                entry.parser = str  # which of the two is not known yet
            elif marks or _holds_paths(held):
                words, urls = marks[0].words if marks else (), bool(marks) or entry.parser is open_root
                entry.parser = _checker(words, urls)
        changed.append(entry)
    return Annotated[held, *changed]


def _holds_paths(held: Any) -> bool:
    return held is Path or any(map(_holds_paths, get_args(held)))


def _checker(words: tuple[str, ...], urls: bool) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = str(value)
        if text not in words:
            _check_place(text, urls)
        return text

    return check


def _check_place(text: str, urls: bool = True) -> None:
    if "://" in text and not urls:
        raise typer.BadParameter(f"{text} is a URL; name an absolute path that all nodes share")
    if "://" not in text and not text.startswith("/"):
        wanted = "a URL, or an absolute path that all nodes share" if urls else "an absolute path that all nodes share"
        raise typer.BadParameter(f"{text} is relative, and a job runs in a folder of its own; name {wanted}")


def _is_given(context: Any, parameter: Any) -> bool:
    """Whether a parameter stands on the command line."""
    source = context.get_parameter_source(parameter.name)
    return source is not None and source.name == "COMMANDLINE"


def _is_run(text: str) -> bool:
    """Whether a text that names a recipe or a run names a run. The cluster's runs are not seen from here."""
    return "://" in text or (text.startswith("/") and not text.endswith((".yaml", ".yml")) and not Path(text).is_file())


def _packed(recipe: str, overrides: Sequence[str]) -> dict[str, bytes]:
    """What a job needs of a recipe: one YAML without `extends`, variables and overrides, and the small files that it names."""
    import yaml

    from ..recipes.load import load_recipe
    from ..recipes.travel import pack

    say_which(recipe)
    packed, files = pack(load_recipe(recipe, overrides)[1])
    return {RECIPE: yaml.safe_dump(packed, sort_keys=False, allow_unicode=True).encode(), **files}


def _words(parameters: Sequence[Any], given: Mapping[str, Any]) -> list[str]:
    """A command line that gives these values."""
    arguments: list[str] = []
    options: list[str] = []
    for parameter in parameters:
        if parameter.name not in given:
            continue
        value = given[parameter.name]
        for one in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "argument":
                arguments.append(str(one))
            elif isinstance(one, bool):
                options.append((parameter.opts if one else parameter.secondary_opts)[0])
            else:
                option = max(parameter.opts, key=len)
                options += [f"{option}={one}"] if str(one).startswith("-") else [option, str(one)]
    if any(argument.startswith("-") for argument in arguments):
        return [*options, "--", *arguments]
    return [*arguments, *options]
