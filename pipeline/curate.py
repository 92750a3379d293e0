"""Curate: the stages in order, from source files to three shard sets and their statistics.

    plan -> prepare -> scan -> filter -> dedupe -> tokenize -> mix -> stats

Each stage plans tasks whose keys hold everything their output depends on, hands them to the engine and passes small
results on. Nothing here knows Ray, a terminal or a recipe file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unicodedata import unidata_version
from urllib.parse import unquote

import yaml

from ..storage import lease, store
from ..tokenize.model import TokenizerSettings
from . import prepare
from .dedupe.against import read_run
from .dedupe.guard import check_losses
from .dedupe.order import DedupeSettings
from .dedupe.stage import NO_RUN, OldRun, run_dedupe
from .engine.tasks import Engine, Task, TaskResult, task_key
from .filter import judge as filter
from .filter.exclude import load_excluded, prepare_exclude, read_lists
from .filter.judge import FilterSettings
from .mix.budget import Cell, MixSettings
from .mix.feasibility import BudgetShort, estimated_needs
from .mix.lookup_index import write_lookup
from .mix.stage import Mixer, TokenGroup, Vocabulary
from .prepare.benchmarks import benchmark_files
from .prepare.contamination import ContaminationSettings, prepare_contamination
from .prepare.quality import QualitySettings, prepare_quality
from .prepare.tokenizer import prepare_tokenizer
from .prepare.urls import prepare_urls
from .run.artifacts import STAGES, RunPaths, content_key, merge_counts, publish, read_json, remove_partial, write_json
from .run.identity import Group, group_files
from .signals import language, scan
from .signals.plugins import with_version
from .signals.scan import ScanSettings
from .sources.domains import CHAT, domain_of
from .sources.listing import SourceSettings, file_version, list_sources, sample_files
from .stats.ledger import CorpusFunnel, check_bad_rows, scan_funnels
from .stats.stage import Reached, write_stats
from .tokens import shards as tokens

ESTIMATE_MARGIN = 2.0
"""How far the estimate after dedupe may be off before it refuses a budget; the exact check follows."""


@dataclass(frozen=True)
class CurateSettings:
    """Everything a run's bytes depend on besides the text."""

    sources: tuple[SourceSettings, ...]
    mix: MixSettings
    scan: ScanSettings = field(default_factory=ScanSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    dedupe: DedupeSettings = field(default_factory=DedupeSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    contamination: ContaminationSettings = field(default_factory=ContaminationSettings)
    url_lists: tuple[str, ...] = ()
    """Block lists of domains and words."""
    exclude_lists: tuple[str, ...] = ()
    """Lists of documents to take out; see `exclude.py`."""
    seed: int = 0
    id_salt: int = 0
    max_bad_rows: float = 0.001
    limit: float = 1.0
    """Share of whole files to use, by seed."""
    against: str = ""
    """Folder of a finished run: its documents stay, and new ones that duplicate them are dropped."""


@dataclass
class Summary:
    """What a finished (or partly finished) run tells its user."""

    funnels: list[CorpusFunnel] = field(default_factory=list)
    reused: dict[str, tuple[int, int]] = field(default_factory=dict)
    mixture: dict[str, Any] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds of every stage."""
    notes: list[str] = field(default_factory=list)
    """What the recipe asked for and the data could not give."""


def run_files(paths: RunPaths, recipe: dict[str, Any], training: dict[str, Any]) -> dict[Path, bytes]:
    """What a run says of its own making: the resolved recipe, and the settings the trainer reads (without YAML)."""
    return {
        paths.recipe: yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).encode(),
        paths.training: json.dumps(training, indent=1).encode() + b"\n",
    }


def curate(
    settings: CurateSettings, engine: Engine, stages: Sequence[str] = STAGES, files: Mapping[Path, bytes] | None = None
) -> Summary:
    """Run the stages of a run that are not finished; the run's folder is `engine.paths`.

    Args:
        files: further files of the run, e.g. from `run_files`; published with the phases they belong to.

    Raises:
        ValueError: bad input, a budget that cannot be met, or a failed task; one line.
    """
    unknown = [s for s in stages if s not in STAGES]
    if unknown or not stages:
        raise ValueError(f"no stage {', '.join(unknown) or 'given'}; the stages are {', '.join(STAGES)}")
    with lease.held(engine.paths.root):
        remove_partial(engine.paths.root)
        summary = _Run(settings, engine, tuple(stages), files or {}).run()
        # Workers that died on the way left theirs too.
        remove_partial(engine.paths.root)
        return summary


def planned_groups(settings: CurateSettings, paths: RunPaths) -> list[Group]:
    """The groups of a run's files: those its manifest names."""
    named = {(f["corpus"], f["path"]) for f in read_json(paths.manifest)["files"]}
    files = [f for f in list_sources(settings.sources, settings.id_salt) if (f.corpus, f.path) in named]
    return group_files(files)


@dataclass
class _Run:
    settings: CurateSettings
    engine: Engine
    stages: tuple[str, ...]
    documents: Mapping[Path, bytes]
    summary: Summary = field(default_factory=Summary)
    prepared: TaskResult = field(default_factory=lambda: TaskResult(()))
    scans: dict[str, TaskResult] = field(default_factory=dict)
    """By file name."""
    rules: dict[str, dict[str, int]] = field(default_factory=dict)
    """How many documents failed each rule, failed it alone, and failed pairs of rules."""
    preparations: dict[str, TaskResult] = field(default_factory=dict)
    """By name of the preparation."""
    exclude_entries: dict[str, Any] = field(default_factory=dict)
    """`stats/exclude.json`; empty without an exclude list."""
    old: OldRun = NO_RUN
    prepared_for_scan: tuple[str, ...] = ()
    """`name=hash` of the prepared artifacts that scan reads."""

    @property
    def paths(self) -> RunPaths:
        return self.engine.paths

    def run(self) -> Summary:
        settings = self.settings
        files = list_sources(settings.sources, settings.id_salt)
        if settings.limit < 1:
            files = sample_files(files, settings.limit, settings.seed)
        self.files = files
        if settings.against:
            self.old = read_run(RunPaths(store.as_path(settings.against)), files, scan.signals_schema(settings.scan))
        if self.paths.recipe in self.documents:
            # Before any stage: `fox1 filter --what-if` asks what a run was made with. training.json comes with the phases.
            with publish(self.paths.recipe) as out:
                out.write(self.documents[self.paths.recipe])
        self.groups = group_files(files)
        last = max(STAGES.index(s) for s in self.stages)
        for stage in STAGES[: last + 1]:
            before, began = len(self.engine.reused), time.monotonic()
            getattr(self, f"_{stage}")()
            self.summary.seconds[stage] = time.monotonic() - began
            ran = list(self.engine.reused.items())[before:]
            redone = sum(total - reused for _, (reused, total) in ran)
            if stage not in self.stages and redone:
                # Not an error of the data: the stage was needed, and has just been brought up to date.
                self.summary.stages.append(f"{stage} (needed)")
            elif stage in self.stages:
                self.summary.stages.append(stage)
            self._write_manifest()
        self.summary.reused = dict(self.engine.reused)
        return self.summary

    def _step(self, stage: str, tasks: Sequence[Task]) -> list[TaskResult]:
        return self.engine.run(stage, tasks)

    def _prepare(self) -> None:
        s = self.settings
        used = [f.identity() for f in self.files if not f.held_out]
        model = Path(s.tokenizer.model)
        if s.tokenizer.model and "://" not in s.tokenizer.model and model.exists():
            # A named model does not depend on the corpora, apart from the sample that measures it.
            used.append(file_version(s.tokenizer.model))
        key = task_key("prepare", prepare.VERSION, [s.tokenizer, s.seed, s.filter.excluded], used)
        args = (self.files, s.filter.excluded, s.tokenizer, s.seed, self.paths)
        tasks = [Task("tokenizer", key, prepare_tokenizer, args)]

        def add(name: str, run: Any, settings: object, inputs: Sequence[object], *args: Any) -> None:
            tasks.append(Task(name, task_key(f"prepare.{name}", prepare.VERSION, settings, inputs), run, args))

        text = [f.identity() for f in self.files if not f.held_out]
        if s.quality.domains:
            facts = [s.quality, s.seed, s.filter.excluded]
            add("quality", prepare_quality, facts, text, self.files, s.filter.excluded, s.quality, s.seed, self.paths)
        if s.contamination.benchmarks:
            versions = [[f, file_version(f)] for b in s.contamination.benchmarks for f in benchmark_files(b)]
            add("contamination", prepare_contamination, s.contamination, versions, s.contamination, self.paths)
        if s.url_lists:
            add("urls", prepare_urls, s.url_lists, [file_version(u) for u in s.url_lists], s.url_lists, self.paths)
        if s.exclude_lists:
            corpora = sorted({f.corpus for f in self.files})
            # Read here: a wrong line is told before any work, and a list behind a URL may have grown under its name.
            entries = read_lists(s.exclude_lists, corpora, s.id_salt)
            add("exclude", prepare_exclude, None, entries, entries, self.paths)
        results = self._step("prepare", tasks)
        self.prepared = results[0]
        self.preparations = {task.name: result for task, result in zip(tasks, results, strict=True)}
        for_scan = [r for name, r in self.preparations.items() if name not in ("tokenizer", "exclude")]
        self.prepared_for_scan = tuple(f"{r.outputs[0].file.name}={r.outputs[0].hash}" for r in for_scan)
        if quality := self.preparations.get("quality"):
            self.summary.notes += [
                f"no quality model for {domain}, its formula is used: {why}"
                for domain, why in quality.data["skipped"].items()
            ]

    def _scan(self) -> None:
        s = self.settings
        settings = replace(s.scan, plugins=tuple(map(with_version, s.scan.plugins)))
        facts = [settings, unidata_version, language.model_version(), *self.prepared_for_scan]
        tasks = [
            Task(
                f.name,
                task_key("scan", scan.VERSION, facts, [f.identity(), f.file_hash]),
                scan.scan_file,
                (f, settings, self.paths, self.prepared_for_scan),
                weight=max(f.size, 1),
            )
            for f in self.files
        ]
        # Big files first: the last task to start should be a short one.
        order = sorted(range(len(tasks)), key=lambda i: (-tasks[i].weight, tasks[i].name))
        results = self._step("scan", [tasks[i] for i in order])
        by_name = {tasks[i].name: r for i, r in zip(order, results, strict=True)}
        self.scans = by_name
        self.funnels = scan_funnels(self.files, [by_name[f.name] for f in self.files])
        self.summary.funnels = self.funnels
        check_bad_rows(self.funnels, s.max_bad_rows, str(self.paths.root / "quarantine"))

    def _filter(self) -> None:
        s = self.settings
        exclude = self.preparations.get("exclude")
        excluded = exclude.outputs[0].hash if exclude else ""
        tasks = [
            Task(
                g.name,
                task_key(
                    "filter",
                    filter.VERSION,
                    [s.filter, excluded],
                    [self.scans[f.name].outputs[0].hash for f in g.files],
                ),
                filter.filter_group,
                (g, s.filter, excluded, self.paths),
                weight=max(g.size, 1),
            )
            for g in self.groups
        ]
        results = self._step("filter", tasks)
        for kind in ("failed", "alone", "both"):
            for result in results:
                merge_counts(self.rules.setdefault(kind, {}), result.data[kind])
        self.filtered = dict(zip([g.name for g in self.groups], results, strict=True))
        if excluded:
            entries = load_excluded(self.paths, excluded).entries
            hit = {i for r in results for i in r.data["entries"]}
            missed = [entry for i, entry in enumerate(entries) if i not in hit]
            self.exclude_entries = {"entries": len(entries), "without_document": missed}
            if missed:
                self.summary.notes.append(
                    f"exclude: {len(missed):,} of {len(entries):,} entries name no document of this run, e.g. {missed[0]}"
                )
        self._judge("filter", results)

    def _judge(self, stage: str, results: Sequence[TaskResult]) -> None:
        """Balance the funnels of training and held-out parts with a stage's verdicts per group."""
        for funnel in self.funnels:
            counts: dict[str, int] = {}
            for group, result in zip(self.groups, results, strict=True):
                if (group.corpus, group.held_out) == (funnel.corpus, funnel.held_out):
                    merge_counts(counts, result.counts)
            funnel.judged(stage, counts)

    def _dedupe(self) -> None:
        s = self.settings
        inputs = {
            g.name: [
                self.filtered[g.name].outputs[0].hash,
                *(part for f in g.files for part in (f.name, self.scans[f.name].outputs[0].hash)),
            ]
            for g in self.groups
        }
        counts = [[self.scans[f.name].counts for f in g.files] for g in self.groups]
        sizes = [(sum(c["bytes"] for c in of), sum(c["documents"] for c in of)) for of in counts]
        subsets = {key.rsplit("|", 1)[0] for result in self.filtered.values() for key in result.counts}
        shape = s.scan.minhash
        result = run_dedupe(
            self.engine, self.groups, sizes, inputs, subsets, s.dedupe, shape.bands, shape.sketch_size, self.old
        )
        self.dedupe_result = result
        self.decisions = {
            a.file.relative_to(self.paths.root / "decisions").as_posix(): a for r in result.decisions for a in r.outputs
        }
        self._balance_decisions(result.decisions)
        self.summary.funnels = list(self.decided.values())
        kept = {f"{c.corpus}/{subset}": r.get("", 0) for c in self.decided.values() for subset, r in c.subsets.items()}
        check_losses(kept, result.near_lost, result.largest, s.dedupe.near_limits, self.groups, self.paths)
        self._check_estimate(result.decisions)

    def _balance_decisions(self, results: Sequence[TaskResult]) -> None:
        """A chunk may hold training and held-out groups of one corpus, so both parts are balanced together."""
        counts: dict[str, int] = {}
        for result in results:
            merge_counts(counts, result.counts)
        for corpus in sorted({f.corpus for f in self.funnels}):
            parts = [f for f in self.funnels if f.corpus == corpus]
            whole = CorpusFunnel(corpus, False, rows=sum(f.rows for f in parts))
            whole.quarantined = sum(f.quarantined for f in parts)
            whole.judged("dedupe", {k: n for k, n in counts.items() if k.split("/", 1)[0] == corpus})
            self.decided = {**getattr(self, "decided", {}), corpus: whole}

    def _check_estimate(self, results: Sequence[TaskResult]) -> None:
        """The second feasibility check: bytes that survive times measured tokens per byte."""
        measured = self.prepared.counts
        if not measured["measured_bytes"]:
            return
        sizes: dict[str, int] = {}
        for result in results:
            merge_counts(sizes, result.data["kept_bytes"])
        rate = measured["measured_tokens"] / measured["measured_bytes"]
        formats = {f.corpus: f.format for f in self.files}
        cells = [self._cell(name, formats) for name in sizes]
        estimate = [int(size * rate) for size in sizes.values()]
        needs = estimated_needs(self.settings.mix, cells, estimate, ESTIMATE_MARGIN)
        if any(n.short for n in needs):
            raise BudgetShort(needs, "after dedupe, by measured tokens per byte")

    @staticmethod
    def _cell(name: str, formats: Mapping[str, str]) -> Cell:
        """The cell of `corpus/subset`."""
        corpus, subset = name.split("/", 1)
        return Cell(corpus, subset, domain_of(formats[corpus], subset), formats[corpus] == CHAT)

    def _tokenize(self) -> None:
        s = self.settings
        model = self.prepared.outputs[0].hash
        settings = replace(s.tokenizer, model="", sample_bytes=0)
        tasks = []
        for g in self.groups:
            inputs = [
                [f.identity(), self.decisions[f"{f.name}.parquet"].hash, self.scans[f.name].outputs[0].hash]
                for f in g.files
            ]
            key = task_key("tokenize", tokens.VERSION, settings, [model, inputs])
            tasks.append(Task(g.name, key, tokens.tokenize_group, (g, s.tokenizer, model, self.paths), max(g.size, 1)))
        results = self._step("tokenize", tasks)
        self.token_results = dict(zip([g.name for g in self.groups], results, strict=True))
        kept = sum(f.kept for f in self.decided.values())
        encoded = sum(r.counts["documents"] for r in results)
        if kept != encoded:
            raise ValueError(f"accounting of tokenize does not balance: {kept} kept, {encoded} encoded")

    def _mix(self) -> None:
        s = self.settings
        cells, groups = self._cells()
        facts, t = self.prepared.data, s.tokenizer
        vocabulary = Vocabulary(facts["vocab_size"], facts["pad"], facts["eos"], facts["bos"], t.bos, t.eos)
        mixer = Mixer(self.engine, s.mix, vocabulary, cells, groups)
        self.summary.mixture = mixer.run()
        write_lookup(self.engine, self.groups, self.scans)
        for path, data in self.documents.items():
            with publish(path) as out:
                out.write(data)
        self._remove_stale(self.paths.root / "phases", self.paths.held_out, self.paths.root / "index")

    def _remove_stale(self, *folders: Path) -> None:
        """Delete what an earlier mixture left in the folders users open: its files have other names and counts."""
        current = {a.path for outputs in self.engine.finished.values() for a in outputs}
        for path in (p for folder in folders for p in folder.rglob("*")):
            if path.is_file() and str(path) not in current:
                path.unlink()

    def _cells(self) -> tuple[tuple[Cell, ...], tuple[TokenGroup, ...]]:
        """The mixture's cells in name order, and every group's shards with their codes."""
        formats = {f.corpus: f.format for f in self.files}
        found = sorted({(g.corpus, s) for g in self.groups for s in self.token_results[g.name].data["subsets"]})
        code = {name: i for i, name in enumerate(found)}
        cells = tuple(self._cell(f"{c}/{s}", formats) for c, s in found)
        groups = []
        for g in self.groups:
            outputs = self.token_results[g.name].outputs
            shards = tuple((a.file, code[g.corpus, unquote(a.file.parent.name)]) for a in outputs)
            if shards:
                groups.append(TokenGroup(g.name, shards, tuple(a.hash for a in outputs), g.held_out))
        return cells, tuple(groups)

    def _stats(self) -> None:
        funnels = [*self.decided.values()]
        for funnel in funnels:
            parts = [f for f in self.funnels if f.corpus == funnel.corpus]
            funnel.files = sum(f.files for f in parts)
            funnel.bytes = sum(f.bytes for f in parts)
            funnel.damaged = [d for f in parts for d in f.damaged]
        self.summary.funnels = funnels
        s = self.settings
        write_stats(
            self.engine,
            Reached(
                files=self.files,
                groups=self.groups,
                scans=self.scans,
                decisions=self.decisions,
                tokens=self.token_results,
                prepared=self.preparations,
                funnels=funnels,
                held_out_rows={f.corpus: f.rows for f in self.funnels if f.held_out},
                rules=self.rules,
                dedupe=self.dedupe_result,
                mixture=self.summary.mixture,
                exclude=self.exclude_entries,
                # Without the places of files: what they hold is among the inputs and prepared artifacts.
                settings=content_key(
                    s.scan, s.filter, s.dedupe, replace(s.tokenizer, model=""), s.quality, s.mix, s.seed, s.limit
                ),
                phases=[p.name for p in s.mix.phases],
            ),
        )

    def _write_manifest(self) -> None:
        """File table and artifacts of the stages run so far; what readers follow."""
        artifacts = {}
        for record_stage in self.engine.finished:
            for artifact in self.engine.finished[record_stage]:
                relative = self.paths.relative(artifact)
                artifacts[relative.path] = {"bytes": relative.bytes, "rows": relative.rows, "hash": relative.hash}
        files = [
            {
                "corpus": f.corpus,
                "path": f.path,
                "file_hash": f.file_hash,
                "size": f.size,
                "held_out": f.held_out,
                "format": f.format,
            }
            for f in self.files
        ]
        manifest = {
            "version": 1,
            "files": files,
            "tokenizer": asdict(self.settings.tokenizer),
            "artifacts": artifacts,
        }
        if self.settings.against:
            manifest["against"] = self.settings.against
        write_json(self.paths.manifest, manifest)
