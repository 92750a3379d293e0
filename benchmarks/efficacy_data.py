"""What benchmarks/efficacy.py trains and measures on: curations of the same corpora, their pools by domain, and what all are
measured on, which no arm holds.

1. Two runs over all corpora, `base-dedupe` (no filters) and `base-kept` (with them). Of each, documents of every domain are set
   apart: the two halves of what is measured.
2. `corpora/`: the corpora without every row that is a copy of such a document, by the runs' clusters and by the truth file.
3. A run over `corpora/` for every arm, and of each run a packed pool for every domain.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import fox1
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zstandard
from fox1.benchmarks.peers import minhash_dedup, whitespace_words
from fox1.pipeline.dedupe.order import DUPLICATES
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from fox1.pipeline.mix.stage import list_training, pack_phases
from fox1.pipeline.run.artifacts import read_json
from fox1.pipeline.sources.domains import domain_of
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings, sources_of
from fox1.tokenize.shards import block_batches, read_set
from fox1.tune.items import measure_items, part_of, questions
from fox1.tune.measured import PackedSet, Sequences, measure_documents, read_sequences
from fox1.tune.pools import SourceRun, TunePaths, open_source_run, tokens_set_apart

PLAN = Path(__file__).with_name("efficacy.yaml")
HALVES = {"unfiltered": "base-dedupe", "kept": "base-kept"}
ORIGINAL = "original"
"""What the corpora themselves hold out; measured, and not part of any primary measure."""
Recipe = dict[str, Any]
Change = Callable[[Recipe], None]


class Row(NamedTuple):
    """A row of a source file."""

    corpus: str
    file: str
    number: int


@dataclass(frozen=True)
class SourceText:
    """A row that is trained on, where the licence policy allows it."""

    row: Row
    text: str
    domain: str


@dataclass(frozen=True)
class Place:
    """The folder of an experiment, and its plan."""

    root: Path
    data: Path
    truth: Path
    file: Path = PLAN
    """The plan; it may extend another one of its folder."""

    @cached_property
    def plan(self) -> dict[str, Any]:
        return dict(read_plan(self.file))

    @cached_property
    def plan_hash(self) -> str:
        """Of the bytes of the plan, after those of the one that it extends."""
        return hashlib.blake2b(_plan_bytes(self.file), digest_size=8).hexdigest()

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    @property
    def corpora(self) -> Path:
        return self.root / "corpora"


def read_plan(file: Path) -> dict[str, Any]:
    """A plan, with all that the one it extends says and it does not."""
    own = yaml.safe_load(file.read_text())
    return _merged(read_plan(file.with_name(own.pop("extends"))), own) if "extends" in own else own


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        found[key] = _merged(base[key], value) if both else value
    return found


def _plan_bytes(file: Path) -> bytes:
    data, own = file.read_bytes(), yaml.safe_load(file.read_text())
    return (_plan_bytes(file.with_name(own["extends"])) if "extends" in own else b"") + data


# --- recipes ----------------------------------------------------------------------------------------------------------


def no_filters(recipe: Recipe) -> None:
    recipe["filters"], recipe["url_lists"] = {}, []


def no_dedupe(recipe: Recipe) -> None:
    # Copies of held-out documents still go.
    recipe["dedupe"]["exempt"] = list(recipe["sources"])


def no_edits(recipe: Recipe) -> None:
    recipe["edits"] = {}


RUNS: dict[str, tuple[Change, ...]] = {
    "base-dedupe": (no_filters, no_edits),
    "base-kept": (no_edits,),
    "curated": (),
    "raw": (no_filters, no_dedupe, no_edits),
    "dedupe": (no_filters, no_edits),
    "filters": (no_dedupe,),
    "datatrove": (no_filters, no_dedupe, no_edits),
}
"""Run -> how its recipe differs."""
FROM = {"base-kept": "base-dedupe", "dedupe": "raw", "filters": "curated"}
"""Run -> the one whose scan it takes."""


def mapping_of(place: Place, data: Path) -> Recipe:
    """The recipe of the plan, resolved for some corpora, with one small phase."""
    path = place.root / "recipes" / "plan.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(place.plan["recipe"], sort_keys=False))
    _, mapping = load_recipe(str(path), [], {**os.environ, "FOX1_DATA": str(data)})
    mapping = deepcopy(mapping)
    mapping["scale"], mapping["mix"]["claim_order"] = 1.0, []
    weights = [{"domain": d, "weight": w, "if_present": True, "max_epochs": 60} for d, w in recipe_shares(place)]
    length = place.plan["block_length"]
    mapping["phases"] = {"phase1": {"tokens": 200_000, "weights": weights, "blocks": [{"length": length}]}}
    return mapping


def recipe_phases(place: Place) -> list[dict[str, float]]:
    """The full recipe's weights in every phase, of the plan's domains."""
    recipe, _ = load_recipe("mini", [], {**os.environ, "FOX1_DATA": str(place.data)})
    found = []
    for phase in recipe.phases.values():
        own = {w.domain: w.weight for w in phase.weights if w.domain in place.plan["domains"]}
        found.append({d: w / sum(own.values()) for d, w in own.items()})
    return found


def recipe_shares(place: Place) -> list[tuple[str, float]]:
    """The full recipe's weights over all phases."""
    recipe, _ = load_recipe("mini", [], {**os.environ, "FOX1_DATA": str(place.data)})
    tokens = [recipe.phase_tokens(name) for name in recipe.phases]
    phases = recipe_phases(place)
    return [
        (d, sum(t * p.get(d, 0.0) for t, p in zip(tokens, phases, strict=True)) / sum(tokens))
        for d in place.plan["domains"]
    ]


def curate(place: Place, name: str, data: Path, changes: Sequence[Change] | None = None, scan_of: str = "") -> Path:
    """A finished run; nothing is done where it is. All have the tokenizer of `base-dedupe`, which trains it."""
    mapping, out = mapping_of(place, data), place.run(name)
    for change in RUNS[name] if changes is None else changes:
        change(mapping)
    if name != "base-dedupe":
        mapping["tokenizer"]["model"] = str(place.run("base-dedupe") / "prepare" / "tokenizer.model")
    path = place.root / "recipes" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(mapping, sort_keys=False))
    origin = scan_of or FROM.get(name, "")
    if not (out / "stats" / "mixture.json").exists():
        fox1.curate(path, out, in_process=True, from_run=place.run(origin) if origin else None)
    return out


# --- rows of the corpora ----------------------------------------------------------------------------------------------


def rows_of(place: Place, data: Path) -> Iterator[SourceText]:
    """Every training row of some corpora that the licence policy allows."""
    recipe, _ = load_recipe("mini", [], {**os.environ, "FOX1_DATA": str(data)})
    excluded = {(e.corpus, e.subset) for e in curate_settings(recipe).filter.excluded}
    for file in list_sources(sources_of(recipe)):
        for batch in () if file.held_out else read_rows(file, Quarantine(file)):
            columns = (batch.column(c).to_pylist() for c in ("row", "text", "subset"))
            for row, text, subset in zip(*columns, strict=True):
                if (file.corpus, subset) not in excluded:
                    yield SourceText(Row(file.corpus, file.path, row), text, domain_of(file.format, subset))


def write_corpora(source: Path, out: Path, keep: Mapping[Row, str | None], held_out: bool = True) -> None:
    """Corpora with some of their rows, in their formats, whole or not at all. A text that is not None replaces the row's.

    Args:
        held_out: whether held-out files come with them.
    """
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    by_file: dict[str, dict[int, str | None]] = {}
    for row, text in keep.items():
        by_file.setdefault(f"{row.corpus}/{row.file}", {})[row.number] = text
    recipe, _ = load_recipe("mini", [], {**os.environ, "FOX1_DATA": str(source)})
    for file in list_sources(sources_of(recipe)):
        path, to = source / file.name, part / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.held_out:
            if held_out:
                shutil.copy(path, to)
            continue
        _write_rows(path, to, by_file.get(file.name, {}))
    part.rename(out)


def _write_rows(path: Path, to: Path, rows: Mapping[int, str | None]) -> None:
    numbers = sorted(rows)
    if path.suffix == ".parquet":
        table = pq.read_table(path).take(pa.array(numbers, pa.int64()))
        texts = [rows[r] or t for r, t in zip(numbers, table.column("content").to_pylist(), strict=True)]
        at = table.schema.get_field_index("content")
        pq.write_table(table.set_column(at, "content", pa.array(texts, table.schema.field(at).type)), to)
        return
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else zstandard.ZstdDecompressor().stream_reader(data).read()
    lines, chosen = data.split(b"\n"), []
    for number in numbers:
        text = rows[number]
        chosen.append(
            lines[number] if text is None else json.dumps(json.loads(lines[number]) | {"text": text}).encode()
        )
    data = b"".join(line + b"\n" for line in chosen)
    to.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else zstandard.ZstdCompressor().compress(data))


def truth_of(place: Place) -> Iterator[tuple[Row, dict[str, Any]]]:
    """What the truth file says of every row."""
    with open(place.truth) as lines:
        for line in lines:
            fact = json.loads(line)
            yield Row(fact["corpus"], fact["file"].split("/", 1)[1], fact["row"]), fact


def make_corpora(place: Place) -> None:
    """`corpora/`: all rows but those of the clusters that are measured on."""
    if place.corpora.exists():
        return
    apart: set[Row] = set()
    for half, run in HALVES.items():
        documents = set(_documents(place, half))
        columns = ["corpus", "file", "row", "doc_id", "duplicate_of"]
        for path in sorted((place.run(run) / "decisions").rglob("*.parquet")):
            table = pq.read_table(path, columns=columns)
            for corpus, file, row, doc, of in zip(*(c.to_pylist() for c in table.columns), strict=True):
                if doc in documents or of in documents:
                    apart.add(Row(corpus, file, row))
    facts = list(truth_of(place))
    named = {fact["key"] for row, fact in facts if row in apart}
    clusters = {
        c for row, fact in facts if (c := fact.get("natural_cluster")) and (row in apart or fact["key"] in named)
    }
    keep: dict[Row, str | None] = {}
    for row, fact in facts:
        if not (row in apart or fact["key"] in named or fact.get("natural_cluster") in clusters):
            keep[row] = None
    print(f"set apart: {len(facts) - len(keep):,} of {len(facts):,} rows, {len(named):,} documents", flush=True)
    kept: dict[str, list[int]] = {}
    for row in sorted(keep):
        kept.setdefault(f"{row.corpus}/{row.file}", []).append(row.number)
    (place.root / "kept.json").write_text(json.dumps(kept))
    write_corpora(place.data, place.corpora, keep)


def make_datatrove(place: Place) -> None:
    """`datatrove/`: the web rows of `corpora/` that datatrove's FineWeb steps leave, with the texts as they leave them."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.logging import logger

    out, work = place.root / "datatrove", place.root / "datatrove-work"
    if out.exists():
        return
    logger.remove()
    shutil.rmtree(work, ignore_errors=True)
    (work / "text").mkdir(parents=True)
    texts = {s.row: s.text for s in rows_of(place, place.corpora) if s.domain == "web"}
    with open(work / "text" / "0.jsonl", "w") as file:
        for row, text in texts.items():
            file.write(json.dumps({"id": json.dumps(row), "text": text}) + "\n")
    words = whitespace_words()
    documents = JsonlReader(str(work / "text")).run(rank=0, world_size=1)
    for step in (
        GopherRepetitionFilter(language=words),
        GopherQualityFilter(language=words),
        C4QualityFilter(language=words, filter_no_terminal_punct=False),
        FineWebQualityFilter(language=words),
    ):
        documents = step.run(documents, 0, 1)
    writer = JsonlWriter(str(work / "filtered"), output_filename="${rank}.jsonl", compression=None)
    for _ in writer.run(documents, 0, 1):
        pass
    writer.close()
    kept: dict[Row, str | None] = {}
    for document, _ in minhash_dedup(work / "filtered", work / "dedup", 1, words):
        row = Row(*json.loads(document.id))
        kept[row] = None if document.text == texts[row] else document.text
    print(f"datatrove keeps {len(kept):,} of {len(texts):,} web rows", flush=True)
    write_corpora(place.corpora, out, kept)
    shutil.rmtree(work)


# --- what is measured -------------------------------------------------------------------------------------------------


def make_measures(place: Place) -> None:
    """Set documents of both halves apart, and write them, benchmark items and the original held-out documents as sequences."""
    out = place.root / "measures"
    if (out / "done").exists():
        return
    wanted, length = place.plan["measures"], place.plan["block_length"]
    for seed, (half, name) in enumerate(HALVES.items(), 1):
        run = open_source_run(place.run(name))
        engine = Engine(TunePaths(place.root / "apart" / half), InProcess())
        cells = list_training(engine, MixSettings(), run.vocabulary, run.cells, run.groups).cells
        phases = []
        for domain in place.plan["domains"]:
            own = [n for n, cell in zip(cells, run.cells, strict=True) if cell.domain == domain]
            documents, tokens = sum(n.documents for n in own), sum(n.tokens for n in own)
            size = tokens_set_apart(wanted["documents"], wanted["tokens"], documents, tokens)
            phases.append(
                Phase(f"apart.{quote(domain, safe='')}", size, (Weight(1, domain=domain),), (BlockRule(length),))
            )
        # Of a seed of its own: by the same one, both halves would be the same documents.
        _pack(engine, run, phases, seed)
        for phase in phases:
            domain = phase.weights[0].domain
            set_ = PackedSet.of(engine.paths.phase(phase.name))
            found = min(wanted["documents"], len(_documents_of(set_.folder)))
            arguments = (set_, f"{half}/{domain}", run.piece_bytes, found, wanted["tokens"])
            measure_documents(*arguments, out / f"{half}-{phase.name.partition('.')[2]}.arrow")
    run = open_source_run(place.run("base-dedupe"))
    set_ = PackedSet.of(place.run("base-dedupe") / "held_out")
    count = len(_documents_of(set_.folder))
    measure_documents(set_, f"{ORIGINAL}/all", run.piece_bytes, count, wanted["original"], out / "original.arrow")
    recipe, _ = load_recipe("mini", [], {**os.environ, "FOX1_DATA": str(place.data)})
    found = questions(curate_settings(recipe).contamination.benchmarks, wanted["items"])
    items = (*part_of(found, 0), *part_of(found, 1))
    bos = run.vocabulary.bos if run.vocabulary.add_bos else -1
    measure_items(items, run.tokenizer, run.reserved, bos, length, out / "items.arrow")
    (out / "done").touch()


def _pack(engine: Engine, run: SourceRun, phases: Sequence[Phase], seed: int = 0) -> None:
    settings = MixSettings(tuple(phases), tuple(p.name for p in phases), seed=seed)
    pack_phases(engine, settings, run.vocabulary, run.cells, run.groups)


def _documents_of(folder: Path) -> set[int]:
    """Ids of the documents of a packed set."""
    info = read_set(folder)
    batches = (
        batch
        for split in info.splits
        for name in split.files
        for batch in block_batches(folder / str(split.block_length) / name, split.block_length, info.masked)
    )
    return {int(d) for batch in batches for d in np.asarray(batch.column("doc_ids").flatten())}


def _documents(place: Place, half: str) -> Iterable[int]:
    paths = TunePaths(place.root / "apart" / half)
    for domain in place.plan["domains"]:
        yield from _documents_of(paths.phase(f"apart.{quote(domain, safe='')}"))


def dropped_of_unfiltered(place: Place) -> dict[str, dict[str, int]]:
    """Domain -> for which reason the filters drop how many documents of the unfiltered half; "" for those that they keep."""
    paths = TunePaths(place.root / "apart" / "unfiltered")
    domains = {
        doc: d for d in place.plan["domains"] for doc in _documents_of(paths.phase(f"apart.{quote(d, safe='')}"))
    }
    found: dict[str, dict[str, int]] = {d: {} for d in place.plan["domains"]}
    for path in sorted((place.run(HALVES["kept"]) / "decisions").rglob("*.parquet")):
        table = pq.read_table(path, columns=["doc_id", "reasons"])
        for doc, reasons in zip(*(c.to_pylist() for c in table.columns), strict=True):
            if doc in domains:
                of_domain = found[domains[doc]]
                of_filters = [r for r in reasons if r not in (*DUPLICATES, "held_out")]
                reason = of_filters[0] if of_filters else ""
                of_domain[reason] = of_domain.get(reason, 0) + 1
    return found


def read_measures(place: Place) -> Sequences:
    """All that is measured; a target is half/domain, `items/NAME` or `original/all`."""
    sequences = read_sequences(sorted((place.root / "measures").glob("*.arrow")))
    # Items have the names of their benchmarks.
    named = tuple(t if "/" in t else f"items/{t}" for t in sequences.targets)
    return Sequences(**{**vars(sequences), "targets": named})


# --- pools ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DomainPool:
    """All tokens of a domain of a run, packed."""

    packed: PackedSet
    units: int
    tokens: int


def pools_of(place: Place, name: str) -> dict[str, DomainPool]:
    """Domain -> its pool in a run; packed where they are not yet."""
    folder = place.root / "packed" / name
    paths = TunePaths(folder)
    done = folder / "pools.json"
    if not done.exists():
        run, engine = open_source_run(place.run(name)), Engine(paths, InProcess())
        cells = list_training(engine, MixSettings(), run.vocabulary, run.cells, run.groups).cells
        tokens = {
            d: sum(n.tokens for n, cell in zip(cells, run.cells, strict=True) if cell.domain == d)
            for d in place.plan["domains"]
        }
        length = (BlockRule(place.plan["block_length"]),)
        phases = [
            Phase(f"pool.{quote(d, safe='')}", n, (Weight(1, domain=d),), length)
            for d, n in tokens.items()
            if n > place.plan["block_length"]
        ]
        _pack(engine, run, phases)
        shutil.rmtree(folder / "mix", ignore_errors=True)
        done.write_text(json.dumps({p.weights[0].domain: p.tokens for p in phases}))
    found = {}
    for domain, n in read_json(done).items():
        set_ = paths.phase(f"pool.{quote(domain, safe='')}")
        found[domain] = DomainPool(PackedSet.of(set_), sum(s.blocks for s in read_set(set_).splits), n)
    return found


def natural_shares(place: Place) -> dict[str, float]:
    """Shares of the domains in the curated pools, which all arms of tiers 0 and 1 have."""
    pools = pools_of(place, "curated")
    whole = sum(p.tokens for p in pools.values())
    return {d: p.tokens / whole for d, p in pools.items()}
