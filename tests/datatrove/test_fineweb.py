"""FineWeb's script as a recipe: datatrove's own steps and `fineweb.yaml` on the same documents."""

from __future__ import annotations

import ctypes.util
import importlib.util
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline import filters as theirs
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from fox1.datatrove.pipeline.filters import LanguageFilter

from tests.conftest import as_set, run_command

MISSING = [name for name in ("warcio", "cchardet", "magic", "trafilatura") if importlib.util.find_spec(name) is None]
# python-magic is a door to a library of the system.
MISSING += [] if ctypes.util.find_library("magic") else ["libmagic"]
installed = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra `warc`)")

NOUNS = """ferry river lantern market bridge garden letter winter harbour mountain kitchen carpenter teacher orchard railway
island window harvest journey village storm engine library painter meadow doctor festival road museum valley""".split()
VERBS = """crossed repaired watched described carried followed remembered painted opened closed measured reached left found
visited praised feared sold bought kept""".split()
SMALL = [
    "quiet",
    "old",
    "narrow",
    "bright",
    "heavy",
    "famous",
    "distant",
    "wooden",
    "careful",
    "early",
    "late",
    "small",
]


def sentence(draw: random.Random) -> str:
    one, two, three = draw.sample(NOUNS, 3)
    return (
        f"The {draw.choice(SMALL)} {one} {draw.choice(VERBS)} the {two} and {draw.choice(VERBS)} it with the "
        f"{draw.choice(SMALL)} {three} of {draw.randint(1700, 2020)}."
    )


def article(seed: int, lines: int = 5) -> str:
    draw = random.Random(seed)
    return "\n".join(" ".join(sentence(draw) for _ in range(draw.randint(2, 4))) for _ in range(lines))


ARTICLES, COPIES = 12, 3
PAIRS = [(ARTICLES + n, n) for n in range(COPIES)]
PAIRS += [(ARTICLES + COPIES + 2 * n + 1, ARTICLES + COPIES + 2 * n) for n in range(COPIES)]
"""Places of documents with their copies, exact ones and near ones."""


def written() -> list[dict[str, str]]:
    """Documents of which every step drops some, exact and near copies among them."""
    found = [(article(n), f"https://site{n}.example.org/a/{n}.html") for n in range(ARTICLES)]
    found += [(article(n), f"https://copy.example.org/{n}.html") for n in range(COPIES)]
    # One sentence of a long article is another: near copies.
    for n in range(500, 500 + COPIES):
        words = article(n, 10).split(" ")
        words[5:8] = ["lantern", "boat", "quay"]
        found += [(article(n, 10), f"https://long.example.org/{n}"), (" ".join(words), f"https://near.example.org/{n}")]
    odd = [
        (article(60), "https://www.blocked.example.org/x"),
        (article(61), "http://example.org/free-xxx-teen-sex-videos"),
        ("Das Schiff fuhr über den Fluss und kam vor der Nacht zurück in den alten Hafen. " * 12, "https://e.org/de"),
        ("Le bateau a traversé la rivière et il est revenu au port avant la nuit tombée. " * 12, "https://e.org/fr"),
        ("Too short a page.", "https://e.org/short"),
        (" ".join(sentence(random.Random(n)) for n in (70, 71)), "https://e.org/two"),
        ("The same line comes again and again.\n" * 40, "https://e.org/same"),
        (" ".join(["the river and the bridge"] * 60), "https://e.org/grams"),
        ("\n".join(f"- {word}" for word in NOUNS * 3), "https://e.org/list"),
        (article(62) + "\nLorem ipsum dolor sit amet, the page is not ready yet.", "https://e.org/lorem"),
        (article(63) + "\nif (a) { return of the page to the reader; }", "https://e.org/curly"),
        (article(64) + "\nPlease enable JavaScript to see all of the page here.", "https://e.org/script"),
        (article(65) + "\nWe use cookies to make the page better for all readers.", "https://e.org/cookies"),
        (article(66).replace(".", ","), "https://e.org/comma"),
        ("\n".join(article(67, 12).replace(".", " ").split(" ")), "https://e.org/lines"),
        ("# " * 60 + article(68, 1), "https://e.org/hash"),
        (
            article(69) + "\nWrite to the captain at old.captain@harbour.org or to 8.8.8.8 for the times.",
            "https://e.org/mail",
        ),
    ]
    return [{"id": f"d{n}", "text": text, "url": url} for n, (text, url) in enumerate([*found, *odd])]


URLS: dict[str, Any] = {
    "use_integrated_lists": False,
    "extra_domains": ["blocked.example.org"],
    "banned_subwords": ["xxx"],
}
"""Lists of our own: those of datatrove's package take it ten seconds to read."""


def steps() -> dict[str, BaseFilter]:
    """The script's filters, by the names that the recipe gives them. Language by the model of the recipe."""
    return {
        "url_filter": theirs.URLFilter(**URLS),
        "language": LanguageFilter(["en"]),
        "gopher_repetition": theirs.GopherRepetitionFilter(),
        "gopher_quality": theirs.GopherQualityFilter(),
        "c4": theirs.C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb_quality": theirs.FineWebQualityFilter(),
    }


def after_steps(documents: list[Document]) -> dict[str, tuple[str, str, str]]:
    """By id the text, and the step and the reason that dropped it, of datatrove's steps."""
    found = {}
    pipeline = steps()
    for document in documents:
        by, why = "", ""
        for name, step in pipeline.items():
            before = document.text
            kept, reason = get_filter_result(step.filter(document))
            if not kept:
                by, why, document.text = name, reason or "", before
                break
        found[document.id] = (document.text, by, why)
    return found


def deduped(folder: Path, documents: list[dict[str, str]]) -> set[str]:
    """Ids of what the script's four jobs of dedupe leave."""
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "0.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    config = MinhashConfig(
        hash_config=HashConfig(precision=64, hash_fc="sha1"), num_buckets=14, hashes_per_bucket=8, n_grams=5
    )
    reader, place = JsonlReader(str(folder / "in")), str(folder)
    for pipeline, tasks in (
        ([reader, MinhashDedupSignature(f"{place}/signatures", config)], 1),
        ([MinhashDedupBuckets(f"{place}/signatures", f"{place}/buckets", config=config)], 14),
        ([MinhashDedupCluster(f"{place}/buckets", f"{place}/remove", config=config)], 1),
        (
            [
                reader,
                MinhashDedupFilter(f"{place}/remove"),
                PIIFormatter(),
                JsonlWriter(f"{place}/out", compression=None),
            ],
            1,
        ),
    ):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{place}/logs/{id(pipeline)}").run()
    return {json.loads(line)["id"] for file in (folder / "out").iterdir() for line in file.read_text().splitlines()}


SMALL_RUN = (
    f"before_scan.url_filter.arguments={json.dumps(URLS)}",
    "tokenizer.model=''",
    "tokenizer.vocab_size=400",
    "phases.phase1={tokens: 10K, weights: [{corpus: crawl, weight: 1}], blocks: [{length: 256}]}",
    "training.size=small",
    "training.sizes.small={model: {layers: 1, hidden: 32, intermediate: 32, heads: 1, kv_heads: 1, head_dim: 32}, "
    "batch_tokens: {phase1: 2Ki}, micro_batch_tokens: 2Ki, optimizer: {learning_rate: 0.1}, schedule: {warmup_steps: 2}}",
)


def decided(run: Path) -> dict[int, dict[str, Any]]:
    """By row what the recipe decided, with what the steps said and left."""
    (decisions,), (texts,) = (sorted((run / part).rglob("*.parquet")) for part in ("decisions", "extracted"))
    tables = pq.read_table(decisions).to_pylist(), pq.read_table(texts).to_pylist()
    return {d["row"]: {**d, **e} for d, e in zip(*tables, strict=True)}


def test_the_recipe_decides_as_the_script_but_for_verified_dedupe(tmp_path: Path) -> None:
    given = written()
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl" / "a.jsonl").write_text("".join(json.dumps(d) + "\n" for d in given))
    source = f"sources.crawl={{root: {tmp_path}/crawl, domain: web, format: huggingface, files: ['*']}}"
    changes = as_set(*SMALL_RUN, source, "before_scan.trafilatura=null", "max_bad_rows=0")
    done = run_command("curate", "fineweb", "--out", tmp_path / "run", "--in-process", *changes)
    assert done.returncode == 0, done.stderr

    said = after_steps([Document(d["text"], d["id"], metadata={"url": d["url"]}) for d in given])
    ours = decided(tmp_path / "run")
    found = {
        d["id"]: (ours[n]["text"], ours[n]["before_scan"], ours[n]["before_scan_reason"]) for n, d in enumerate(given)
    }
    assert found == said
    # Every step has something to say.
    assert set(Counter(by for _, by, _ in said.values())) == {"", *steps()}
    assert "javascript" not in "".join(text for text, by, _ in said.values() if not by).lower()

    left = [d | {"text": said[d["id"]][0]} for d in given if not said[d["id"]][1]]
    kept = deduped(tmp_path / "theirs", left)
    own = {d["id"] for n, d in enumerate(given) if ours[n]["kept"]}
    # Of the same documents as many stay, of each pair of copies one; which one it is, another order says.
    names = {n: d["id"] for n, d in enumerate(given)}
    pairs = {names[n]: names[o["duplicate_of"] & (1 << 26) - 1] for n, o in ours.items() if o["duplicate_of"]}
    there = {d["id"] for d in left}
    planted = {frozenset((names[a], names[b])) for a, b in PAIRS if {names[a], names[b]} <= there}
    assert {frozenset(pair) for pair in pairs.items()} == planted and len(planted) > COPIES
    assert len(own) == len(kept) == len(left) - len(planted) and own ^ kept <= {*pairs, *pairs.values()}
    assert all((copy in kept) != (stays in kept) for copy, stays in pairs.items())

    done = run_command("dump", tmp_path / "run", tmp_path / "dump", "--in-process")
    assert done.returncode == 0, done.stderr
    texts = pa.concat_tables([pq.read_table(p) for p in (tmp_path / "dump").rglob("*.parquet")])
    written_to = next(t for t in texts["text"].to_pylist() if "Write to the captain" in t)
    assert "old.captain@harbour.org" not in written_to and "8.8.8.8" not in written_to
    assert texts.num_rows == len(own)
    # The other way round, as docs/datatrove.md has it.
    place = str(tmp_path / "dump")
    reader = ParquetReader(place, glob_pattern="*/*.parquet", id_key="doc_id")
    LocalPipelineExecutor(
        [reader, JsonlWriter(f"{place}/out", compression=None)], tasks=1, logging_dir=f"{place}/logs"
    ).run()
    (lines,) = (tmp_path / "dump" / "out").iterdir()
    again = [json.loads(line) for line in lines.read_text().splitlines()]
    assert sorted(d["text"] for d in again) == sorted(texts["text"].to_pylist())
    assert {d["metadata"]["native_id"] for d in again} == own and all(d["metadata"]["language"] == "en" for d in again)


@installed
def test_a_crawl_becomes_texts_as_in_the_script(tmp_path: Path) -> None:
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader
    from warcio.warcwriter import WARCWriter

    given = written()
    folder = tmp_path / "segments" / "1" / "warc"
    folder.mkdir(parents=True)
    with open(folder / "a.warc.gz", "wb") as out:
        writer = WARCWriter(out, gzip=True)
        for document in given:
            body = "".join(f"<p>{line}</p>" for line in document["text"].split("\n"))
            page = f"<html><body><nav>Home | Login</nav><article>{body}</article><footer>Imprint</footer></body></html>"
            headers = {"WARC-Identified-Payload-Type": "text/html"}
            record = writer.create_warc_record(
                document["url"],
                "response",
                io.BytesIO(page.encode()),
                warc_headers_dict=headers,
                http_headers=_headers(),
            )
            writer.write_record(record)
    done = run_command(
        *("curate", "fineweb", "--out", tmp_path / "run", "--in-process", "--stages", "scan", *as_set(*SMALL_RUN)),
        FOX1_CRAWL=str(tmp_path / "segments"),
    )
    assert done.returncode == 0, done.stderr
    extractor = Trafilatura(favour_precision=True, deduplicate=False)
    urls = theirs.URLFilter(**URLS)
    pages = [(d, urls.filter(d)) for d in WarcReader(str(tmp_path / "segments"), glob_pattern="*/warc/*")()]
    for document, kept in pages:
        if kept is True:
            document.text = extractor.extract(document.text) or ""
    said = after_steps([d for d, _ in pages])
    (texts,) = sorted((tmp_path / "run" / "extracted").rglob("*.parquet"))
    found = {
        e["native_id"]: (e["text"], e["before_scan"], e["before_scan_reason"]) for e in pq.read_table(texts).to_pylist()
    }
    assert len(found) == len(given)
    repeated = [i for i in found if found[i] != said[i]]
    # What a page repeats itself, Trafilatura cuts in the recipe as in the script.
    assert all("again and again" in said[i][0] or "the river and the bridge" in said[i][0] for i in repeated)


def _headers() -> Any:
    from warcio.statusandheaders import StatusAndHeaders

    return StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
