"""What the benchmarks share: clocks, samples, and datatrove at its own defaults and in its fastest setting."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xxhash


def bring(*packages: str) -> None:
    """Install the peers that a script needs and that are not there, in the versions that `constraints.txt` pins.

    Raises:
        subprocess.CalledProcessError: pip could not; it says why.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if not missing:
        return
    print(f"installing {', '.join(missing)}", file=sys.stderr, flush=True)
    pinned = Path(__file__).resolve().parents[1] / "constraints.txt"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--constraint", pinned, *missing], check=True)


def timed(call: Callable[[], object]) -> float:
    """Seconds a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Took:
    """Seconds of a call."""

    wall: float
    cpu: float
    """Of all processors, those of processes that ended in the call included."""


def measured(call: Callable[[], object]) -> Took:
    """How long a call takes, and how much of processors."""

    def used() -> float:
        kinds = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(k.ru_utime + k.ru_stime for k in kinds)

    before = used()
    wall = timed(call)
    return Took(wall, used() - before)


def in_turn(old: Path, script: Path, arguments: Sequence[str], rounds: int) -> Iterator[tuple[int, str, str]]:
    """Have a script work in a process for this tree, `new`, and in one for another checkout, `old`: (round, tree, answer).

    The script is one file of this tree, so that an older one need not know how; all that it imports is the tree's. It
    answers every line of its standard input with one.
    """
    with tempfile.TemporaryDirectory(prefix="fox1-bench-") as folder:
        processes: dict[str, subprocess.Popen[str]] = {}
        for name, tree in (("old", old), ("new", Path(__file__).parents[1])):
            place = Path(folder) / name
            place.mkdir()
            (place / "fox1").symlink_to(tree.resolve())
            processes[name] = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(place)},
            )
        for number in range(rounds):
            for name in sorted(processes, reverse=bool(number % 2)):
                process = processes[name]
                assert process.stdin and process.stdout
                process.stdin.write("\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    raise SystemExit(f"the {name} tree failed")
                yield number, name, answer
        for process in processes.values():
            process.communicate()


def is_sampled(text: str, share: float) -> bool:
    """Whether a document is of a sample of that share: by how it begins, so that most of its copies come with it."""
    head = " ".join(text[:200].casefold().split()[:5])
    return xxhash.xxh3_64_intdigest(head.encode()) < share * 2**64


def whitespace_words() -> Any:
    """A datatrove tokenizer of words between white space and nothing more: the fastest words it can be given."""
    from datatrove.utils.word_tokenizers import WhitespaceTokenizer

    class Whitespace(WhitespaceTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    return Whitespace()


def signature_step(folder: Path, words: Any, config: Any) -> Any:
    """datatrove's first MinHash stage."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    step = MinhashDedupSignature(str(folder), config, language=words)
    # Its hash function hands a str to xxhash, which newer releases refuse: the same hash of the same bytes.
    step._hash_func = lambda gram: xxhash.xxh64_intdigest(gram.encode())
    return step


def minhash_stages(folder: Path, files: int, words: Any) -> list[tuple[Any, bool, int]]:
    """datatrove's MinHash stages but the last, which drops documents: (step, whether it reads documents, tasks)."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster

    config = MinhashConfig()
    buckets = MinhashDedupBuckets(
        str(folder / "signatures"), str(folder / "buckets"), config=config, only_dedup_in_index=False
    )
    cluster = MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"), config)
    return [
        (signature_step(folder / "signatures", words, config), True, files),
        (buckets, False, config.num_buckets),
        (cluster, False, 1),
    ]


def minhash_dedup(sources: Path, folder: Path, files: int, words: Any) -> Iterator[tuple[Any, int]]:
    """Run datatrove's four MinHash stages over JSON lines files, one core; (document, file) of all it keeps."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupFilter
    from datatrove.pipeline.readers import JsonlReader

    reader = JsonlReader(str(sources))
    for step, reads, tasks in minhash_stages(folder, files, words):
        for rank in range(tasks):
            step.run(reader.run(rank=rank, world_size=tasks) if reads else None, rank, tasks)
    last = MinhashDedupFilter(str(folder / "remove"))
    for rank in range(files):
        for document in last.run(reader.run(rank=rank, world_size=files), rank, files):
            yield document, rank
