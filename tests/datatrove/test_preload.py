"""Workers of datatrove's local executor begin with what its fork server loaded once; nothing else learns of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys, time
from pathlib import Path
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from fox1.datatrove.kernels.repetition import _line_verdicts
from fox1.datatrove.pipeline.dedup import MinhashDedupSignature
from fox1.datatrove.pipeline.filters import GopherRepetitionFilter
from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords
from fox1.pipeline.signals.minhash import _sign
from multiprocess import forkserver


class Probe(PipelineStep):
    name = type = "probe"

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def __setstate__(self, state):
        self.__dict__ = state
        # Before any step of this pipeline has run.
        self.loaded = [name for name in NAMES if name in sys.modules]
        self.kernels = [len(kernel.signatures) for kernel in (_line_verdicts, _sign)]

    def run(self, data, rank=0, world_size=1):
        Path(self.folder, f"{rank}.json").write_text(json.dumps([os.getppid(), self.loaded, self.kernels]))
        # Each worker has one task: the one that begins first would else take both.
        deadline = time.monotonic() + 100
        while len(list(Path(self.folder).glob("[01].json"))) < world_size and time.monotonic() < deadline:
            time.sleep(0.02)
        yield from data or ()


NAMES = ["fox1.datatrove.preload.quality_filters", "fox1.datatrove.preload.minhash", "theirs_too"]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    forkserver._forkserver.set_forkserver_preload(["__main__", "theirs_too"])
    step = GopherRepetitionFilter(language=WhiteSpaceWords())
    sign = MinhashDedupSignature(str(folder / "signatures"))
    assert forkserver._forkserver._forkserver_pid is None, "a step starts no process"
    pipeline = [Probe(str(folder)), JsonlReader(str(folder / "in")), step, JsonlWriter(str(folder / "out"), compression=None)]
    LocalPipelineExecutor(pipeline, tasks=2, workers=2, logging_dir=str(folder / "logs"), start_method=sys.argv[2]).run()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_are_forked_with_the_kernels_loaded(method: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "theirs_too.py").write_text("")
    (tmp_path / "in").mkdir()
    text = "One line of it has several words, and no two of its lines are the same.\nThis is another one.\n"
    for part in range(2):
        (tmp_path / "in" / f"{part}.jsonl").write_text(json.dumps({"id": f"{part}", "text": text}) + "\n")
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path), method]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([line for p in (tmp_path / "out").iterdir() for line in p.read_text().splitlines()]) == 2
    servers, loaded, kernels = zip(*(json.loads(p.read_text()) for p in tmp_path.glob("[01].json")), strict=True)
    assert len({*servers}) == 1
    names = ["fox1.datatrove.preload.quality_filters", "fox1.datatrove.preload.minhash", "theirs_too"]
    assert all(found == (names if method == "forkserver" else []) for found in loaded)
    assert all(found == ([1, 1] if method == "forkserver" else [0, 0]) for found in kernels)
