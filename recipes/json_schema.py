"""The JSON Schema of recipes, for editors and for naming the key that a typo meant."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class RecipeJsonSchema(GenerateJsonSchema):
    """Pydantic's, with the descriptions of inherited fields, and without what a whole section is if it is left out."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _described(super().dataclass_schema(schema), schema["cls"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _described(super().model_schema(schema), schema["cls"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        default = schema.get("default")
        if is_dataclass(default) or isinstance(default, BaseModel):
            return {key: value for key, value in found.items() if key != "default"}
        if found.get("type") == "object" and default == ():
            return {**found, "default": {}}
        return found


def _described(found: JsonSchemaValue, cls: type) -> JsonSchemaValue:
    """The schema of a class, each field described by the string below it. Pydantic would read all sources for this whenever a
    recipe is read, and not only for a schema.
    """
    for declared in cls.__mro__:
        if declared.__module__.partition(".")[0] == __package__.partition(".")[0]:
            for name, text in _documented(declared).items():
                if name in found.get("properties", ()):
                    found["properties"][name].setdefault("description", text)
    return found


def _documented(declared: type) -> dict[str, str]:
    """Field -> the string below it, of the fields that a class declares itself."""
    body = ast.parse(textwrap.dedent(inspect.getsource(declared))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = inspect.cleandoc(words)
    return found


def known_keys(schema: Mapping[str, Any], location: tuple[int | str, ...]) -> list[str]:
    """The keys that a recipe may have beside the one at `location`; none where any may stand."""
    at = [schema]
    for part in location[:-1]:
        # A place may be of several kinds, and names them: no key of the recipe.
        at = [below for one in at for below in _below(schema, one, str(part))] or at
    return [key for one in at for key in one.get("properties", {})]


def nearest(schema: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """What to add to a message about an unknown key: the known one that it looks like, or all."""
    names = known_keys(schema, location)
    close = difflib.get_close_matches(str(location[-1]), names, 1)
    return f" (did you mean `{close[0]}`?)" if close else f"; known keys: {', '.join(names)}" if names else ""


def resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The kinds that a part of a schema allows, references followed."""
    if "$ref" in part:
        return resolved(schema, schema["$defs"][part["$ref"].rsplit("/", 1)[1]])
    if "anyOf" in part:
        return [kind for one in part["anyOf"] for kind in resolved(schema, one)]
    return [part]


def _below(schema: Mapping[str, Any], part: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    below = part.get("properties", {}).get(key)
    if below is None and key.isdigit():
        below = part.get("items")
    if below is None and isinstance(part.get("additionalProperties"), Mapping):
        below = part["additionalProperties"]
    if below is not None:
        yield from resolved(schema, below)
