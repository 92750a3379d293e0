"""Elements of a page as values: written as HTML for a page that is sent as a file, as lists for one whose script builds it.

Texts are escaped, or become text nodes, always: no string of a run is ever read as markup. No element has a handler or a style of
its own, so that a page's policy can forbid both; colours and sizes are classes and attributes of SVG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ...storage.wording import printable

EMPTY = {"meta", "link", "input", "br", "rect", "line", "path", "circle", "polyline"}
"""Elements without an end: of SVG those that are written so."""
SVG = {"rect", "line", "path", "circle", "polyline"}

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Element:
    """An element with its attributes and what is in it."""

    tag: str
    attributes: Mapping[str, Value]
    children: tuple[Node, ...]


Node = Element | str | int | float | None | Sequence[Any]
"""What an element may hold: others, text, and lists of these; None is nothing."""


def h(tag: str, attributes: Mapping[str, Value] | None = None, *children: Node) -> Element:
    """An element. An attribute that is None or False is left out, one that is True has no value."""
    return Element(tag, attributes or {}, children)


def flat(nodes: Sequence[Node]) -> Iterator[Element | str]:
    """Elements and texts, lists laid open."""
    for node in nodes:
        if isinstance(node, Element | str):
            yield node
        elif isinstance(node, int | float):
            yield str(node)
        elif node is not None:
            yield from flat(node)


def html(*nodes: Node) -> str:
    """The HTML of some elements, with all texts escaped."""
    return "".join(_written(nodes))


def _written(nodes: Sequence[Node]) -> Iterator[str]:
    for node in flat(nodes):
        if isinstance(node, str):
            yield escape(printable(node, "\n\t"), quote=False)
            continue
        yield f"<{node.tag}"
        for name, value in _attributes(node):
            yield f" {name}" if value is True else f' {name}="{escape(printable(str(value)))}"'
        empty = node.tag in EMPTY and not node.children
        yield "/>" if empty and node.tag in SVG else ">"
        if not empty:
            yield from _written(node.children)
            yield f"</{node.tag}>"


def _attributes(node: Element) -> Iterator[tuple[str, Value]]:
    return ((name, value) for name, value in node.attributes.items() if value is not None and value is not False)


def tree(node: Node) -> Any:
    """The same as lists of JSON: a text, or [tag, attributes, children]."""
    if isinstance(node, Element):
        return [node.tag, dict(_attributes(node)), [tree(child) for child in flat(node.children)]]
    return [tree(child) for child in flat(node)] if isinstance(node, Sequence) and not isinstance(node, str) else node
