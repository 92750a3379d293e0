"""Who may import whom: one direction between the parts, no circle, and rich in one place (docs/architecture.md)."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAY_IMPORT: dict[str, set[str]] = {
    "storage": set(),
    "tokenize": {"storage"},
    "trainer": {"tokenize", "storage"},
    "pipeline": {"tokenize", "storage"},
    "datatrove": {"pipeline", "tokenize", "storage"},
    "tune": {"pipeline", "trainer", "tokenize", "storage"},
    "recipes": {"tune", "pipeline", "trainer", "tokenize", "storage"},
    "api": {"recipes", "pipeline", "trainer", "tokenize", "storage"},
    "cluster": {"api", "recipes", "pipeline", "trainer", "tokenize", "storage"},
    "commands": {"cluster", "api", "recipes", "tune", "pipeline", "trainer", "tokenize", "storage"},
    "kernel_cache": set(),
    "__init__": {"api", "storage"},
    "__main__": {"commands"},
}
"""Part -> the parts it may import besides itself. Everything may take `__version__` from the package."""
NOT_OF_THE_PACKAGE = {"tests", "benchmarks", "docs", "build"}


@dataclass(frozen=True)
class Import:
    """One imported module, by the parts of its name below `fox1`; of another package, with that package's name."""

    where: str
    """File and line."""
    importer: tuple[str, ...]
    target: tuple[str, ...]
    own: bool
    at_import: bool
    """Runs when the importer is imported: neither inside a function nor for type checkers only."""


@functools.cache
def modules() -> dict[tuple[str, ...], Path]:
    """All modules of the package, by the parts of their names below `fox1`; a package by its folder."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in NOT_OF_THE_PACKAGE or any(p.startswith(".") for p in parts):
            continue
        found[parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts] = path
    return found


def statements(tree: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, at_import
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(ast.Module(node.body, []), False)
            yield from statements(ast.Module(node.orelse, []), at_import)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(node, at_import and not inside)


@functools.cache
def imports() -> list[Import]:
    known = modules()
    found = []
    for name, path in known.items():
        folder = path.parent.relative_to(ROOT).parts
        for statement, at_import in statements(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT)}:{statement.lineno}"
            if isinstance(statement, ast.Import):
                targets = [tuple(alias.name.split(".")) for alias in statement.names]
                found += [Import(where, name, target, False, at_import) for target in targets]
            elif not statement.level:
                assert statement.module
                found.append(Import(where, name, tuple(statement.module.split(".")), False, at_import))
            else:
                base = folder[: len(folder) + 1 - statement.level] + tuple((statement.module or "").split("."))
                base = tuple(p for p in base if p)
                # `from .folder import file` imports the file, `from .file import name` the file named before.
                targets = [base + (a.name,) if base + (a.name,) in known else base for a in statement.names]
                found += [Import(where, name, target, True, at_import) for target in dict.fromkeys(targets)]
    return found


def test_no_import_runs_upward() -> None:
    assert {name[0] for name in modules()} <= set(MAY_IMPORT)
    wrong = []
    for i in imports():
        part = i.importer[0]
        if i.own and i.target and i.target[0] != part and i.target[0] not in MAY_IMPORT[part]:
            wrong.append(f"{i.where}: {part} imports {'.'.join(i.target)}")
    assert not wrong


def test_the_package_imports_itself_relatively() -> None:
    assert not [i.where for i in imports() if not i.own and i.target[0] == "fox1"]


def test_of_the_root_only_the_version_is_imported() -> None:
    known = modules()
    wrong = []
    for path in known.values():
        depth = len(path.relative_to(ROOT).parts)
        for statement, _ in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.ImportFrom) and statement.level == depth and not statement.module:
                names = [a.name for a in statement.names if (a.name,) not in known and a.name != "__version__"]
                wrong += [f"{path.relative_to(ROOT)}:{statement.lineno}: {name}" for name in names]
    assert not wrong


def test_no_import_goes_in_a_circle() -> None:
    """Neither between the parts, whenever it runs, nor between single modules as they are imported."""
    parts: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    files: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for i in imports():
        if i.own and i.target:
            if i.target[0] != i.importer[0]:
                parts.setdefault(i.importer[:1], set()).add(i.target[:1])
            if i.at_import and i.target != i.importer:
                files.setdefault(i.importer, set()).add(i.target)
    assert circle(parts) == [] and circle(files) == []


def circle(graph: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[str]:
    """One circle of a graph, from a node back to itself; empty: there is none."""
    done: set[tuple[str, ...]] = set()

    def walk(node: tuple[str, ...], path: list[tuple[str, ...]]) -> list[str]:
        if node in path:
            return [".".join(n) for n in (*path[path.index(node) :], node)]
        if node in done:
            return []
        found = next((c for n in sorted(graph.get(node, ())) if (c := walk(n, [*path, node]))), [])
        done.add(node)
        return found

    return next((c for node in sorted(graph) if (c := walk(node, []))), [])


def test_only_what_is_shown_on_a_terminal_imports_rich() -> None:
    wrong = [
        i.where for i in imports() if not i.own and i.target[0] == "rich" and i.importer[:2] != ("commands", "show")
    ]
    assert not wrong


def test_no_file_lies_outside_its_room() -> None:
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "api.py", "kernel_cache.py"}
    assert {p.name for p in (ROOT / "pipeline").glob("*.py")} == {"__init__.py", "curate.py"}
