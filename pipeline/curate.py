"""Curate: the stages in order, from source files to three shard sets and their statistics.

    prepare -> scan -> filter -> dedupe -> tokenize -> mix -> stats

Where a recipe has steps before the scan, they come first: all else reads the texts that they make. Each stage plans tasks,
hands them to the engine and returns a frozen result that the next stages take; an engine skips what is finished. Nothing here
knows Ray, a terminal or a recipe file.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..storage import lease, store
from ..storage.web import Reach, WebUrl
from ..tokenize.encode import encoder_of
from ..tokenize.model import TokenizerSettings
from .carve.encode import encode_carved
from .carve.settings import Carve
from .carve.stage import set_apart
from .dedupe.against import read_run
from .dedupe.guard import check_losses
from .dedupe.order import DedupeSettings
from .dedupe.stage import NO_RUN, dedupe
from .engine.engine import Engine
from .engine.kernels import load_compiled
from .engine.parts import remove_parts
from .extract.settings import StepSettings
from .extract.stage import extract
from .filter.judge import FilterSettings
from .filter.score_settings import JoinSettings, named_scores
from .filter.scores import join_scores
from .filter.stage import filter_documents
from .mix.budget import MixSettings
from .mix.feasibility import check_estimate
from .mix.items import BenchmarkItems, ItemSettings
from .mix.lookup_index import write_lookup
from .mix.stage import mix
from .passages.settings import PassageSettings
from .passages.stage import cut_passages
from .prepare.benchmarks import benchmark_files
from .prepare.classifiers import scanned_by
from .prepare.contamination import ContaminationSettings
from .prepare.quality import QualitySettings
from .prepare.stage import TOKENIZER_STEP, Prepared, prepare, tokenizer_step
from .prepare.text_sample import SubsetName
from .prepare.tokenizer import PreparedTokenizer
from .run.artifacts import Artifact, publish
from .run.garbage import remove_stale
from .run.identity import TOKENS, Group, SourceFile, group_files, with_pieces
from .run.manifest import read_manifest, write_manifest
from .run.paths import RunPaths, remove_partial
from .run.schemas import STAGES
from .signals.scan import ScanSettings
from .signals.scores import ScoreSettings
from .signals.stage import scan
from .sources.extracted import with_extracted
from .sources.listing import NamedFile, SourceSettings, list_sources, sample_files, with_sizes
from .sources.patterns import files_of_patterns
from .sources.pieces import cut_files
from .stats.asked import hash_of_settings
from .stats.concerns import concerns
from .stats.ledger import CorpusFunnel, add_given, check_bad_rows, decided_funnels, judge_groups, scan_funnels
from .stats.stage import Finished, begin_beside, report
from .text.survivors import DecidedFile
from .tokens.stage import most_given, take_given, tokenize


@dataclass(frozen=True)
class CurateSettings:
    """Everything a run's bytes depend on besides the text."""

    sources: tuple[SourceSettings, ...]
    mix: MixSettings
    carve: Carve | None = None
    """What is set apart to measure on."""
    items: ItemSettings | None = None
    """How many benchmark items are measured on."""
    before_scan: tuple[StepSettings, ...] = ()
    """Steps between the sources and the scan, in their order."""
    scan: ScanSettings = field(default_factory=ScanSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    dedupe: DedupeSettings = field(default_factory=DedupeSettings)
    passages: PassageSettings = field(default_factory=PassageSettings)
    """Which passages of kept documents are cut."""
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    contamination: ContaminationSettings = field(default_factory=ContaminationSettings)
    url_lists: tuple[str, ...] = ()
    """Block lists of domains, pages, words and parts of URLs."""
    exclude_lists: tuple[str, ...] = ()
    """Lists of documents to take out; see `exclude.py`."""
    scores: tuple[ScoreSettings, ...] = ()
    """Scores of others; see `signals/scores.py`."""
    ranking: tuple[tuple[str, str], ...] = ()
    """(domain, name of the score that is its quality), sorted."""
    seed: int = 0
    id_salt: int = 0
    max_bad_rows: float = 0.001
    """Bad rows a corpus may have: a number, or a share below 1. Judged after scan; no task acts on it."""
    near_limits: tuple[tuple[str, float], ...] = ()
    """(`all`, corpus or `corpus/subset`, share of its documents that near-dedupe may drop before the run stops). Judged
    after dedupe; no task acts on it."""
    limit: float = 1.0
    """Share of whole files to use, by seed."""
    private_hosts: bool = False
    """Lists and redirects may lead to addresses that are not public."""
    against: str = ""
    """Folder of a finished run: its documents stay, and new ones that duplicate them are dropped."""

    def reaching(self, private_hosts: bool) -> CurateSettings:
        """The same settings; whatever they name may lead to addresses that are not public, or may not."""
        if not private_hosts:
            return self

        def free(urls: Sequence[str]) -> tuple[str, ...]:
            return tuple(WebUrl(url, Reach.ANY) for url in urls)

        benchmarks = tuple(replace(b, files=free(b.files)) for b in self.contamination.benchmarks)
        return replace(
            self,
            private_hosts=True,
            url_lists=free(self.url_lists),
            exclude_lists=free(self.exclude_lists),
            scores=tuple(replace(s, files=free(s.files), fasttext=WebUrl(s.fasttext, Reach.ANY)) for s in self.scores),
            tokenizer=replace(self.tokenizer, model=WebUrl(self.tokenizer.model, Reach.ANY)),
            contamination=replace(self.contamination, benchmarks=benchmarks),
        )

    def identity(self) -> str:
        """A hash of what was asked for. Without the places of files: what they hold is among the inputs."""
        return hash_of_settings(
            self.scan,
            self.contamination,
            self.filter,
            self.dedupe,
            self.near_limits,
            self.tokenizer,
            self.quality,
            self.mix,
            self.seed,
            self.limit,
            (self.scores, self.ranking),
            self.before_scan,
            self.passages,
            self.carve,
            self.items,
        )

    def measured_items(self, tokenizer: Artifact) -> BenchmarkItems | None:
        """The benchmark items that are measured on, with their files as they are now; None where there are none.

        Raises:
            ValueError: a benchmark's pattern matches no file.
        """
        if not self.items:
            return None
        benchmarks = self.contamination.benchmarks
        files = tuple(NamedFile.of(f) for b in benchmarks for f in benchmark_files(b))
        return BenchmarkItems(benchmarks, files, self.items, tokenizer, self.tokenizer.reserved)

    def joined(self) -> JoinSettings:
        """What the filter joins with the signals, with the files of scores as they are now.

        Raises:
            ValueError: a pattern of a score matches no file.
        """
        files = {
            s.name: files_of_patterns(s.files, f"scores.{s.name}", f"scores.{s.name}.files")
            for s in self.scores
            if s.files
        }
        return named_scores(self.scores, self.ranking, files)


@dataclass
class Summary:
    """What a finished (or partly finished) run reports to its user."""

    funnels: list[CorpusFunnel] = field(default_factory=list)
    reused: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Step -> (tasks whose finished output was reused, tasks)."""
    mixture: dict[str, Any] = field(default_factory=dict)
    taken: int = 0
    """Of the reused tasks, those that came from another run."""
    stages: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds of every stage."""
    notes: list[str] = field(default_factory=list)
    """What the recipe asked for and the data could not give."""
    concerns: list[str] = field(default_factory=list)
    """What is unlikely to be meant, once all stages are done."""


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
    paths, further = engine.paths, files or {}
    with (
        lease.held(paths.root, lease.RUN, alone=True, together=engine.executor.on_this_machine) as held,
        _few_collections(),
        contextlib.ExitStack() as leaving,
    ):
        # What fails leaves lines behind; where nothing does, all have ended.
        leaving.callback(engine.give_up)
        paths = engine.paths = replace(paths, lease=held)
        remove_partial(paths.root)
        summary = Summary()
        sources = list_sources(settings.sources, settings.id_salt, settings.private_hosts, summary.notes.append)
        if settings.limit < 1:
            sources = sample_files(sources, settings.limit, settings.seed)
        known = _known_sizes(engine.origin.paths) if engine.origin else {}
        sources = with_sizes(sources, known | _known_sizes(paths))
        engine.progress.run_begins(sum(f.text for f in sources), engine.executor.cores)
        if paths.recipe in further:
            # Before any stage: `fox1 filter --what-if` asks what a run was made with. training.json comes with the phases.
            with publish(paths.recipe) as out:
                out.write(further[paths.recipe])
        last = max(stages, key=STAGES.index)
        began, seen = time.monotonic(), set[str]()
        for stage, planned in _run_stages(settings, engine, sources, further, summary, last):
            summary.seconds[stage] = time.monotonic() - began
            # Steps of later stages may have begun beside it.
            after = STAGES[STAGES.index(stage) + 1 :]
            own = [step for step in engine.reused if step not in seen and step.split(".")[0] not in after]
            redone = sum(total - reused for reused, total in map(engine.reused.__getitem__, own))
            seen.update(own)
            if stage in stages:
                summary.stages.append(stage)
            elif redone:
                # Not an error of the data: the stage was needed, and has just been brought up to date.
                summary.stages.append(f"{stage} (needed)")
            written = {
                p: further[p] for p in further if p == paths.recipe or STAGES.index(stage) >= STAGES.index("mix")
            }
            write_manifest(paths, planned, engine.finished.values(), settings.tokenizer, settings.against, written)
            if stage == last:
                engine.look()
                break
            began = time.monotonic()
        summary.reused = dict(engine.reused)
        summary.taken = engine.origin.tasks if engine.origin else 0
        # Workers that died on the way left theirs too.
        remove_partial(paths.root)
        remove_parts(paths)
        return summary


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Meanwhile Python looks for garbage seldom: of what a driver holds, up to a million objects, next to nothing is any."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _run_stages(
    settings: CurateSettings,
    engine: Engine,
    files: Sequence[SourceFile],
    further: Mapping[Path, bytes],
    summary: Summary,
    last: str,
) -> Iterator[tuple[str, Sequence[SourceFile]]]:
    """The stages in order: the name of each when it is done, with the files, cut into pieces once that is known. Whoever
    iterates may stop after any of them.

    Args:
        last: after which there will be no other.
    """
    s, paths = settings, engine.paths
    old = read_run(RunPaths(store.as_path(s.against)), files, s.scan) if s.against else NO_RUN
    # Token ids have no text to scan, judge or compare: they wait for the mix.
    given = [f for f in files if f.format == TOKENS]
    files = [f for f in files if f.format != TOKENS]
    barred = [SubsetName(e.corpus, e.subset) for e in s.filter.excluded]
    extracted = extract(engine, files, s.before_scan)
    files = extracted.sources

    # No step before the tokenization waits for it. One that is trained is the longest task of a small run.
    tokenizer = tokenizer_step(files, barred, s.tokenizer, s.seed, paths)
    making = engine.beside(lambda: engine.run_beside([tokenizer])[0][0], first=True)
    # What is counted to cut files for the scan waits for nothing.
    cutting = None if last == "prepare" else engine.beside(partial(cut_files, engine, files))
    for_scan = prepare(
        engine,
        files,
        barred,
        s.quality,
        s.contamination,
        s.url_lists,
        s.exclude_lists,
        s.scores,
        s.seed,
        s.id_salt,
    )
    summary.notes += for_scan.notes
    if last == "prepare":
        making.result()
    yield "prepare", [*files, *given]

    if _ran(engine, "prepare"):
        # Where the text is read for the first time, its duplicates have yet to be found.
        engine.executor.preload(load_compiled, "fox1.pipeline.dedupe")
    # Seen before the long part: a file of scores that is not there is missed now, and not after hours.
    join = s.joined()
    scan_settings = replace(s.scan, classifiers=scanned_by(s.scores, for_scan.classifiers))
    assert cutting, "nobody goes on after the last stage"
    cut = cutting.result()
    scanned = scan(engine, cut, scan_settings, for_scan.models, extracted.rows)
    trained: PreparedTokenizer = making.result()
    prepared = Prepared(tokenizer=trained, **vars(for_scan))
    files, groups = scanned.sources, group_files(scanned.sources)
    part_funnels = summary.funnels = scan_funnels(files, scanned.files)
    check_bad_rows(part_funnels, s.max_bad_rows, str(paths.root / "quarantine"))
    yield "scan", [*files, *given]

    if _ran(engine, "scan", TOKENIZER_STEP):
        # Text has yet to be encoded, and until then there is time to load what encodes it.
        converted = trained.converted
        engine.executor.preload(
            encoder_of,
            trained.model.file,
            trained.model.hash,
            s.tokenizer.reserved,
            converted.file if converted else None,
        )
    joined = join_scores(engine, groups, scanned.files, join, s.id_salt)
    filtered = filter_documents(engine, groups, scanned.files, s.filter, prepared.exclude, joined)
    remove_stale(paths, engine.finished, ("scores",))
    # Later stages read them for the quality alone.
    ranked = filtered.scores.files if join.ranking else {}
    summary.notes += filtered.notes
    judge_groups(part_funnels, groups, filtered.groups)
    yield "filter", [*files, *given]

    passages = bool(s.passages.cut)
    apart = set_apart(
        engine, groups, scanned.files, filtered.groups, s.carve, s.filter.steps, prepared.tokenizer, s.seed
    )
    decided = dedupe(
        engine,
        groups,
        scanned.files,
        apart.filtered,
        s.dedupe,
        s.scan.minhash,
        old,
        ranked,
        passages,
        apart.ids,
    )
    funnels = summary.funnels = decided_funnels(part_funnels, decided.verdicts)
    kept = {f"{f.corpus}/{subset}": by_reason.get("", 0) for f in funnels for subset, by_reason in f.subsets.items()}
    check_losses(kept, decided.near_lost, decided.largest, s.near_limits, groups, paths)
    decided_files = {
        f.table: DecidedFile(f, scanned.files[f.table].signals, decided.decisions[f.table], ranked.get(f.table))
        for f in files
    }
    if passages:
        found = cut_passages(engine, groups, decided_files, s.passages, s.dedupe, decided)
        decided = found.decided
        funnels = summary.funnels = decided_funnels(part_funnels, decided.verdicts)
        decided_files = {
            name: replace(f, decisions=decided.decisions[name], cuts=found.cuts[name])
            for name, f in decided_files.items()
        }
    remove_stale(paths, engine.finished, ("cuts",))
    kinds = {f.corpus: (f.format, f.domain) for f in [*files, *given]}
    check_estimate(s.mix, decided.kept_bytes, kinds, prepared.tokenizer, most_given(given, prepared.tokenizer))
    yield "dedupe", [*files, *given]

    # Beside the tokenization and the mixture, neither of which they wait for.
    looked_up = engine.beside(lambda: write_lookup(engine, groups, scanned.files)) if last in ("mix", "stats") else None
    begun = begin_beside(engine, groups, decided_files, prepared.contamination) if last == "stats" else None
    tokenized = tokenize(engine, groups, decided_files, s.tokenizer, prepared.tokenizer, sum(f.kept for f in funnels))
    carved = encode_carved(engine, apart, decided_files, s.tokenizer, prepared.tokenizer)
    taken = take_given(engine, given, s.sources, s.filter.excluded, s.tokenizer, prepared.tokenizer)
    tokenized = tokenized.with_given(taken)
    add_given(part_funnels, funnels, taken)
    yield "tokenize", [*files, *given]

    all_groups = [*groups, *taken.groups]
    items = s.measured_items(prepared.tokenizer.model)
    mixed = mix(
        engine, all_groups, tokenized.groups, s.mix, s.tokenizer, prepared.tokenizer, decided.decisions, carved, items
    )
    assert looked_up, "nobody goes on after the last stage"
    looked_up.result()
    for path, data in further.items():
        with publish(path) as out:
            out.write(data)
    remove_stale(paths, engine.finished, ("phases", "held_out", "index"))
    summary.mixture = mixed.mixture
    yield "mix", [*files, *given]

    run = Finished(
        groups,
        decided_files,
        extracted,
        prepared,
        filtered,
        decided,
        tokenized,
        mixed,
        part_funnels,
        funnels,
        taken.groups,
    )
    assert begun, "nobody goes on after the last stage"
    reported = report(engine, run, s.identity(), [p.name for p in s.mix.phases], begun)
    summary.concerns = concerns(reported.values)
    yield "stats", [*files, *given]


def _ran(engine: Engine, *steps: str) -> bool:
    """Whether any task of some steps was not finished before."""
    return any(engine.reused[step][0] < engine.reused[step][1] for step in steps)


def _known_sizes(paths: RunPaths) -> dict[str, int]:
    """The sizes of the files that the run was planned with before, by name."""
    with contextlib.suppress(ValueError):
        return {f"{f['corpus']}/{f['path']}": f["size"] for f in read_manifest(paths)["files"]}
    return {}


def planned_groups(settings: CurateSettings, paths: RunPaths) -> list[Group]:
    """The groups of a run's files of text: those its manifest names."""
    return group_files(planned_files(settings, paths))


def planned_files(settings: CurateSettings, paths: RunPaths, corpus: str = "") -> list[SourceFile]:
    """The files of text of a finished run, of one corpus or of all, where its recipe says that they lie; large ones as their
    pieces.

    Raises:
        ValueError: one is not there; names it, and the option that says where it is now.
    """
    found: list[SourceFile] = []
    manifest = read_manifest(paths)
    artifacts = manifest["artifacts"]
    named = [f for f in manifest["files"] if corpus in ("", f["corpus"]) and f["format"] != TOKENS]
    for source in settings.sources:
        needed = {f["path"]: f for f in named if (f["corpus"], f["held_out"]) == (source.corpus, source.held_out)}
        if not needed:
            continue
        root = source.root or source.urls
        gone = f"{source.corpus}/{min(needed)}"
        if source.root and not source.urls and "://" not in root and not os.path.isdir(root):
            # The folder that the recipe names, or one above it that holds more than one corpus.
            while (above := os.path.dirname(root)) and not os.path.exists(above):
                root = above
            raise ValueError(f"the run needs {gone}, which is no longer {_remedy(root, source.root)}")
        try:
            files = list_sources((source,), settings.id_salt, settings.private_hosts)
            listed = {
                f.path: [with_extracted(piece, paths, artifacts) for piece in with_pieces(f, needed[f.path])]
                for f in files
                if f.path in needed
            }
        except ValueError as error:
            raise ValueError(
                f"the run needs {gone}: {error}; if it moved, name its place with --data {root}=NEW"
            ) from None
        if len(listed) < len(needed):
            raise ValueError(
                f"the run needs {source.corpus}/{min(set(needed) - set(listed))}, which is no longer {_remedy(root, root)}"
            )
        found += [file for pieces in listed.values() for file in pieces]
    return sorted(found, key=lambda f: f.table)


def _remedy(moved: str, root: str) -> str:
    return f"below {root}; put it back, or name the new place of {moved} with --data {moved}=NEW"
