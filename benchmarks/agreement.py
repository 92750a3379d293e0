"""How often fox1's rules and datatrove's filters decide alike, on the same documents: rule by rule, whole filters, and what is not
a threshold: C4's edits, URLs, personal data and language.

    FOX1_DATA=... python -m benchmarks.agreement [--megabytes 15] [--recipe mini] [--lid lid.176.bin] [--out FILE.json]

Of every comparison it prints the documents that both drop (or change), that only one does, the share of drops that they have in
common (of what either drops) and the share of documents that they decide alike. "Alike" is near 100 % for a rule that hardly drops
anything, whatever it drops; "in common" is not.

    paper      every rule alone, and every filter whole, at the published thresholds; datatrove's words are spaCy's (for words
               with a letter alone, those that white space separates), fox1's its own; C4's page is judged without the lines
               that its rules cut
    recipe     the same at the thresholds of the recipe's section `web`, for the rules that it has
    one word rule   fox1.datatrove's filters against datatrove's, both with words between white space: they must agree
    others     C4's line edits, the block list of the recipe, e-mail and IP addresses, the language

Where the rules differ by definition: spaCy counts punctuation as words and splits at apostrophes, fox1's words are runs of
letters, digits and marks; datatrove's duplicate n-grams leave out first copies and what overlaps them, its repetition
joins words without spaces or takes an n-gram that occurs once for a top one; its lines are exact, fox1's stripped; its
C4 sentences are spaCy's. datatrove's language filter downloads a fastText model: `--lid` names it (lid.176.bin), and fox1's reader
of such files evaluates it; without it the language is that of the package py3langid, whose model fox1 evaluates.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fox1.benchmarks.agreement_rules import C4, C4_OFF, FAMILIES, RULES, Columns, Rule, filter_of
from fox1.benchmarks.bench_scan import stratified
from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords
from fox1.pipeline.signals import c4, language, scan, urls
from fox1.pipeline.signals.ratios import SIGNAL_COUNTS
from fox1.pipeline.sources.domains import DOMAINS
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.pipeline.text.edits import apply_edits
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings
from fox1.recipes.thresholds import counting
from fox1.tokenize.spans import text_buffers


@dataclass(frozen=True)
class Agreed:
    """How two sides decide."""

    part: str
    rule: str
    both: int
    datatrove: int
    fox1: int
    in_common: float | None
    """Share of what either drops; None: neither drops anything."""
    alike: float

    @classmethod
    def of(cls, part: str, rule: str, theirs: np.ndarray, ours: np.ndarray) -> Agreed:
        both, either = int((theirs & ours).sum()), int((theirs | ours).sum())
        only = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
        common = round(both / either, 4) if either else None
        return cls(part, rule, both, *only, common, round(float((theirs == ours).mean()), 4) if len(theirs) else 1.0)

    def __str__(self) -> str:
        common = "" if self.in_common is None else f"{100 * self.in_common:.1f} %"
        return f"{self.rule:42}{self.both:8,}{self.datatrove:11,}{self.fox1:8,}{common:>11}{100 * self.alike:9.2f} %"


HEADER = f"{'':42}{'both':>8}{'datatrove':>11}{'fox1':>8}{'in common':>11}{'alike':>11}"


ALL_LINES = scan.EditSettings(lines=tuple((domain, c4.LINE_EDITS) for domain in DOMAINS))
"""C4's rules for lines, in every domain."""


@dataclass(frozen=True)
class Sample:
    """Documents that both sides read."""

    batches: Sequence[tuple[Any, pa.RecordBatch]]
    texts: Sequence[str]
    columns: Columns
    c4: Columns
    """Counts after C4's line rules, by which its filter judges the page."""

    def signals(self, settings: scan.ScanSettings) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        """(rows, what fox1's scan says of them)."""
        schema, nothing = scan.scanned_schema(settings), scan.Models.nothing()
        for file, batch in self.batches:
            for piece in scan.pieces(batch):
                yield piece, scan.scan_piece(piece, file, settings, schema, nothing)

    def edited(self, edits: scan.EditSettings) -> list[str]:
        """The texts with fox1's edits."""
        found = self.signals(scan.ScanSettings(edits=edits))
        return [t for piece, s in found for t in apply_edits(piece.column("text"), s.column("edits")).to_pylist()]

    @classmethod
    def of(cls, batches: Sequence[tuple[Any, pa.RecordBatch]]) -> Sample:
        """Without documents of white space alone, by whose words datatrove divides."""
        full = [(f, b.filter(pa.array([bool(t.strip()) for t in b.column("text").to_pylist()]))) for f, b in batches]
        texts = [t for _, b in full for t in b.column("text").to_pylist()]
        sample = cls(full, texts, {}, {})
        return cls(full, texts, *map(sample._counts, (scan.EditSettings(), ALL_LINES)))

    def _counts(self, edits: scan.EditSettings) -> Columns:
        signals = [s for _, s in self.signals(scan.ScanSettings(edits=edits))]
        return {name: np.concatenate([s.column(name).to_numpy() for s in signals]) for name in SIGNAL_COUNTS}


def dropped(filter_: Any, texts: Sequence[str]) -> np.ndarray:
    """bool [n]: what a datatrove filter drops."""
    from datatrove.data import Document

    found = []
    for i, text in enumerate(texts):
        try:
            result = filter_.filter(Document(text=text, id=str(i)))
        except (ZeroDivisionError, ValueError):
            result = False  # it divides by the words of a document that has none
        found.append(not (result[0] if isinstance(result, tuple) else result))
    return np.array(found, bool)


def at_thresholds(part: str, sample: Sample, limits: Mapping[Rule, float]) -> Iterator[Agreed]:
    """Every rule alone, every filter whole, and all filters."""
    from datatrove.pipeline import filters

    n = len(sample.texts)
    every = [np.zeros(n, bool), np.zeros(n, bool)]
    for family in FAMILIES:
        own = {rule: limit for rule, limit in limits.items() if rule.family == family}
        for rule, limit in own.items():
            theirs = dropped(filter_of(filters, family, {rule: limit}), sample.texts)
            yield Agreed.of(part, f"{family}: {rule.name}", theirs, rule.drops(sample.columns, limit))
        if own:
            theirs = dropped(filter_of(filters, family, own), sample.texts)
            cuts = any(rule.signal == "c4_sentences" for rule in own)
            columns = sample.c4 if cuts else sample.columns
            ours = np.logical_or.reduce([rule.drops(columns, limit) for rule, limit in own.items()])
            every = [a | b for a, b in zip(every, (theirs, ours), strict=True)]
            yield Agreed.of(part, f"{family}: the whole filter", theirs, ours)
    yield Agreed.of(part, "all filters", *every)


def one_word_rule(part: str, sample: Sample) -> Iterator[Agreed]:
    """fox1's steps of datatrove's names against datatrove's own."""
    from datatrove.pipeline import filters
    from fox1.datatrove.pipeline import filters as ours

    for family in FAMILIES:
        own = {rule: rule.paper for rule in RULES if rule.family == family}
        both = [
            dropped(filter_of(package, family, own, WhiteSpaceWords()), sample.texts) for package in (filters, ours)
        ]
        yield Agreed.of(part, f"{family}: the whole filter", *both)


def c4_edits(part: str, sample: Sample) -> Iterator[Agreed]:
    """Documents whose lines either side cuts, and the lines."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    rule = next(rule for rule in RULES if rule.family == C4 and rule.signal == "c4_sentences")
    theirs = C4QualityFilter(**{**C4_OFF, **rule.arguments(5), "min_num_sentences": -1})
    ours = sample.edited(ALL_LINES)
    cut: list[tuple[bool, bool, bool]] = []
    lines: list[tuple[bool, bool]] = []
    for text, mine in zip(sample.texts, ours, strict=True):
        document = Document(text=text, id="")
        theirs.filter(document)
        whole, left, kept = (Counter(_lines(t)) for t in (text, document.text, mine))
        gone = whole - left, whole - kept
        cut.append((left != whole, kept != whole, left == kept))
        both, rest = gone[0] & gone[1], whole - gone[0] - gone[1]
        lines += [(True, True)] * both.total() + [(True, False)] * (gone[0] - both).total()
        lines += [(False, True)] * (gone[1] - both).total() + [(False, False)] * rest.total()
    documents, of_lines = np.array(cut, bool).T, np.array(lines, bool).reshape(-1, 2).T
    yield Agreed.of(part, "c4: documents with a line cut or changed", documents[0], documents[1])
    yield Agreed.of(part, "c4: lines cut or changed", *of_lines)
    same = float(documents[2].mean())
    yield Agreed(part, "c4: the same text afterwards", int(documents[2].sum()), 0, 0, None, round(same, 4))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def by_url(part: str, sample: Sample, lists: Sequence[str]) -> Iterator[Agreed]:
    """The lists of the recipe, as datatrove takes them."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import URLFilter

    entries = [e for name in lists for line in Path(name).read_text().splitlines() if (e := line.split("#")[0].strip())]
    rules = urls.parse_rules(entries)
    domains, words = ([e for e in entries if ("." in e) is dotted] for dotted in (True, False))
    theirs = URLFilter(
        use_integrated_lists=False, extra_domains=domains, banned_words=words or None, soft_word_threshold=1 << 30
    )
    every = [u for _, b in sample.batches for u in b.column("url").to_pylist()]
    there = [u for u in every if u]
    ours = urls.blocked(pa.array(there, pa.string()), rules) > 0
    verdicts = [theirs.filter(Document(text="", id="", metadata={"url": u})) for u in there]
    both = np.array([not (v[0] if isinstance(v, tuple) else v) for v in verdicts], bool)
    yield Agreed.of(part, f"URL: the recipe's list, {len(there):,} addresses", both, ours)


def personal(part: str, sample: Sample) -> Iterator[Agreed]:
    """E-mail and IP addresses; the same placeholders on both sides."""
    from datatrove.pipeline.formatters import PIIFormatter

    for kind, replacement in (("email", "email_replacement"), ("ip", "ip_replacement")):
        asked = {"remove_emails": kind == "email", "remove_ips": kind == "ip", replacement: "<replaced>"}
        theirs = [PIIFormatter(**asked).format(text) for text in sample.texts]
        ours = sample.edited(scan.EditSettings(pii=((kind, "<replaced>"),)))
        changed = [np.array([a != b for a, b in zip(t, sample.texts, strict=True)], bool) for t in (theirs, ours)]
        yield Agreed.of(part, f"personal data: {kind}, documents with any", *changed)
        same = np.array([a == b for a, b in zip(theirs, ours, strict=True)], bool)
        share = round(float(same.mean()), 4)
        yield Agreed(part, f"personal data: {kind}, the same text", int(same.sum()), 0, 0, None, share)


def by_language(part: str, sample: Sample, lid: str) -> Iterator[Agreed]:
    """Documents that are not English: of fox1 those of another language, of the other side those below datatrove's 0.65."""
    text, offsets = text_buffers(pa.array(sample.texts, pa.large_string()))
    names = np.array([*language.load_model().languages, language.UNDETERMINED])
    best, confidence = language.identify(text, offsets)
    english = names[best] == "en"
    if lid:
        from fox1.pipeline.prepare.classifiers import read_classifier
        from fox1.pipeline.signals import fasttext
        from fox1.pipeline.signals.scores import ScoreSettings

        asked = ScoreSettings("language", lid, (("en", 1.0),))
        scores = fasttext.score(read_classifier(asked).classifier, text, offsets, np.zeros(len(sample.texts), bool))
        sure = english & (confidence > 6500)
        yield Agreed.of(part, "language: not English at 0.65, by fastText", ~(scores > 0.65), ~sure)
        return
    import py3langid

    found = np.array([py3langid.classify(t)[0] == "en" for t in sample.texts], bool)
    yield Agreed.of(part, "language: not English, by py3langid", ~found, ~english)


def main() -> None:
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split(":")[0].split()))
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--megabytes", type=float, default=15.0)
    parser.add_argument("--lid", default="", help="fastText's language model, as datatrove downloads it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    recipe, _ = load_recipe(options.recipe)
    settings = curate_settings(recipe)
    files = list_sources(settings.sources)
    sample = Sample.of(stratified([(f, b) for f in files for b in read_rows(f, Quarantine(f))], options.megabytes, 2))
    thresholds = {t.key: t.value for where in ("all", "web") for t in counting(recipe, where) if t.value is not None}
    chosen = {rule: float(thresholds[rule.key]) for rule in RULES if rule.key in thresholds}
    print(f"{len(sample.texts):,} documents")
    found: list[Agreed] = []
    for part, comparison in (
        ("paper", at_thresholds("paper", sample, {rule: rule.paper for rule in RULES})),
        ("recipe", at_thresholds("recipe", sample, chosen)),
        ("one word rule", one_word_rule("one word rule", sample)),
        ("others", c4_edits("others", sample)),
        ("others", by_url("others", sample, settings.url_lists)),
        ("others", personal("others", sample)),
        ("others", by_language("others", sample, options.lid)),
    ):
        if not found or found[-1].part != part:
            print(f"\n{part}\n{HEADER}")
        for agreed in comparison:
            found.append(agreed)
            print(agreed, flush=True)
    rows = [vars(agreed) for agreed in found]
    if options.out:
        options.out.write_text(json.dumps({"documents": len(sample.texts), "rules": rows}, indent=1) + "\n")
    alike = {f"{a.part}: {a.rule}": a.alike for a in found if a.rule == "all filters" or a.part == "one word rule"}
    print(json.dumps({"documents": len(sample.texts), "alike": alike}))


if __name__ == "__main__":
    main()
