"""Files to documents: what a program says about itself, cut into the kinds of text that the corpora hold.

Each function is a lazy stream in a stable order, so a caller takes as much as it wants and the rest is never parsed.
Python files are read with `ast`; none is imported.
"""

from __future__ import annotations

import ast
import email
import inspect
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import PurePosixPath
from typing import NamedTuple

from .harvest import PYTHON, SourceText, is_clean, rank

SCIENTIFIC = frozenset({"numpy", "torch"})
TOPICS = "pydoc_data/topics.py"
MATHEMATICS = re.compile(r"\.\. math::|:math:|linalg|/fft/|polynomial|distributions|\\frac|\\sum")
CODE_CHARS = range(300, 40_000)
PAGE_CHARS = range(400, 9_000)
BOOK_CHARS = range(8_000, 40_000)
LONG_STRING = re.compile(r'"{3}[^"]*"{3}|\'{3}[^\']*\'{3}')
DOCUMENTED_SHARE = 0.12
"""Of a Python file's characters, those in such strings: a file with less is not parsed for its docstrings."""
ENTRY_CHARS = 250
"""Shorter docstrings are no document of their own."""
ANSWER_CHARS = 500
UNIT_FILES = 30


class Kind(StrEnum):
    """What a document is; decides which corpora it can be found in."""

    CODE = "code"
    ENCYCLOPEDIA = "encyclopedia"
    CRAWL = "crawl"
    C4 = "c4"
    LEGAL = "legal"
    SCIENCE = "science"
    MATH = "math"
    ARITHMETIC = "arithmetic"
    BOOK = "book"
    QA = "qa"
    DIALOGUE = "dialogue"
    INSTRUCTION = "instruction"
    LANGUAGES = "languages"
    PERSONAL = "personal"
    BENCHMARK = "benchmark"
    POOR = "poor"


@dataclass(frozen=True, slots=True)
class Document:
    """One text, before it is copied into any corpus."""

    kind: Kind
    key: str
    """Unique, and the same on every machine that has the same files."""
    title: str
    text: str


class Docstring(NamedTuple):
    """A docstring and the dotted name of what it documents."""

    name: str
    text: str


def code(sources: Iterable[SourceText]) -> Iterator[Document]:
    """Source files of a reasonable length, whole."""
    for source in sources:
        if (text := source.read()) and len(text) in CODE_CHARS:
            yield Document(Kind.CODE, source.key, PurePosixPath(source.path).name, text)


def licences(sources: Iterable[SourceText]) -> Iterator[Document]:
    """Licence files; many are the same text, or the same but for a name."""
    for source in sources:
        if (text := source.read()) and len(text) in CODE_CHARS:
            yield Document(Kind.LEGAL, source.key, f"License of {source.owner}", text)


def readmes(sources: Iterable[SourceText]) -> Iterator[Document]:
    """Long descriptions of distributions."""
    for source in sources:
        text = str(email.message_from_string(source.read() or "").get_payload()).strip()
        if text and is_clean(text):
            yield from _pages(_web_kind(source.key), source.key, source.owner, [text])


def topics(sources: Iterable[SourceText]) -> Iterator[Document]:
    """The language reference that `help()` shows: one dictionary of texts in `pydoc_data`."""
    for source in (s for s in sources if (s.owner, s.path) == (PYTHON, TOPICS)):
        for node in _parse(source.read() or "").body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                for name, text in sorted(ast.literal_eval(node.value).items()):
                    if is_clean(text):
                        yield from _pages(Kind.ENCYCLOPEDIA, f"{source.key}::{name}", name, [text])


def science(sources: Iterable[SourceText]) -> Iterator[Document]:
    """The longer docstrings of NumPy and torch, each a document."""
    for source in (s for s in sources if s.owner in SCIENTIFIC and s.path.endswith(".py")):
        for number, entry in enumerate(docstrings(source)):
            if len(entry.text) >= ENTRY_CHARS:
                kind = Kind.MATH if MATHEMATICS.search(source.path + entry.text) else Kind.SCIENCE
                yield Document(kind, f"{source.key}::{number}", entry.name, f"{entry.name}\n\n{entry.text}")


def reference(sources: Iterable[SourceText], *, standard: bool) -> Iterator[Document]:
    """Docstrings of the standard library (or of everything else but NumPy and torch), a package folder at a time.

    A folder is either a set of pages or, outside the standard library, a book with its modules as chapters. Long
    docstrings become questions and answers and are left out of the page, so that no text is in two documents.
    """
    chosen = [s for s in sources if s.path.endswith(".py") and s.path != TOPICS and s.owner not in SCIENTIFIC]
    # A book needs its modules side by side, and a stable choice needs the folders in the order of a hash.
    units = sorted((rank("unit", u), u, s) for s in chosen if (s.owner == PYTHON) == standard for u in [_unit(s)])
    for (_, unit), members in groupby(units, key=lambda m: m[:2]):
        modules = [source for _, _, source in members][:UNIT_FILES]
        is_book = not standard and len(modules) > 2 and rank("book", unit) % 2 == 0
        chapters = []
        for source in modules:
            entries = list(docstrings(source))
            if is_book:
                chapters += [_section(e) for e in entries]
                continue
            long = [e for e in entries[1:] if len(e.text) >= ANSWER_CHARS]
            for number, entry in enumerate(long):
                text = f"Q: What does `{entry.name}` do, and how is it used?\n\nA: {entry.text}"
                yield Document(Kind.QA, f"{source.key}::{number}", entry.name, text)
            kind = Kind.ENCYCLOPEDIA if standard else _web_kind(source.key)
            title = source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            yield from _pages(kind, source.key, title, [_section(e) for e in entries if e not in long])
        if sum(map(len, chapters)) >= BOOK_CHARS.start:
            text = "\n\n\n".join(chapters)[: BOOK_CHARS.stop]
            yield Document(Kind.BOOK, unit, f"The book of {PurePosixPath(unit).name}", text)


def docstrings(source: SourceText) -> Iterator[Docstring]:
    """Docstrings of a Python file in order: of the module, its classes, functions and methods, or passed to a call.

    Extension modules are documented from Python by calls such as NumPy's ``add_newdoc("numpy", "sin", "...")``.
    """
    text = source.read()
    # Parsing is most of the time that a sample takes: only what is documented well is worth it.
    if not text or sum(map(len, LONG_STRING.findall(text))) < DOCUMENTED_SHARE * len(text):
        return
    for node in _documented(_parse(text)):
        if isinstance(node, ast.Call):
            name, text = _call_text(node)
        else:
            name = getattr(node, "name", PurePosixPath(source.path).stem)
            text = ast.get_docstring(node) or ""
        if text and is_clean(text):
            yield Docstring(name, text)


def _documented(
    tree: ast.Module,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Call]:
    yield tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (m for m in node.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node.value


def _call_text(call: ast.Call) -> tuple[str, str]:
    """(name, text) of a call that documents something; the text is empty where it does not."""
    strings = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    text = inspect.cleandoc("\n".join(s for s in strings if "\n" in s))
    name = ".".join(s for s in strings if s.isidentifier()) or (ast.unparse(call.args[0]) if call.args else "")
    return name, text


def _parse(text: str) -> ast.Module:
    """The tree of a Python file; an empty one where this Python cannot parse it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ast.Module([], [])


def _unit(source: SourceText) -> str:
    return f"{source.owner}/{PurePosixPath(source.path).parent}"


def _web_kind(key: str) -> Kind:
    return Kind.C4 if rank("web", key) % 5 < 2 else Kind.CRAWL


def _section(entry: Docstring) -> str:
    return f"{entry.name}\n\n{entry.text}"


def _pages(kind: Kind, key: str, title: str, sections: list[str]) -> Iterator[Document]:
    """Sections joined to pages of `PAGE_CHARS`; a longer section is cut between paragraphs, a short rest is dropped."""
    page, number = "", 0
    paragraphs = [p for section in sections for p in _cut(section)]
    for paragraph in (*paragraphs, ""):
        if page and (not paragraph or len(page) + len(paragraph) > PAGE_CHARS.stop):
            if len(page) in PAGE_CHARS:
                heading = title if not number else f"{title} (part {number + 1})"
                yield Document(kind, f"{key}#{number}", heading, f"{heading}\n\n{page}")
            page, number = "", number + 1
        page = f"{page}\n\n{paragraph}" if page else paragraph


def _cut(section: str) -> list[str]:
    if len(section) < PAGE_CHARS.stop:
        return [section]
    return [p for p in section.split("\n\n") if p.strip() and len(p) < PAGE_CHARS.stop]
