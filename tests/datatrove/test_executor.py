"""The steps in datatrove's executor: files, excluded documents and `stats.json` are those of datatrove's steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline import filters as theirs
from datatrove.pipeline.formatters import PIIFormatter as TheirFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from fox1.datatrove.pipeline import filters as ours
from fox1.datatrove.pipeline.formatters import PIIFormatter
from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords

from .test_filters import DROPPED, LONG

NAMES = ("GopherRepetitionFilter", "GopherQualityFilter", "C4QualityFilter", "FineWebQualityFilter")


def documents() -> list[str]:
    dropped = [text for each in DROPPED.values() for text in each.values() if len(text) < 5000]
    return [LONG, LONG + "\nWrite to jo@example.net[1] or to the river.\nShort", *dropped, LONG.replace("the", "a [2]")]


def run(folder: Path, filters: Any, formatter: Any) -> dict[str, Any]:
    """What a pipeline of two tasks leaves: the lines of all its files, and its statistics without times."""
    steps = [
        getattr(filters, name)(
            language=WhiteSpaceWords(), exclusion_writer=JsonlWriter(f"{folder}/{name}", compression=None)
        )
        for name in NAMES
    ]
    LocalPipelineExecutor(
        [
            JsonlReader(str(folder.parent / "in")),
            *steps,
            formatter(),
            JsonlWriter(str(folder / "kept"), compression=None),
        ],
        tasks=2,
        workers=1,
        logging_dir=str(folder / "logs"),
    ).run()
    stats = json.loads((folder / "logs" / "stats.json").read_text())
    for step in stats:
        step["times"] = step.pop("time_stats").get("n")
    files = {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.jsonl")}
    return {"stats": stats, "files": files}


def test_a_pipeline_leaves_what_datatroves_leaves(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for part in range(2):
        lines = [json.dumps({"id": f"{part}-{k}", "text": text}) for k, text in enumerate(documents())]
        (tmp_path / "in" / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    expected = run(tmp_path / "theirs", theirs, TheirFormatter)
    assert run(tmp_path / "ours", ours, PIIFormatter) == expected
    assert {name.partition("/")[0] for name in expected["files"]} >= {"kept", *NAMES[:3]}
    assert len(expected["files"]["kept/00000.jsonl"].splitlines()) >= 2


def test_a_worker_does_without_pandas(tmp_path: Path) -> None:
    """It would take as long to import as a worker takes for megabytes of text."""
    probe = (
        "import sys\n"
        "from datatrove.data import Document\n"
        "from fox1.datatrove.pipeline import filters\n"
        "from fox1.datatrove.pipeline.dedup import MinhashDedupSignature\n"
        "from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords\n"
        "documents = [Document('The river and the cafe\\u0301. ' * 40, str(k)) for k in range(3)]\n"
        "for name in sys.argv[2:]:\n"
        "    list(getattr(filters, name)(language=WhiteSpaceWords()).run(iter(documents)))\n"
        "MinhashDedupSignature(sys.argv[1]).run(iter(documents))\n"
        "print('pandas' in sys.modules)\n"
    )
    command = [sys.executable, "-c", probe, str(tmp_path), *NAMES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_importing_fox1_does_not_import_datatrove() -> None:
    probe = "import sys, fox1, fox1.api; print('datatrove' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_without_datatrove_one_line_names_the_extra(tmp_path: Path) -> None:
    probe = (
        "import sys, importlib.abc\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'datatrove': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name.startswith('datatrove') else found(name, *a)\n"
        "import fox1.datatrove.pipeline.filters\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: fox1.datatrove needs datatrove; install it with: pip install 'fox1[datatrove]'"
