"""How much a user writes for the same job: fox1's recipe of the demo's kind against the code that datatrove needs for its part.

    python -m benchmarks.recipe_lines

Counted are lines that are neither blank nor comment nor docstring. fox1: a recipe for one's own copies of the five corpora,
as the README shows it; it filters, dedupes, decontaminates, tokenizes, mixes, packs and says how to train. datatrove: the
functions of bench_end_to_end.py that filter, dedupe and tokenize. The last line is JSON.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import yaml
from fox1.benchmarks import peers
from fox1.benchmarks.bench_end_to_end import run_datatrove

README = Path(__file__).parents[1] / "README.md"


def lines_of(function: Callable[..., object]) -> int:
    """Lines of code of a function, without its docstring."""
    tree = ast.parse(inspect.getsource(function))
    body = tree.body[0]
    assert isinstance(body, ast.FunctionDef)
    if ast.get_docstring(body):
        body.body = body.body[1:]
    return len([line for line in ast.unparse(tree).splitlines() if line.strip()])


def main() -> None:
    recipe = next(
        block for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL) if "extends" in block
    )
    assert yaml.safe_load(recipe)["extends"]
    ours = len([line for line in recipe.splitlines() if line.strip() and not line.strip().startswith("#")])
    theirs = sum(lines_of(f) for f in (run_datatrove, peers.minhash_dedup, peers.minhash_stages, peers.signature_step))
    print(json.dumps({"fox1": ours, "datatrove": theirs, "ratio": round(theirs / ours, 1)}))


if __name__ == "__main__":
    main()
